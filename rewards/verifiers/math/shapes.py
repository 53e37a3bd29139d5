r"""Equality of what expressions stand in: lists, sets, tuples, intervals, unions, matrices, equations, inequalities.

The structure is read here, from LaTeX as :func:`rewards.verifiers.math.latex.respell` spells it; two expressions in
the same place are compared by a function that the caller gives: :func:`rewards.verifiers.math.exact.same_value`, or
the computer algebra of a worker. All verdicts have three values, None where the function could not tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from rewards.verifiers.math.exact import read_values
from rewards.verifiers.math.intervals import solutions
from rewards.verifiers.math.structure import NAME, Shape, as_matrix, read_shape, without_thousands

Same = Callable[[str, str], bool | None]
"""Whether two expressions are equal; None where that is not known."""

_SPACE = re.compile(r"(?<![A-Za-z0-9,]) +| +(?![A-Za-z0-9])")
_BASED = re.compile(r"([0-9A-Z]+)_\{?(\d+)\}?")
_DIGITS = re.compile(r"[0-9A-Z]+")
_RELATION = re.compile(r"(?<![<>!])=")
_FUNCTION = re.compile(r"([A-Za-z](?:_\{?\w+\}?|\^\{-1\})?)\(([a-z](?:, ?[a-z])*)\)")
_MEMBER = re.compile(r"^[A-Za-z]\s*\\in(?![A-Za-z])")
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_GREEK = "alpha beta gamma delta epsilon zeta eta theta lambda mu nu xi rho sigma tau phi chi psi omega"
_GREEK_LETTERS = frozenset(_GREEK.split())
_UNIT_LETTER = re.compile(
    r"(?<=[\d}])\s+[mslgthdLNJWVACF](?:\^\{[23]\})?"
    r"(?:(?:\s*/\s*|\s*\\cdot )[mslgthdLNJWV](?:\^\{[23]\})?|\s+[mslgth]\s*\^\{-[123]\})*$"
)
_ENDLESS = re.compile(r"([-+]?)\s*\\infty")
_COORDINATES = ({"x", "y"}, {"x", "y", "z"})
_MINUTES = re.compile(r"0\d")
_OPEN_PAIR = re.compile(r"\((?:(?!\\(?:cup|lor|land)|[<>]).)*\)", re.DOTALL)


def equal(gold: str, answer: str, same: Same) -> bool | None:
    r"""Whether two pieces of LaTeX are equal; None where ``same`` cannot tell.

    Lists are equal in any order and as often as their members occur, sets in any order; tuples, intervals, matrices
    and ratios in their order. A list without brackets may stand for a tuple in its order and for a set.

    >>> from rewards.verifiers.math.exact import same_value as same
    >>> equal(r"[0, \sqrt{8}]", r"[0, 2\sqrt{2}]", same), equal("3, -3", r"\pm 3", same), equal("2, 2, 3", "2, 3", same)
    (True, True, False)
    >>> equal("(1, 2)", r"\{1, 2\}", same), equal("x = 1, y = 2", "2, 1", same), equal("5", "6 = 5", same)
    (False, False, False)
    >>> equal("y = 2x + 3", "2x - y = -3", same), equal("y = 2x", "y = x", same), equal("x^2 = 4", "x = 2", same)
    (True, False, None)
    """
    gold, answer = (without_thousands(_MEMBER.sub("", text).strip()) for text in (gold, answer))
    if _SPACE.sub("", gold) == _SPACE.sub("", answer):
        return True
    if (based := _same_digits(gold, answer)) is not None:
        return based
    sets = solutions(gold), solutions(answer)
    if (
        sets[0] is not None
        and sets[1] is not None
        and not (_OPEN_PAIR.fullmatch(gold) and _OPEN_PAIR.fullmatch(answer))
    ):
        return sets[0].equals(sets[1], same)
    left, right = read_shape(gold), read_shape(answer)
    if left is None and right is None:
        return _same_statement(gold, answer, same)
    if left is None or right is None:
        return _same_as_one(gold, answer, left, right, same)
    return _same_shape(left, right, same)


def is_read(latex: str) -> bool:
    """Whether the structure of ``latex`` and every expression in it are read without algebra."""
    if solutions(latex) is not None:
        return True
    shape = read_shape(latex)
    return all(read_values(part) is not None for part in (shape.members if shape else (latex,)))


def _same_digits(gold: str, answer: str) -> bool | None:
    """For numbers of which one states its base: digits as written, and two bases the same."""
    bases = [_BASED.fullmatch(text) for text in (gold, answer)]
    digits = [match[1] if match else text for match, text in zip(bases, (gold, answer), strict=True)]
    if not any(bases) or not all(map(_DIGITS.fullmatch, digits)):
        return None
    return digits[0].lstrip("0") == digits[1].lstrip("0") and len({match[2] for match in bases if match}) == 1


def _same_shape(gold: Shape, answer: Shape, same: Same) -> bool | None:
    if gold.kind.startswith("matrix") and answer.kind in ("()", "set"):
        answer = as_matrix(answer) or answer
    kinds = gold.kind, answer.kind
    if "list" in kinds or kinds == ("set", "set"):
        other = kinds[1] if kinds[0] == "list" else kinds[0]
        if other in ("list", "set"):
            return _same_members(gold, answer, same)
        if other not in ("()", "[]"):
            return False
        return _in_order(gold.members, answer.members, same)
    times = kinds == (":", ":") and any(map(_MINUTES.fullmatch, (*gold.members[1:], *answer.members[1:])))
    if times and gold.members[1:] != answer.members[1:]:  # 1:05 is not 1:5
        return False
    if gold.kind == answer.kind:
        return _in_order(gold.members, answer.members, same)
    vector = next((kind for kind in kinds if kind.startswith("matrix")), None)
    if vector is not None and re.search(r" 1,|,1$", vector) and any(kind in ("()", "[]") for kind in kinds):
        return _in_order(gold.members, answer.members, same)
    brackets = all(kind in ("()", "[]") for kind in kinds)
    if brackets and len(gold.members) != 2:
        return _in_order(gold.members, answer.members, same)
    return False


def _in_order(gold: Sequence[str], answer: Sequence[str], same: Same) -> bool | None:
    if len(gold) != len(answer):
        return False
    (gold_names, golds), (answer_names, answers) = _named(gold), _named(answer)
    if gold_names and answer_names:
        if sorted(gold_names) != sorted(answer_names):
            return False
        answers = [answers[answer_names.index(name)] for name in gold_names]
    elif set(gold_names or answer_names) in _COORDINATES:  # (1, 2) is x = 1, y = 2, in whichever order these stand
        golds = [value for _, value in sorted(zip(gold_names, golds, strict=True))] if gold_names else golds
        answers = [value for _, value in sorted(zip(answer_names, answers, strict=True))] if answer_names else answers
    return _all(equal(left, right, same) for left, right in zip(golds, answers, strict=True))


def _named(members: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names of ``x = 1, y = 2`` and the values; no names unless all have one of their own."""
    sides = [_RELATION.split(member) for member in members]
    named = all(len(parts) == 2 and NAME.fullmatch(parts[0].strip()) for parts in sides)
    names = [parts[0].strip() for parts in sides]
    if not named or len(set(names)) < len(names):
        return [], list(members)
    return names, [parts[1].strip() for parts in sides]


def _same_members(gold: Shape, answer: Shape, same: Same) -> bool | None:
    names, others = _named(gold.members)[0], _named(answer.members)[0]
    functions = any(map(_FUNCTION.fullmatch, names))
    if len(names) > 1 and not functions and gold.kind == "list":
        return _in_order(gold.members, answer.members, same)  # x = 1, y = 2: which is which counts
    golds = list(gold.members)
    answers = list(answer.members)
    if not (names and others):
        golds, answers = [_value(member) for member in golds], [_value(member) for member in answers]
    if "set" in (gold.kind, answer.kind):
        golds = _distinct(golds, same) if gold.kind == "set" else golds
        answers = _distinct(answers, same) if answer.kind == "set" else answers
    if len(golds) != len(answers):
        return False
    certain = True
    for member in golds:
        found = [equal(member, other, same) for other in answers]
        if True in found:
            del answers[found.index(True)]
        elif None in found:
            certain = False
        else:
            return False
    return True if certain else None


def _value(member: str) -> str:
    name, relation, value = member.partition("=")
    return value.strip() if relation and "=" not in value and re.fullmatch(r"\s*[A-Za-z]\w?\s*", name) else member


def _distinct(members: Sequence[str], same: Same) -> list[str]:
    kept: list[str] = []
    for member in members:
        if not any(equal(member, other, same) for other in kept):
            kept.append(member)
    return kept


def _same_as_one(gold: str, answer: str, left: Shape | None, right: Shape | None, same: Same) -> bool | None:
    """One of the two is a list or has brackets, the other is one expression or equation."""
    shape, one = (left, answer) if left is not None else (right, gold)
    assert shape is not None
    sides = _RELATION.split(one)
    if len(sides) == 2 and NAME.fullmatch(sides[0].strip()) and read_shape(sides[1]) is not None:
        return equal(gold, sides[1], same) if one == answer else equal(sides[1], answer, same)
    if shape.kind == "set" and len(shape.members) == 1:
        return equal(gold, shape.members[0], same) if one == gold else equal(shape.members[0], answer, same)
    return (
        same(gold, answer) if "\\" in one and re.search(r"\\(?:cup|cap|setminus|mathbb|emptyset|begin)", one) else False
    )


def _same_statement(gold: str, answer: str, same: Same) -> bool | None:
    """Two expressions or equations; an answer's chain of equal signs must hold, and counts by its last side."""
    golds, answers = _sides(gold), _sides(answer)
    if len(answers) == 2 and NAME.fullmatch(answers[1]) and _is_value(answers[0]):
        answers.reverse()  # 5 = x
    if len(answers) > min(len(golds), 2) and (holds := _holds(answers, same)) is not True:
        return holds
    if len(golds) > 2:
        golds = [golds[0], golds[-1]]
    if len(golds) == 1:
        return _same_expression(golds[0], answers[-1], same)
    if len(answers) == 1:
        return _same_expression(golds[1], answers[0], same) if NAME.fullmatch(golds[0]) else same(gold, answer)
    answers = [answers[0], answers[-1]]
    names = [bool(NAME.fullmatch(sides[0])) for sides in (golds, answers)]
    functions = [_FUNCTION.fullmatch(sides[0]) for sides in (golds, answers)]
    if functions[0] and functions[1] and functions[0][1] == functions[1][1]:
        body = _renamed(answers[1], functions[1][2], functions[0][2])
        return False if body is None else _same_expression(golds[1], body, same)
    if all(names) and golds[0] == answers[0]:
        return _same_expression(golds[1], answers[1], same)
    if names[0] and _is_value(golds[1]) and not (names[1] and _is_value(answers[1])):
        return False  # the question's equation, handed back unsolved
    if all(names) and all(_is_value(sides[1]) for sides in (golds, answers)):
        return False
    return same(" = ".join(golds), " = ".join(answers))


def _sides(latex: str) -> list[str]:
    return [side.strip() for side in _RELATION.split(latex)]


def _is_value(side: str) -> bool:
    return not _letters(side)


def _holds(sides: Sequence[str], same: Same) -> bool | None:
    """Whether a chain of equal signs may hold: its numbers agree, and of expressions in the letters of the last all do.

    The first side may also name or describe what is meant: ``x = 5``, ``f(x) = x + 1``, ``a + b = 5``.
    """
    last = sides[-1]
    for number, side in enumerate(sides[:-1]):
        if not side:
            return False
        described = number == 0 and (NAME.fullmatch(side) or not _letters(side) <= _letters(last))
        if _is_value(side) is _is_value(last) and not described:
            agrees = _same_expression(side, last, same)
            if agrees is not True:
                return agrees
    return True


def _renamed(body: str, arguments: str, wanted: str) -> str | None:
    """``body`` with the letters of its arguments as wanted; None where one of them means something else in it."""
    letters, names = (re.findall("[a-z]", each) for each in (arguments, wanted))
    if len(letters) != len(names) or (set(names) - set(letters)) & _letters(body):
        return None
    changed = str.maketrans(dict(zip(letters, names, strict=True)))
    pieces = re.split(r"(\\[A-Za-z]+)", body)  # commands keep their letters
    return "".join(piece if piece.startswith("\\") else piece.translate(changed) for piece in pieces)


def _letters(latex: str) -> set[str]:
    """The variables of an expression: letters but for e and the imaginary unit, and Greek ones but for pi."""
    greek = _GREEK_LETTERS.intersection(_COMMAND.findall(latex))
    return set(greek) | set(re.findall("[A-Za-z]", _COMMAND.sub(" ", latex))) - {"I", "e"}


def _same_expression(gold: str, answer: str, same: Same) -> bool | None:
    """Two expressions, with a percent sign on either taken as such or as a hundredth, and a unit of one letter off."""
    if read_shape(gold) is not None or read_shape(answer) is not None:
        return equal(gold, answer, same)
    ends = [_ENDLESS.fullmatch(text) for text in (gold, answer)]
    if all(ends):
        return (ends[0][1] == "-") == (ends[1][1] == "-")  # type: ignore[index]
    if any(ends):
        return False
    gold_share, answer_share = gold.endswith("%"), answer.endswith("%")
    gold, answer = gold.removesuffix("%").strip(), answer.removesuffix("%").strip()
    if "%" in gold + answer:
        return False
    pairs = [(gold, answer)]
    if gold_share != answer_share:
        pairs.append((f"\\frac{{{gold}}}{{100}}", answer) if gold_share else (gold, f"\\frac{{{answer}}}{{100}}"))
    if not re.search(r"(?<![\\A-Za-z])[A-Za-z]", gold) and (unitless := _UNIT_LETTER.sub("", answer)) != answer:
        pairs.append((gold, unitless))
    found = [_SPACE.sub("", left) == _SPACE.sub("", right) or same(left, right) for left, right in pairs]
    if any(found):
        return True
    return None if None in found else False


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    found = list(verdicts)
    if False in found:
        return False
    return None if None in found else True
