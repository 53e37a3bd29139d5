r"""How well wrong answers are told among those that a policy is sure of, with and without what its corpus says.

    candor corpus facts --out runs/facts/corpus.jsonl
    candor corpus build runs/facts/corpus.jsonl --out runs/facts/index
    candor probe tiny-facts --recipe facts estimators.corpus_pair.index=runs/facts/index --out runs/facts/probe
    python tests/benchmarks/corpus_signal.py runs/facts/probe/records.parquet

Answers stated with a confidence of at least .9 count; one that declines to answer claims nothing and does not. AUROC of
right over wrong, ties half, by the expected confidence alone, by the corpus pair alone, and by the confidence with
the trigger, under which an answer that never stands beside the entity asked about is of no confidence. Intervals are
95%, bootstrap over the people asked about; the difference is paired.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from estimators.metrics.resampling import bootstrap, paired_difference
from estimators.metrics.selective import CONFIDENT, auroc
from experiments.tasks.biographies import UNKNOWN

METHOD = "checkpoint"


def compared(records: pd.DataFrame) -> pd.DataFrame:
    """One row an answer stated with confidence: ``without``, ``pair`` and ``with`` to rank by, ``correct``, ``who``."""
    by_method = {name: rows.set_index("question_id") for name, rows in records.groupby("method")}
    own, pair, stated = (by_method[METHOD + ending] for ending in ("", "_corpus_pair", "_verbalized"))
    # Records hold ranks of counts: the lowest is that of an answer which stands beside nobody.
    unseen = pair["confidence"] <= pair.loc[pair["parsed"], "confidence"].min()
    frame = pd.DataFrame(
        {
            "without": own["confidence"],
            "pair": pair["confidence"],
            "with": own["confidence"].mask(unseen, 0.0),
            "correct": own["correct"],
            "who": [each.partition("/")[0] for each in own.index],
        }
    )
    return frame[(own["answer"] != UNKNOWN) & (stated["confidence"] >= CONFIDENT)].dropna()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path)
    frame = compared(pd.read_parquet(parser.parse_args().records))
    correct, who = frame["correct"], frame["who"].to_numpy()
    print(f"{len(frame)} confident answers about {frame['who'].nunique()} people, {correct.mean():.3f} of them right")
    for name in ("without", "pair", "with"):
        told = bootstrap(auroc, frame[name], correct, groups=who)
        print(f"{name:8} AUROC {told.value:.3f} ({told.low:.3f}-{told.high:.3f})")
    gain = paired_difference(auroc, [frame["with"], correct], [frame["without"], correct], groups=who)
    print(f"gain     {gain.value:.3f} ({gain.low:.3f}-{gain.high:.3f})")


if __name__ == "__main__":
    main()
