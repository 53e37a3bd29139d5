"""Question sets that are known by name: what their columns are called, where the gold is, what judges it.

Column names are those on the hub. ``read`` turns a row into ``question`` and ``answer``, and as far as the set has
them ``choices`` (then ``answer`` is a letter, or an option's text), ``passages``, ``id``, ``group`` and ``solution`` (a
worked answer, which a warm start may imitate); it raises ValueError for a row that it cannot use. What is drawn at
random is drawn by the row itself, so that it is the same in every run. Licences are those that the sets state
themselves; look at yours before you publish what was trained on one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments.tasks.columns import list_of, text_of, texts_of, value_of
from experiments.tasks.sources import GYM
from rewards.verifiers.choice import LETTERS

Fields = dict[str, Any]
_PASSAGES = (
    "Some passages that matter may be missing. Your answer is judged by exact match: give it in as few words as "
)
_PASSAGES += "you can.\n\n{passages}\n\n{question}"
MOST_MISSING = 2


@dataclass(frozen=True)
class Layout:
    """One set; ``hub`` is where ``task.path`` points if it is left out."""

    hub: str
    read: Callable[[Mapping[str, Any]], Fields]
    verifier: str
    gold: str
    """Where the gold is, in words."""
    licence: str
    splits: Mapping[str, str] = field(default_factory=lambda: {"train": "train", "test": "test"})
    """Our name of a split -> the set's."""
    subset: str | None = None
    prompt: str = "{question}"
    filter: Mapping[str, Any] = field(default_factory=dict)
    held_out: float | None = None
    """Share of the questions that is held out of a set with one split."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The set's name of a split -> its file on the hub, ``{subset}`` filled in, where its name is not the split's."""

    def file_of(self, split: str, subset: str | None) -> str | None:
        """The file of one of the set's splits; None where its name is the split's."""
        return self.files[split].format(subset=subset) if split in self.files else None


def _gsm8k(row: Mapping[str, Any]) -> Fields:
    worked, mark, gold = text_of(value_of(row, "answer"), "answer").rpartition("####")
    if not mark or not gold.strip():
        raise ValueError("the answer does not end in '#### number'")
    return {"question": value_of(row, "question"), "answer": gold.strip(), "solution": worked.strip()}


def boxed(text: str) -> str:
    r"""What stands in the last ``\boxed{}`` of a text. Raises ValueError where there is none that is closed.

    >>> boxed(r"So \boxed{1}, no, $\boxed{\frac{1}{2}}$.")
    '\\frac{1}{2}'
    """
    _, found, rest = text.rpartition(r"\boxed{")
    depth = 1
    for end, character in enumerate(rest if found else ""):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return rest[:end].strip()
    raise ValueError(r"the solution holds no \boxed{} that is closed")


def _math(row: Mapping[str, Any]) -> Fields:
    solution = text_of(value_of(row, "solution"), "solution")
    gold = row["answer"] if "answer" in row else boxed(solution)
    group = row["type"] if "type" in row else row.get("subject")
    return {"question": value_of(row, "problem"), "answer": gold, "solution": solution, "group": group}


def _big_math(row: Mapping[str, Any]) -> Fields:
    return {"question": value_of(row, "problem"), "answer": value_of(row, "answer"), "group": row.get("source")}


def _hotpot(row: Mapping[str, Any]) -> Fields:
    """RLCR's construction (arXiv 2507.16806): two passages left out, none, one or two of them supporting ones."""
    titles = texts_of(value_of(row, "context.title"), "context.title")
    sentences = [list_of(each, "context.sentences") for each in _beside(row, "context.sentences", "context.title")]
    if not all(isinstance(each, str) for passage in sentences for each in passage):
        raise ValueError("context.sentences holds what is not text")
    supporting = texts_of(value_of(row, "supporting_facts.title"), "supporting_facts.title")
    name = text_of(value_of(row, "id"), "id")
    draw = random.Random(f"hotpotqa/{name}")
    number = range(len(titles))
    needed = [each for each in number if titles[each] in supporting]
    others = [each for each in number if titles[each] not in supporting]
    missing = min(draw.randrange(MOST_MISSING + 1), len(needed))
    left_out = {*draw.sample(needed, missing), *draw.sample(others, min(MOST_MISSING - missing, len(others)))}
    passages = [f"{titles[each]}: {''.join(sentences[each]).strip()}" for each in number if each not in left_out]
    fields = {"question": value_of(row, "question"), "answer": value_of(row, "answer"), "id": name}
    return fields | {"passages": "\n\n".join(passages), "group": f"{missing} missing"}


def _beside(row: Mapping[str, Any], column: str, other: str) -> list[Any]:
    """The list of a column that has a place for each of another's. Raises ValueError where it has not."""
    values, others = list_of(value_of(row, column), column), list_of(value_of(row, other), other)
    if len(values) != len(others):
        raise ValueError(f"{column} has {len(values)} and {other} {len(others)}, expected as many")
    return values


def _letter(place: int) -> str:
    """The letter of the option in a place from 0. Raises ValueError where there are not so many letters."""
    if place >= len(LETTERS):
        raise ValueError(f"the right option is number {place + 1}, expected one of the first {len(LETTERS)}")
    return LETTERS[place]


def _trivia(row: Mapping[str, Any]) -> Fields:
    value = text_of(value_of(row, "answer.value"), "answer.value")
    others = [each for each in list_of(value_of(row, "answer.aliases"), "answer.aliases") if each != ""]
    aliases = list(dict.fromkeys([value, *texts_of(others, "answer.aliases")]))
    return {"question": value_of(row, "question"), "answer": aliases, "id": row.get("question_id")}


def _simple(row: Mapping[str, Any]) -> Fields:
    return {"question": value_of(row, "problem"), "answer": value_of(row, "answer")}


def _labelled(question: str) -> Callable[[Mapping[str, Any]], Fields]:
    """Options as ``choices.text`` beside ``choices.label``, the right label in ``answerKey``."""

    def read(row: Mapping[str, Any]) -> Fields:
        labels, key = list_of(value_of(row, "choices.label"), "choices.label"), value_of(row, "answerKey")
        if key not in labels:
            raise ValueError(f"answerKey is {key!r}, which is none of {', '.join(map(str, labels))}")
        fields = {"question": value_of(row, question), "choices": _beside(row, "choices.text", "choices.label")}
        return fields | {"answer": _letter(labels.index(key)), "id": row.get("id")}

    return read


def _mmlu(row: Mapping[str, Any]) -> Fields:
    choices, number = list_of(value_of(row, "choices"), "choices"), value_of(row, "answer")
    if not str(number).isdecimal() or int(number) >= len(choices):
        raise ValueError(f"answer is {number!r}, expected the number of one of {len(choices)} choices, from 0")
    fields = {"question": value_of(row, "question"), "choices": choices, "group": row.get("subject")}
    return fields | {"answer": _letter(int(number))}


def _med(row: Mapping[str, Any]) -> Fields:
    options, key = value_of(row, "options"), value_of(row, "answer_idx")
    if not isinstance(options, Mapping):
        raise ValueError(f"options is {options!r}, expected a mapping of letters to texts")
    letters = sorted(letter for letter, option in options.items() if option is not None)  # parquet fills up with None
    if key not in letters:
        raise ValueError(f"answer_idx is {key!r}, which is none of {', '.join(letters)}")
    fields = {"question": value_of(row, "question"), "choices": [options[each] for each in letters]}
    return fields | {"answer": _letter(letters.index(key)), "group": row.get("meta_info")}


def _gpqa(row: Mapping[str, Any]) -> Fields:
    right = text_of(value_of(row, "Correct Answer"), "Correct Answer").strip()
    choices = [right, *(text_of(value_of(row, f"Incorrect Answer {n}"), "an answer").strip() for n in (1, 2, 3))]
    question = text_of(value_of(row, "Question"), "Question")
    random.Random(f"gpqa/{question}").shuffle(choices)
    fields = {"question": question, "choices": choices, "answer": LETTERS[choices.index(right)]}
    return fields | {"id": row.get("Record ID"), "group": row.get("High-level domain")}


def _gym(row: Mapping[str, Any]) -> Fields:
    metadata = row.get("metadata")
    group = metadata.get("source_dataset") if isinstance(metadata, Mapping) else None
    return {"question": value_of(row, "question"), "answer": value_of(row, "answer"), "group": group}


_VALIDATED = {"train": "train", "validation": "validation", "test": "test"}
_TO_VALIDATION = {"train": "train", "test": "validation"}
_ONE = {"train": "train", "test": "train"}

LAYOUTS: dict[str, Layout] = {
    "gsm8k": Layout(
        "openai/gsm8k", _gsm8k, "math", "the number after #### in answer", "MIT", subset="main"
    ),
    "math": Layout(
        "DigitalLearningGmbH/MATH-lighteval", _math, "math", r"answer, or the last \boxed{} in solution", "MIT"
    ),
    "big_math_digits": Layout(
        "SynthLabsAI/Big-Math-RL-Verified", _big_math, "math", "answer, numbers alone", "Apache-2.0", splits=_ONE,
        # RLCR's choice: what Llama-8B solves at times, so that difficulty varies (arXiv 2507.16806).
        filter={"answer": {"number": True}, "llama8b_solve_rate": {"above": 0, "below": 0.75}}, held_out=0.02,
    ),
    "hotpotqa": Layout(
        "hotpotqa/hotpot_qa", _hotpot, "text", "answer", "CC BY-SA 4.0", splits=_TO_VALIDATION, subset="distractor",
        prompt=_PASSAGES, filter={"passages": {"max_chars": 6000}},
    ),
    "triviaqa": Layout(
        "mandarjoshi/trivia_qa", _trivia, "text", "answer.value and answer.aliases", "none stated",
        splits=_TO_VALIDATION, subset="rc.nocontext",
    ),
    "simpleqa": Layout(
        "basicv8vc/SimpleQA", _simple, "text", "answer", "MIT", splits={"test": "test"},
        files={"test": "simple_qa_test_set.csv"},
    ),
    "commonsenseqa": Layout(
        "tau/commonsense_qa", _labelled("question"), "choice", "answerKey, hidden in the set's own test", "MIT",
        splits=_TO_VALIDATION,
    ),
    "mmlu": Layout(
        "cais/mmlu", _mmlu, "choice", "answer, the number of a choice", "MIT",
        splits={"train": "auxiliary_train", "validation": "validation", "test": "test"}, subset="all",
    ),
    "openbookqa": Layout(
        "allenai/openbookqa", _labelled("question_stem"), "choice", "answerKey", "none stated", splits=_VALIDATED,
        subset="main",
    ),
    "medqa": Layout(
        "GBaker/MedQA-USMLE-4-options", _med, "choice", "answer_idx", "CC BY 4.0",
        files={"train": "phrases_no_exclude_train.jsonl", "test": "phrases_no_exclude_test.jsonl"},
    ),
    "gpqa": Layout(
        "Idavidrein/gpqa", _gpqa, "choice", "Correct Answer; the options are shuffled by the question", "CC BY 4.0",
        splits={"test": "train"}, subset="gpqa_diamond", files={"train": "{subset}.csv"},
    ),
    "reasoning_gym": Layout(
        GYM, _gym, "math", "answer", "Apache-2.0", splits=_VALIDATED, subset="chain_sum"
    ),
}  # fmt: skip
"""Name in ``task.layout`` -> the set. ``reasoning-gym`` is a package that writes questions, not a place on the hub."""
