"""A word that is on no list makes an answer unparsed wherever it stands, and no word of the lists changes a number."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rewards.verifiers import sentence, words
from rewards.verifiers.math.normalize import decide, read
from rewards.verifiers.prose import without_confidence

ALL = words.FUNCTION | words.UNITS | words.NOUNS | words.OTHERS | words.SUBJECT
PLACES = ["{} 5", "5 {}", "5 cm {}", "The answer is {} 5.", r"5 \text{{ {} }}", r"{} \boxed{{5}}", "So {}, it is 5"]
_CHANGING = """
not no never none neither without except half twice double triple squared cubed root factorial reciprocal below above
under over beyond than least most exceeds minus hundredths tenths sixths thirds dozen score gross impossible wrong false
incorrect possibly perhaps maybe nearly almost divisible opposite negative thousand million crore
"""
CHANGING = _CHANGING.split()
unknown = st.from_regex(r"[a-z]{5,12}", fullmatch=True)


@settings(deadline=None, max_examples=200)
@given(unknown, st.sampled_from(PLACES))
def test_an_unknown_word_is_never_read_over(word: str, place: str) -> None:
    assume(word not in ALL and word.removesuffix("s") not in ALL and "confid" not in word and "certain" not in word)
    verdict = decide("5", place.format(word))
    assert verdict is not None and verdict.correct == 0.0


def test_words_that_change_a_number_are_on_no_list_but_that_of_subjects() -> None:
    assert not (ALL - words.SUBJECT).intersection(CHANGING)
    for word in CHANGING:
        for place in PLACES[:6]:
            verdict = decide("5", place.format(word))
            area = "cm" in place and word in ("squared", "cubed")  # a unit, as in "5 cm^2"
            assert verdict is None or verdict.correct == float(area), place.format(word)


def test_what_is_counted_and_its_units_leave_a_number_what_it_is() -> None:
    for word in sorted(words.NOUNS | words.UNITS):
        assert decide("5", f"We have 5 {word} here.") == decide("5", "5"), word
        assert decide("7", f"We have 5 {word} here.") == decide("7", "5"), word


numbers = st.integers(-999, 999)


@settings(deadline=None)
@given(numbers, numbers, st.sampled_from(["{} or {}", "{}, {}", r"\boxed{{{}}} \boxed{{{}}}", "{}; {}", "{}. Or {}"]))
def test_two_numbers_are_never_one_of_them(left: int, right: int, form: str) -> None:
    for gold in (left, right):
        verdict = decide(str(gold), form.format(left, right))
        assert left == right or verdict is None or verdict.correct == 0.0


@settings(deadline=None)
@given(st.integers(0, 999), st.sampled_from([" ", r"\text{ and }", r"\;", "$ $", "{}", r"\quad ", r"\text{R}", " to "]))
def test_digits_never_fuse(number: int, between: str) -> None:
    text = str(number)
    assume(len(text) > 1)
    verdict = decide(text, f"{text[:1]}{between}{text[1:]}")
    assert verdict is None or verdict.correct == 0.0


@settings(deadline=None)
@given(numbers, numbers, st.integers(0, 100))
def test_a_clause_about_confidence_goes_and_what_follows_it_stays(left: int, right: int, confidence: int) -> None:
    assert read(f"{left}, with {confidence}% confidence").pieces == (str(left),)
    text = f"{left}, with {confidence}% confidence, or {right}"
    assert without_confidence(text) == f"{left}, or {right}"
    assert read(text).pieces == (f"{left}, {right}",)


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=80))
def test_any_text_is_a_sentence_or_none(text: str) -> None:
    read_sentence = sentence.read_sentence(text)
    assert read_sentence is None or read_sentence.words.count(sentence.HERE) == len(read_sentence.pieces)
