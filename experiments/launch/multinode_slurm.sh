#!/usr/bin/env bash
# One recipe on many nodes under Slurm: accelerate starts on every node, and they meet at the first one.
#
#   sbatch --nodes=8 --gpus-per-node=8 experiments/launch/multinode_slurm.sh candor --out runs/candor trainer.max_steps=500
#
# What follows the script's name is what follows `candor train`; --out must lie on a disk that all nodes share.
# Add --resume after a node failed or the time was up.
#
# Variables, given before sbatch or exported by it:
#   LAUNCH=zero3         accelerate file: ddp, zero2, zero3, zero3_offload beside this script, or a path
#   GPUS_PER_NODE=8      processes on each node; Slurm's --gpus-per-node where it was given
#   MASTER_PORT=29500    free port on the first node
#   CANDOR=$PWD          folder of the checkout, with its .venv if there is one
#   PYTHON=python3       interpreter that has candor installed; $CANDOR/.venv/bin/python where there is one
#SBATCH --job-name=candor
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --output=candor-%j.log
#SBATCH --signal=TERM@120
set -euo pipefail

if [[ $# -eq 0 ]]; then
  echo "usage: sbatch --nodes=N multinode_slurm.sh RECIPE [key=value ...] --out DIR [--resume]" >&2
  exit 2
fi
CANDOR=${CANDOR:-${SLURM_SUBMIT_DIR:-$PWD}}
LAUNCH=${LAUNCH:-zero3}
[[ $LAUNCH == *.yaml ]] || LAUNCH=$CANDOR/experiments/launch/$LAUNCH.yaml
if [[ ! -f $LAUNCH ]]; then
  echo "multinode_slurm.sh: LAUNCH: $LAUNCH: no such file" >&2
  exit 2
fi
GPUS_PER_NODE=${GPUS_PER_NODE:-${SLURM_GPUS_ON_NODE:-8}}
MASTER_PORT=${MASTER_PORT:-29500}
if [[ -z ${PYTHON:-} ]]; then
  if [[ -x $CANDOR/.venv/bin/python ]]; then PYTHON=$CANDOR/.venv/bin/python; else PYTHON=python3; fi
fi
HOSTNAMES=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
MASTER_ADDR=${HOSTNAMES%%$'\n'*}  # not through head, which may end scontrol by SIGPIPE and so this script

# $SLURM_NODEID differs between the nodes, so it is read on each of them; the arguments go through as they are.
# --kill-on-bad-exit: a node that fails ends the others, which would wait for it.
cd "$CANDOR"
exec srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --kill-on-bad-exit=1 \
  bash -c 'exec "$0" -m accelerate.commands.launch --machine_rank "$SLURM_NODEID" "$@"' "$PYTHON" \
  --config_file "$LAUNCH" --num_machines "$SLURM_JOB_NUM_NODES" \
  --num_processes $((SLURM_JOB_NUM_NODES * GPUS_PER_NODE)) \
  --main_process_ip "$MASTER_ADDR" --main_process_port "$MASTER_PORT" \
  -m experiments train "$@"
