"""Every metric that a training run can log, ours and TRL's, as ``candor metrics`` lists them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rich.table import Table

from rl.monitoring.alarms import ALARMS

TABLE_BEGINS = "<!-- training metrics: printed by candor metrics --markdown -->"
TABLE_ENDS = "<!-- end of training metrics -->"
"""The lines between which the README keeps the table."""


@dataclass(frozen=True)
class TrainingMetric:
    """A key of ``metrics.jsonl``, capitals standing for what varies, the methods that log it (``rl``: those
    with rollouts, grpo and ppo; ``supervised``: sft, self_ref, recalibrate and rlsf_dpo; ``dpo``, ``reward``: rlsf_dpo
    and rlsf_reward), and its meaning."""

    key: str
    methods: str
    meaning: str

    def matches(self, key: str) -> bool:
        """Whether a logged key is this one.

        >>> TrainingMetric("rewards/TERM/mean", "rl", "").matches("rewards/brier/mean")
        True
        """
        return re.fullmatch(re.sub(r"\b[A-Z]+\b", "[^/]+", re.escape(self.key)), key) is not None


_ROWS = """
step | all | updates made so far
epoch | all | passes over the training set so far
loss | all | loss of the update; a policy gradient's is no measure of progress
grad_norm | all | norm of the gradient before clipping
learning_rate | all | of this update
num_tokens | all | tokens seen so far, prompts included
entropy | all | mean entropy of the policy over the tokens trained on, nats
step_time | rl | seconds of a step but for the optimizer, as TRL measures it
time/generate | rl | seconds of a step spent on sampling
time/score | rl | seconds on parsing, verifying, signals and reward terms
time/update | rl | seconds on the rest but the optimizer: reference log-probabilities, forward, backward
reward | rl | mean weighted sum of the terms
reward_std | rl | its standard deviation over the batch
frac_reward_zero_std | rl | share of completions in groups whose weighted sums are all alike
rewards/TERM/mean | rl | mean of a reward term before its weight, over the completions that it could judge
rewards/TERM/std | rl | its standard deviation over the batch
advantages/TERM/zero_share | grpo | share of completions without an advantage by a term: siblings level, or unjudged
advantages/uniform_group_ratio | grpo | mean size of advantages in groups all right or all wrong, by that over the batch
groups/all_right | rl | share of groups of which every completion was judged right
groups/all_wrong | rl | share of groups of which every completion was judged wrong
calibration/accuracy | rl | share of right answers among the judged, of the sampled batch as all of these
calibration/brier | rl | mean squared distance of confidence and correctness; an unparsed confidence counts as 0
calibration/ece | rl | expected calibration error, 10 equal-width bins
calibration/auroc | rl | how well confidence ranks right above wrong answers; null where all are right or all wrong
calibration/mean_confidence | rl | mean of the confidences that were read
calibration/confidence_std | rl | their standard deviation
calibration/distinct_confidences | rl | number of different confidences stated in the batch
calibration/confidence_entropy | rl | entropy of the policy at the tokens of the confidence, nats, temperature-scaled
calibration/low_confidence_share | rl | share of judged answers with a confidence below .5
calibration/low_confidence_accuracy | rl | share of right answers among those
parse/ok | rl | share of completions that follow the template
parse/unparsed_confidence | rl | share without a confidence that could be read
parse/truncated | rl | share cut off at the length limit
parse/truncated_unparsed | rl | share cut off before the confidence
parse/non_answer | rl | share that decline to answer or have no answer field
verify/unjudged | rl | share that the verifier could not judge; they enter no mean
confidence_loss | rl | closed-form calibration loss a completion, before trainer.confidence_loss_weight
calibration/level_mass | rl | closed form: probability of all levels together at the token that states one
drift/answer_log_ratio | rl | log-probability of an answer less that by the reference, nats, where beta is above 0
drift/answers_moved | rl | share of answers whose probability has moved by more than a factor of two since the reference
grad_norm/correctness | rl | gradient norm of the terms without the confidence, every trainer.gradient_norm_steps
grad_norm/calibration | rl | of the terms of the confidence, sampled or in closed form
grad_norm/kl | rl | of beta times the KL, where it is in the loss
completions/mean_length | rl | tokens of a completion; min_length and max_length likewise
completions/min_length | rl | shortest
completions/max_length | rl | longest
completions/clipped_ratio | rl | share of completions that reached max_completion_length
completions/mean_terminated_length | rl | tokens of those that did not; min_ and max_ likewise
completions/min_terminated_length | rl | shortest of those
completions/max_terminated_length | rl | longest of those
kl | rl | divergence from the reference policy per token, where beta is above 0; under kl_in_reward the mean log-ratio
clip_ratio/BOUND | rl | share of tokens whose ratio was clipped: low_mean low_min high_mean high_max region_mean
cispo_clip_ratio | rl | the same under loss_type cispo
vespo/phi_seq_mean | rl | mean weight of a sequence under loss_type vespo
policy_loss | rl | loss without the entropy bonus, where trainer.entropy_coef is set
entropy_coef | rl | weight of that bonus at this step
aux_loss | all | load-balancing loss of a mixture of experts
sampling/QUANTITY/STATISTIC | rl | how far vLLM's log-probabilities are from the trainer's
filter/kept | rl | share of completions in groups that are neither all right nor all wrong, under trainer.group_filter
difficulty/NAME | rl | share of prompts of each difficulty, under trainer.difficulty_mix: hard medium easy unmeasured
approx_kl | ppo | divergence of the policy from the one that sampled (k3), per token; 0 in the first pass over a rollout
value/loss | ppo | half the squared error of the values, clipped, mean over credited tokens and streams
value/mean | ppo | what the critic expected, before the update
value/return | ppo | the return that it is trained on
value/explained_variance | ppo | share of the returns' variance that the values explain, about each stream's own mean
value/clip_ratio | ppo | share of values that moved beyond trainer.clip_range_value
mean_token_accuracy | supervised | share of tokens that the policy ranks first, of the preferred answers under DPO
rewards/chosen | dpo | beta times the log-probability of the chosen answer less that by the reference
rewards/rejected | dpo | the same of the rejected answer
rewards/accuracies | dpo | share of pairs in which that is larger for the chosen one
rewards/margins | dpo | by how much it is larger
logps/SIDE | dpo | log-probability of the chosen or rejected answer, nats
logits/SIDE | dpo | mean logit over the tokens of the chosen or rejected answer
accuracy | reward | share of pairs whose chosen answer the reward model puts higher
margin | reward | by how much it does
mean_reward | reward | mean of what it says; min_reward and max_reward likewise
min_reward | reward | lowest of the batch
max_reward | reward | highest of the batch
heldout/accuracy | all | share of right answers on held-out questions, greedy, every probe.every steps
heldout/brier | all | mean squared distance of confidence and correctness on them
heldout/ece | all | expected calibration error on them
heldout/auroc | all | how well confidence ranks right above wrong answers on them
heldout/unparsed | all | share of them without a confidence that could be read
alarms/ALARM | rl | 1 while an alarm is seen, else 0: {alarms}
train_runtime | all | last record: seconds since the run was started or resumed; the next four likewise
train_samples_per_second | all | last record
train_steps_per_second | all | last record
total_flos | all | last record: floating-point operations, as transformers counts them
""".format(alarms=", ".join(ALARMS))

TRAINING_METRICS = tuple(
    TrainingMetric(*(part.strip() for part in line.split(" | "))) for line in _ROWS.strip().splitlines()
)


def markdown_table() -> str:
    """The glossary as a Markdown table between its two marker lines, without a line break at the end."""
    rows = [f"| `{each.key}` | {each.methods} | {each.meaning} |" for each in TRAINING_METRICS]
    return "\n".join([TABLE_BEGINS, "| key | methods | what |", "| --- | --- | --- |", *rows, TABLE_ENDS])


def metrics_table() -> Table:
    """The glossary for the terminal."""
    table = Table("key", "methods", "what", box=None, header_style="bold")
    for each in TRAINING_METRICS:
        table.add_row(each.key, each.methods, each.meaning)
    return table
