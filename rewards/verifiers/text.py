"""Whether a short answer is the gold text: exact match after normalisation, with aliases, and token F1.

Normalised as SQuAD's evaluation does (arXiv 1606.05250): lower case, no ASCII punctuation, no articles, single spaces.
Where that would leave nothing of a text made of articles ("The Who" keeps "who", "A" would be empty), they stay.

A gold is a plain string or a JSON list of aliases; the closest alias counts. :func:`judge` is the verifier "text": the
normalised texts are equal or not. :func:`judge_token_f1` is the verifier "token_f1": ``correct`` is the F1, and the
reason "partial" says that it is neither 0 nor 1.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from functools import lru_cache

from rewards.verifiers.verifier import BAD_GOLD, DIFFERENT, EQUAL, UNPARSED, Verdict

_ARTICLES = frozenset(("a", "an", "the"))
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_LIST = re.compile(r"\s*\[.*\]\s*", re.DOTALL)


def normalised(text: str) -> str:
    """``text`` in lower case, without ASCII punctuation and articles, its words one space apart.

    >>> normalised("The  Eiffel-Tower, Paris!"), normalised("the A")
    ('eiffeltower paris', 'the a')
    """
    words = text.lower().translate(_PUNCTUATION).split()
    return " ".join([word for word in words if word not in _ARTICLES] or words)


@lru_cache(maxsize=4096)
def read_gold(gold: str) -> tuple[str, ...]:
    """The normalised aliases of a gold, without empty ones; none where the gold cannot be used.

    A text in square brackets that is no JSON list is a plain string; a list that holds anything but strings is
    unusable.

    >>> read_gold("The Beatles"), read_gold('["NYC", "New York City"]'), read_gold("[sic]"), read_gold("[1]")
    (('beatles',), ('nyc', 'new york city'), ('sic',), ())
    """
    aliases: list[object] = [gold]
    if _LIST.fullmatch(gold):
        try:
            aliases = json.loads(gold)
        except (ValueError, RecursionError):
            aliases = [gold]
    names = [normalised(alias) for alias in aliases if isinstance(alias, str)]
    return tuple(dict.fromkeys(filter(None, names))) if len(names) == len(aliases) else ()


def token_f1(gold: str, answer: str) -> float:
    """Harmonic mean of the precision and recall of the answer's words in the gold's, in [0, 1]; the best alias counts.

    Words are those of :func:`normalised`, as often as they occur; 0 where gold or answer has none (arXiv 1606.05250).

    >>> round(token_f1("Barack Obama", "Barack Hussein Obama II"), 4), token_f1('["NYC", "New York"]', "new york")
    (0.6667, 1.0)
    """
    stated = Counter(normalised(answer).split())
    return max((_f1(Counter(alias.split()), stated) for alias in read_gold(gold)), default=0.0)


def _f1(reference: Counter[str], stated: Counter[str]) -> float:
    return 2 * (reference & stated).total() / (reference.total() + stated.total())


def judge(gold: str, answer: str) -> Verdict:
    """Normalised exact match: "equal", "different", "unparsed" (an answer without words) or "bad_gold".

    >>> judge("The Beatles", "beatles."), judge('["NYC", "New York"]', "New York"), judge("Paris", "in Paris").reason
    (Verdict(correct=1.0, reason='equal'), Verdict(correct=1.0, reason='equal'), 'different')
    """
    aliases, stated = read_gold(gold), normalised(answer)
    if not aliases:
        return BAD_GOLD
    if not stated:
        return UNPARSED
    return EQUAL if stated in aliases else DIFFERENT


def judge_token_f1(gold: str, answer: str) -> Verdict:
    """Token F1 as graded correctness: "equal" (1), "partial", "different" (0), "unparsed" or "bad_gold".

    >>> judge_token_f1("Paris", "in Paris").reason, round(judge_token_f1("Paris", "in Paris").correct, 4)
    ('partial', 0.6667)
    """
    if not read_gold(gold):
        return BAD_GOLD
    if not normalised(answer):
        return UNPARSED
    f1 = token_f1(gold, answer)
    return EQUAL if f1 == 1.0 else Verdict(f1, "partial") if f1 else DIFFERENT
