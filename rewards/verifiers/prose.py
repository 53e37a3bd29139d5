"""The clauses around an answer that is a sentence: those that state a confidence, and what says what is meant."""

from __future__ import annotations

import re

from rewards.verifiers.sentence import RUN
from rewards.verifiers.words import in_subject

_NUMBER = r"(?:\d{1,3}(?:\.\d{1,6})?\s?\\?%?|0?\.\d{1,6}|\d{1,3}\s?/\s?10{1,2})"
_SURE = r"(?:confident|sure|certain)"
_DEGREE = (
    r"(?:(?:not|very|quite|fairly|pretty|highly|completely|absolutely|reasonably|fully|only|entirely|moderately)\s)"
)
_LEVEL = r"(?:very\s)?(?:high|low|full|great|moderate|medium|some|complete|absolute|little)"
_CONFIDENCE = re.compile(
    r"(?:\s[-–—]\s)?[\s,;.]*(?<![A-Za-z])(?:"
    rf"[(\[]\s*(?:with\s|my\s)*(?:confidence|certainty)\s*[:=]?\s*(?:{_NUMBER}|{_LEVEL})\s*[)\]]"
    rf"|\(\s*I(?:\sam|['’]m)\s(?:about\s)?{_DEGREE}{{0,2}}(?:{_NUMBER}\s?)?{_SURE}\s*\)"
    rf"|\(\s*(?:{_NUMBER}\s*(?:confidence|certainty|{_SURE})|{_LEVEL}\s(?:confidence|certainty))\s*\)"
    rf"|(?:and\s)?(?:with|at)\s(?:an?\s|my\s)?(?:{_NUMBER}|{_LEVEL})\s?(?:confidence|certainty)(?![A-Za-z])"
    rf"|(?:(?:and|but|though|although)\s)?(?:with\s|at\s|my\s|the\s|an?\s)*(?:confidence|certainty)(?:\slevel)?\s?(?:of|is|:|=)?\s?(?:about\s)?"
    rf"(?:{_NUMBER}(?![\w/])|{_LEVEL}(?![A-Za-z]))"
    rf"|(?:(?:and|but|though|although)\s)?I(?:\sam|['’]m)\s(?:about\s)?{_DEGREE}{{0,2}}(?:{_NUMBER}\s?)?{_SURE}"
    r"(?:\s(?:in|of|about)\s(?:(?:my|this|the)\s(?:answer|result)|it|this|that)|\sthat)?(?![A-Za-z'’])"
    r")",
    re.IGNORECASE,
)  # fmt: skip
_FINAL = re.compile(r"(?<![A-Za-z])(?:my|the|so)\s+final\s+answer\s*(?:is|:|=)\s*:?", re.IGNORECASE)
_VERB = re.compile(r"(?<![A-Za-z\\])(?:is|are|was|were|equals|equal to|be)(?![A-Za-z])\s*:?", re.IGNORECASE)
_ARTICLE = re.compile(r"^(?:an?|the)\s+", re.IGNORECASE)


def without_confidence(text: str) -> str:
    """``text`` without the clauses that state a confidence; what follows such a clause stays.

    >>> without_confidence("10/11 with a confidence level of 0.95."), without_confidence("15. I am 100% confident")
    ('10/11.', '15')
    >>> without_confidence("5, with low confidence, or 6"), without_confidence("I have no confidence in 5")
    ('5, or 6', 'I have no confidence in 5')
    """
    lowered = text.lower()
    if not any(word in lowered for word in ("confiden", "certain", "sure")):
        return text
    return _CONFIDENCE.sub("", text).strip()


def final_statement(text: str) -> str:
    """What follows "my final answer is" where a text says so once; else the text itself.

    >>> final_statement("5, I thought; my final answer is 6"), final_statement("5 or 6")
    ('6', '5 or 6')
    """
    found = list(_FINAL.finditer(text))
    return text[found[0].end() :].strip() if len(found) == 1 else text


def last_clause(text: str) -> str:
    """What a sentence says something to be, without article and full stop; ``text`` itself where none is said.

    What comes before the verb has to consist of words that say what is meant.

    >>> last_clause("The graph of the equation is an ellipse."), last_clause("Nobody is Evelyn.")
    ('ellipse', 'Nobody is Evelyn')
    """
    verbs = list(_VERB.finditer(text))
    if verbs and all(map(in_subject, _words(text[: verbs[-1].start()]))):
        text = text[verbs[-1].end() :]
    return _ARTICLE.sub("", text.strip(" .")).strip()


def says_what_is_meant(text: str) -> bool:
    """Whether ``text`` has no word but those that may stand before "is", and announces no other answer."""
    return all(map(in_subject, _words(text))) and not re.search(r"answer\D*\d", text, re.IGNORECASE)


def _words(text: str) -> list[str]:
    return [match[0].lower().removesuffix("'s") for match in RUN.finditer(text) if not match[0].startswith("\\")]
