"""Multiple choice: the letter an answer names, and the words that look like one."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rewards.verifiers.choice import _AFTER_A_LETTER, LETTERS, judge, read_gold
from rewards.verifiers.verifier import Verdict

OPTIONS = {"A": "a cat", "B": "photosynthesis", "C": "the bank", "D": "not applicable", "E": "vitamin A"}
FULL = json.dumps({"answer": "B", "options": OPTIONS})
LISTED = json.dumps({"answer": "photosynthesis", "options": list(OPTIONS.values())})

NAMES_B = [
    *("B", "b", "(B)", "(b)", "B.", "B)", "b)", " B: ", "**B**", r"\boxed{B}", r"\text{(B)}", "$B$", "[B]", "{B}"),
    *("B) photosynthesis", "(B) photosynthesis", "B. photosynthesis", "B: photosynthesis", "b. photosynthesis"),
    *("Option B", "Option B which is : photosynthesis", "option b", "choice B", "The letter B", "B - photosynthesis"),
    *("The answer is B", "The answer is (B).", "Answer: B", "the correct answer is: B", "the answer is b."),
    *("The answer is B because plants do it", "I choose B", "I think B is right", "It is B.", "B is the answer"),
    *("The correct option is (b) photosynthesis", "B with a confidence of 0.9", "B. I am 100% confident"),
]
OTHER = ["A", "(a)", "Option A which is : a cat", "The answer is A.", "A. cat", "A is correct", "The answer is (E)"]
AMBIGUOUS = [
    *(
        "A or B",
        "B or C",
        "A and B",
        "A, B",
        "A/B",
        "B, C",
        "(A) (B)",
        "both A and B",
        "either B or C",
        "Neither A nor B",
    ),
    *("not B", "The answer is not B", "B is wrong", "B is incorrect", "(B) is not the answer", "It can't be B"),
    *("The answer is A. No, the answer is B", "Option A or option B", "A) x B) y", "not A but B"),
]
NOTHING = [
    *("A cat", "a dog", "A cat sat on a mat", "I think so", "I am not sure", "The answer is a cat", "AB", "BC", "42"),
    *("Because", "none", "?", "...", "The answer is A cat", "B-52", "E=mc^2 is it", "plan b it is", "Answer", "f(a)"),
]


@pytest.mark.parametrize("gold", ["B", "(b)", "B. photosynthesis", "Option B which is : photosynthesis", FULL, LISTED])
@pytest.mark.parametrize("answer", NAMES_B)
def test_named(gold: str, answer: str) -> None:
    assert judge(gold, answer) == Verdict(1.0, "equal")


@pytest.mark.parametrize("answer", OTHER)
def test_another_letter(answer: str) -> None:
    assert judge("B", answer) == Verdict(0.0, "different")


@pytest.mark.parametrize("gold", ["B", "A", FULL])
@pytest.mark.parametrize("answer", AMBIGUOUS)
def test_two_letters_or_one_turned_down(gold: str, answer: str) -> None:
    assert judge(gold, answer) == Verdict(0.0, "ambiguous")


@pytest.mark.parametrize("gold", ["A", "B", "E", "I"])
@pytest.mark.parametrize("answer", NOTHING)
def test_no_letter(gold: str, answer: str) -> None:
    assert judge(gold, answer) == Verdict(0.0, "unparsed"), read_gold(gold)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("photosynthesis", "equal"),
        ("Photosynthesis.", "equal"),
        ("The answer is photosynthesis.", "equal"),
        ("A cat", "different"),
        ("cat", "different"),
        ("vitamin A", "different"),
        ("D. not applicable", "different"),
        ("A) photosynthesis", "ambiguous"),
        ("B) bank", "ambiguous"),
        ("a dog", "unparsed"),
        ("F", "unparsed"),
        ("(J)", "unparsed"),
    ],
)
def test_the_text_of_an_option_counts_where_it_is_known(answer: str, reason: str) -> None:
    assert judge(FULL, answer).reason == judge(LISTED, answer).reason == reason


def test_options_that_share_a_text_are_told_apart_by_letter_only() -> None:
    gold = json.dumps({"answer": "A", "options": ["one", "One!", "two"]})
    assert [judge(gold, answer).reason for answer in ("one", "A) one", "B) one")] == ["ambiguous", "equal", "different"]


@pytest.mark.parametrize(
    "gold",
    [
        *("", "Ä", "AB", "A cat", "photosynthesis", "1", "{", "[]", '{"answer": "B"}', '{"options": ["x", "y"]}', "{}"),
        *('{"answer": "C", "options": ["x", "y"]}', '{"answer": "x", "options": ["x", "x"]}'),
        *('{"answer": 1, "options": 2}', '{"answer": 1, "options": ["x"]}'),
        *('{"answer": "A", "options": []}', json.dumps({"answer": "A", "options": ["x"] * 27}), "[" * 5000),
        *('{"answer": "A", "options": {"A": 1}}', '{"answer": "A", "options": {"A": "x", "a": "y"}}'),
    ],
)  # fmt: skip
def test_a_gold_that_names_no_option_is_unusable(gold: str) -> None:
    assert judge(gold, "A") == Verdict(None, "bad_gold")


def test_as_many_options_as_there_are_letters() -> None:
    gold = json.dumps({"answer": "option 25", "options": [f"option {number}" for number in range(26)]})
    stated = ("Z", "The answer is Z.", "(z)", "option 25", "K", "Y) option 24", "Y or Z")
    assert [judge(gold, answer).reason for answer in stated] == ["equal"] * 4 + ["different"] * 2 + ["ambiguous"]
    assert judge("M", "Option M which is x").correct == 1.0


@pytest.mark.parametrize("answer", ["The answer is B, since B and T cells differ.", "B (n) or V", "The answer is B"])
def test_letters_behind_the_golds_last_name_nothing_in_a_sentence(answer: str) -> None:
    assert judge("B", answer).reason == judge(FULL, answer).reason == "equal"
    assert judge("B", "X = 5").reason == "unparsed"
    assert judge("X", "B or X").reason == "ambiguous"


letters = st.sampled_from(LETTERS)
FORMS = [
    "{}",
    "({})",
    "{}.",
    "{})",
    "The answer is {}",
    "Option {} which is right",
    "**{}**",
    "Answer: ({})",
    "I pick {}.",
]


@settings(deadline=None, max_examples=50)
@given(letters, letters, st.sampled_from(FORMS), st.sampled_from(["{}", "({})", "{}. text", "Option {} which is : x"]))
def test_one_letter_is_right_exactly_when_it_is_the_golds(gold: str, stated: str, form: str, gold_form: str) -> None:
    assume(stated in read_gold(gold).alphabet)
    verdict = judge(gold_form.format(gold), form.format(stated))
    assert verdict == (Verdict(1.0, "equal") if gold == stated else Verdict(0.0, "different"))


@settings(deadline=None, max_examples=50)
@given(
    letters,
    letters,
    letters,
    st.sampled_from(["{} or {}", "{}, {}", "{}/{}", "({}) or ({})", "between {} and {}", "The answer is {} or {}."]),
)
def test_two_letters_are_never_right(gold: str, left: str, right: str, form: str) -> None:
    assume({left, right} <= read_gold(gold).alphabet)
    if left != right:
        assert judge(gold, form.format(left, right)) == Verdict(0.0, "ambiguous")


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=80), st.one_of(letters, st.just(FULL), st.text(max_size=30)))
def test_any_text_gets_a_verdict(answer: str, gold: str) -> None:
    verdict = judge(gold, answer)
    assert verdict.correct in (0.0, 1.0, None)
    assert verdict.reason in {"equal", "different", "ambiguous", "unparsed", "bad_gold"}


@settings(deadline=None, max_examples=50)
@given(st.sampled_from("AI"), st.from_regex(r"[a-z]{2,8}", fullmatch=True))
def test_an_article_and_a_pronoun_are_no_letters(letter: str, word: str) -> None:
    if word not in _AFTER_A_LETTER:
        assert judge(letter, f"{letter} {word}").reason == "unparsed"
        assert judge(letter, f"The answer is {letter} {word} here").reason == "unparsed"
