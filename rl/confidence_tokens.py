"""Self-REF (arXiv 2410.13284, Algorithm 1): a policy learns to say behind its own answer whether it is right.

Kept: the policy answers its training questions itself; ``<CN>`` goes behind a right answer and ``<UN>`` behind a wrong
one, two new tokens that start as the mean of all others; supervised fine-tuning, whole or by LoRA beside which the
embeddings are trained; of a wrong answer only the token behind it is learnt (and the end), unless asked;
wrong answers are drawn down to a ratio. Changed: the tokens of an answer are those that the policy sampled, never those
of a text encoded again. Dropped: nothing.

The same rows without the marks are plain supervision on the policy's right answers, and with a confidence level in the
place of the mark they restore a stated confidence after reinforcement learning (arXiv 2603.06604, recipe
``recalibrate``).

Overrides of transformers' ``Trainer``, beside those of :mod:`rl.trainer`: ``save_model``.

Launch: ``candor train self_ref``.
"""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peft import LoraConfig, PeftModel
from transformers import AddedToken, PreTrainedModel, PreTrainedTokenizerBase

from rewards.completion import ParsedCompletion
from rewards.template import AnswerTemplate
from rl.checkpoint import whole_parameters
from rl.segments import DecodedCompletion, confidence_token, level_token_ids, tokens_inside
from rl.sft import CalibratedSFTTrainer

IGNORED = -100
"""Label of a token that is not learnt."""
TRAINED_ANSWERS = ("right", "all", "none")


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """What a policy answered to a question, as tokens and as the template reads it, and whether it is right (0 or 1,
    None where it could not be judged)."""

    question: str
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    decoded: DecodedCompletion
    parsed: ParsedCompletion
    correct: float | None


@dataclass(frozen=True, slots=True)
class Example:
    """One row of training: token ids of prompt and completion, and the label of each, -100 where it is not learnt."""

    input_ids: list[int]
    labels: list[int]


def add_marks(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, marks: Sequence[str]) -> list[int]:
    """Make each mark one token that starts as the mean of all tokens before it; return the ids of the marks.

    Input and output table alike, one table where they are tied. Marks that are tokens already stay as they are.
    """
    known = tokenizer.get_vocab()
    new, before = [mark for mark in marks if mark not in known], len(tokenizer)
    if new:
        # Not as special tokens, which decoding would hide from the parser.
        tokenizer.add_tokens([AddedToken(mark, normalized=False) for mark in new])
        size = model.get_input_embeddings().weight.size(0)
        if len(tokenizer) > size:  # a table with room to spare stays as large as it is
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        tables = [model.get_input_embeddings(), model.get_output_embeddings()]
        weights = {id(table.weight): table.weight for table in tables}
        biases = [table.bias for table in tables[1:] if getattr(table, "bias", None) is not None]
        with torch.no_grad(), whole_parameters([*weights.values(), *biases]):
            for values in (*weights.values(), *biases):
                values[tokenizer.convert_tokens_to_ids(new)] = values[:before].mean(dim=0)
    return tokenizer.convert_tokens_to_ids(list(marks))


def with_embeddings(lora: LoraConfig, model: PreTrainedModel) -> LoraConfig:
    """The same adapters with both tables of the vocabulary trained beside them, tied if they are.

    Whole tables, as in the paper: TRL's loss reads the output table past adapters that change some rows of it. Left as
    it is where the recipe says itself what is trained beside the adapters.
    """
    if lora.modules_to_save:
        return lora
    names = {id(module): name.rpartition(".")[2] for name, module in model.named_modules()}
    tables = model.get_input_embeddings(), model.get_output_embeddings()
    tied = tables[0].weight is tables[1].weight
    saved = [names[id(table)] for table in tables]
    return dataclasses.replace(lora, modules_to_save=saved, ensure_weight_tying=tied)


def answer_ids(tokenizer: PreTrainedTokenizerBase, answer: JudgedAnswer) -> list[int] | None:
    """The completion's tokens up to the end of its answer (and analysis); None where no answer was read.

    A token that holds the end and more is cut there and encoded anew, alone.
    """
    if answer.parsed.answer is None:
        return None
    blocks = answer.parsed.blocks
    end = max(blocks[field].end for field in ("answer", "analysis") if field in blocks)
    last = tokens_inside(end - 1, end, answer.decoded)[-1]
    if answer.decoded.ends[last] == end:
        return list(answer.completion_ids[: last + 1])
    whole = tokens_inside(end - 1, end, answer.decoded)[0]
    begins = answer.decoded.ends[whole - 1] if whole else 0
    rest = tokenizer.encode(answer.decoded.text[begins:end], add_special_tokens=False)
    return [*answer.completion_ids[:whole], *rest]


def marked_example(
    tokenizer: PreTrainedTokenizerBase, template: AnswerTemplate, answer: JudgedAnswer, trained_answers: str = "right"
) -> Example | None:
    """Algorithm 1's row: the answer, the mark that its verdict earns, and the end.

    ``trained_answers`` says whose tokens are learnt beside the marks: of "right" answers, of "all", of "none". With a
    template without a confidence there is no mark, and wrong answers make no row. None where there is nothing to learn.
    """
    body = answer_ids(tokenizer, answer)
    if body is None or answer.correct is None:
        return None
    behind = [tokenizer.eos_token_id]
    right = answer.correct == 1.0
    if template.confidence == "token":
        marks = level_token_ids(tokenizer, template.levels)
        behind = [marks[right], *behind]
    elif not right or trained_answers == "none":
        return None
    learnt = trained_answers == "all" or (trained_answers == "right" and right)
    return _example(answer.prompt_ids, body, behind, learnt)


def restated_example(
    tokenizer: PreTrainedTokenizerBase,
    template: AnswerTemplate,
    answer: JudgedAnswer,
    target: float,
    trained_answers: str,
) -> Example | None:
    """The policy's completion with the level nearest to ``target``, in [0, 1], in the place of the one it states.

    Only the level is learnt, and by ``trained_answers`` the rest too; None where the completion states not one level.
    """
    levels = level_token_ids(tokenizer, template.levels)
    place = confidence_token(answer.parsed, answer.decoded, answer.completion_ids, levels)
    if place is None:
        return None
    ids = list(answer.completion_ids)
    nearest = min(range(len(levels)), key=lambda level: abs(template.level_values[level] - target))
    ids[place] = levels[nearest]
    learnt = trained_answers == "all" or (trained_answers == "right" and answer.correct == 1.0)
    labels = ids if learnt else [token if index == place else IGNORED for index, token in enumerate(ids)]
    return Example([*answer.prompt_ids, *ids], [IGNORED] * len(answer.prompt_ids) + list(labels))


def drawn_down(wrong: Sequence[bool], ratio: float | None, seed: int) -> list[bool]:
    """Which rows stay, where at most ``ratio`` wrong answers are wanted for each right one; all where it is None.

    >>> sum(drawn_down([True] * 10 + [False] * 2, ratio=2.0, seed=0))
    6
    """
    rows = [row for row, each in enumerate(wrong) if each]
    most = len(rows) if ratio is None else round(ratio * (len(wrong) - len(rows)))
    kept = set(random.Random(f"marks/{seed}").sample(rows, min(most, len(rows))))
    return [not each or row in kept for row, each in enumerate(wrong)]


def solve_rates(questions: Sequence[str], correct: Sequence[float | None]) -> list[float | None]:
    """Of each answer the share of right ones among all answers to its question, None where none could be judged.

    >>> solve_rates(["a", "a", "b"], [1.0, 0.0, None])
    [0.5, 0.5, None]
    """
    judged: dict[str, list[float]] = {}
    for question, verdict in zip(questions, correct, strict=True):
        judged.setdefault(question, []).extend([] if verdict is None else [verdict])
    return [sum(judged[each]) / len(judged[each]) if judged[each] else None for each in questions]


def _example(prompt_ids: Sequence[int], body: Sequence[int], behind: Sequence[int], learnt: bool) -> Example:
    labels = list(body) if learnt else [IGNORED] * len(body)
    return Example([*prompt_ids, *body, *behind], [*[IGNORED] * len(prompt_ids), *labels, *behind])


class OwnAnswersTrainer(CalibratedSFTTrainer):
    """Supervised training on what the policy has answered itself: rows of ``input_ids`` and ``labels``.

    Adapters are merged into what it saves at the end, which is a whole policy: an adapter alone does not hold the new
    tokens of the vocabulary. Checkpoints on the way hold the adapters, as a resume needs them.
    """

    def save_model(self, output_dir=None, _internal_call=False):
        model = self.accelerator.unwrap_model(self.model)
        if _internal_call or not isinstance(model, PeftModel):
            super().save_model(output_dir, _internal_call)
            return
        with whole_parameters(list(model.parameters()), changed=False):
            if self.args.should_save:
                merged = copy.deepcopy(model).merge_and_unload()
                merged.save_pretrained(output_dir)
                self.processing_class.save_pretrained(output_dir)
        self.accelerator.wait_for_everyone()
