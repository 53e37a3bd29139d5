r"""Which option of a multiple-choice question an answer names.

A gold is a letter ("B", "(b)"), a label with its text ("B. a cat", "Option B which is : a cat"), or JSON with all
options: ``{"answer": "B", "options": {"A": "a dog", "B": "a cat"}}``, where ``options`` may be a list and ``answer`` an
option's text. Letters go from A to Z.

An answer names an option by its letter, alone or as a label ("B", "(b)", "B.", "B) a cat"), after a word that announces
it ("Option B which is", "the answer is B", "I choose B", and the like in some other languages), or by the option's text
where that is known; options that are numbers or formulas are compared as such, where no option has the very text. The
article in "A cat" and the pronoun in "I think" are not letters, nor is in a sentence one behind both J and the gold's
last ("T cells", "X = 5"). An answer that names two options, or turns one down ("not B", "B is wrong"), is "ambiguous",
one that names none "unparsed"; both are wrong. Once an option is stated, the sentences after it may turn others down,
but not come back to them ("B. Actually C").
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType

from rewards.verifiers.math.normalize import decide
from rewards.verifiers.prose import last_clause, without_confidence
from rewards.verifiers.text import composed, normalised
from rewards.verifiers.verifier import BAD_GOLD, DIFFERENT, EQUAL, UNPARSED, Verdict

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LONGEST_FORMULA = 200
_USUAL = frozenset("ABCDEFGHIJ")
AMBIGUOUS = Verdict(0.0, "ambiguous")

_WRAPPER = re.compile(
    r"\\(?:boxed|fbox|text(?:bf|it|rm)?|math(?:rm|bf)|mbox|underline|emph)\s*\{|\\[()\[\]]|[{}\[\]$*_`\"“”✓✔✅]|</?\w+>"
)
_QUOTED = re.compile(r"(?<!\w)[<'\"“‘「『【〈《]\s*([A-Za-z])\s*[>'\"”’」』】〉》](?!\w)")
_LETTER_LINE = re.compile(r"(?<![A-Za-z'’])([A-Z])[ \t]*\n")
_ALONE = re.compile(r"\(?\s*([A-Za-z])\s*[).:]*")
_LABEL = re.compile(r"(?:\(\s*([A-Za-z])\s*\)|([A-Za-z])\s*[).:]|([A-Z])\s+[-–—=]|[Oo]ption ([A-Za-z]) which is)(?=\s)")
_BRACKETED = re.compile(r"(?<![\w)])\(\s*([A-Za-z])\s*\)(?!\w)|(?<![\w(])([A-Z])\)")
# A capital, at the start or after a word that announces an option or links it to another one.
_ANNOUNCED = re.compile(
    r"(?:^|(?<![A-Za-z])(?P<option>option|choice|letter|opción|opção|opzione|вариант|letra|lettre|lettera|"
    r"buchstabe|đáp án)s?|"
    r"(?<![A-Za-z])(?:answers?|is(?!t)|are|be|it's|that's|cho[os]sen?|choosing|pick(?:ed|ing)?|select(?:ed|ing)?|think|"
    r"say|guess|prefer|believe|towards?|(?:go|going|went|stick|sticking) with|(?:go|going|went|opt|vote|voted) for|"
    r"settled? on|vote|lean|suppose|conclude|consider|definitely|certainly|probably|likely|surely|clearly|obviously|"
    r"perhaps|maybe|possibly|actually|alternatively|however|(?:second )?thoughts?|only|just|so|thus|hence|therefore|"
    r"both|either|neither|between|and|or|nor|not|but|than|versus|vs|to|through|plus|as well as|with|unless|then|else|"
    r"otherwise|xor|though|although|"
    r"also|while|whereas|even|"
    r"réponse|respuesta|resposta|risposta|antwort|antwoord|svaret?|odpowiedź|cevap|jawaban|lösung|ответ|"
    r"est? la|est?|ist|lautet|là|é a|è la|é|è|är|هي|"
    r"choisis|elijo|escojo|wähle|escolho|scelgo|kies|выбираю|oder|und|ou|et|или|(?-i:[eoy]))|"
    r"[:,;/&+=、|~→⇒>∨]|\\(?:lor|vee)|[.!?]\s|[是为為选選择擇项項は은는或和と])"
    r"[\s:(—–-]*(?P<letter>[A-Z])(?![A-Za-z0-9À-ɏ'’=+#°]|-\w)(?=(?P<rest>(?:\s+|,\s+(?=(?-i:[a-z])))[A-Za-z]+)?)",
    re.IGNORECASE,
)
_SHARE = re.compile(r"(?<![A-Za-z])([A-Z])\)?\s*[:=(–-]?\s*\d{1,3}(?:\.\d{1,6})?\s*\\?%")
_FINAL = re.compile(r"(?:answer|option|choice)(?:\s+is)?\s*:?\s*([a-z])\s*[.!]?\s*$", re.IGNORECASE)
_WORDS_AFTER = "is are was and or nor not but which because since as with would seems ou et oder und est es ist"
_AFTER_A_LETTER = frozenset(_WORDS_AFTER.split())
_AFTER_I = frozenset(("is", "and", "or", "nor"))
_TURNED = re.compile(
    r"(?<![A-Za-z])(?:not|never|neither|nor|except|cannot|incorrect|wrong|false|eliminated?|excluded?|unlikely|hardly|"
    r"(?:any|every)thing but|all but|(?:other|rather) than|instead of|without|(?:least|less) likely|worst|impossible|"
    r"(?:ruled?|is|are|seems|looks) (?:out|off)|rules out|avoid(?:ed|ing)?|reject(?:ed|ing|s)?|discard(?:ed|ing|s)?|"
    r"dismiss(?:ed|ing|es)?|doubtful|fail(?:s|ed)?|wait,? no|scratch that)(?![A-Za-z])|n['’]t(?![A-Za-z])|[≠¬❌✗✘✖]|"
    r"I (?:really |highly )?doubt|(?<![A-Za-z])(?-i:[A-Z])\)?,? (?:or|ou|oder|o) |\\neq?(?![A-Za-z])|"
    r"(?<![^\W\d_])(?:no es|não|nao|non(?!-)|pas|nicht|kein(?:e|er|es)?|niet|geen|не|нет|nie|inte|değil|không)"
    r"(?![^\W\d_])|"
    r"(?<![^\W\d_])(?:falsch|faux|fausse|fals[oa]|incorrect[oea]|incorret[oa]|errad[oa]|errat[oa]|sbagliat[oa]|fout|yanlış|"
    r"неверн\w{0,3}|неправильн\w{0,3})(?![^\W\d_])|~~|"
    r"[不非没沒错錯误誤]|排除|ない|ません|間違|아니|않|틀[리린렸]|오답",
    re.IGNORECASE,
)
_RECONSIDERED = re.compile(
    r"(?:^|[.;!?…]\s+)(?:(?:but|however|actually|wait|hmm+|or|maybe|perhaps|possibly|alternatively|on second thoughts?|"
    r"then again)\b|(?:(?:it|this|that|[A-Z]) )?(?:could|might|may|is also)\b)",
    re.IGNORECASE,
)
_STATED = re.compile(
    r"(?:(?:so |thus )?(?:(?:the |my )?(?:final |correct |right |best )*(?:answer|choice|option)(?: is)?\s*:?\s*"
    r"|(?:it is|it['’]s|that['’]s|I (?:choose|pick|say|select)|I(?:['’]d| would) (?:say|choose|pick|go with)) ))?"
    r"\(?(?P<letter>[A-Z])\)?(?:\s*\n|[.;]\s|\s[-–—(]|,?\s(?:because|since|as)\s)\s*(?P<rest>\S.*)",
    re.IGNORECASE | re.DOTALL,
)
_TAKEN_BACK = re.compile(
    r"(?:is|was|seems|can|wait|scratch)\b|"
    r"(?:that|this|it)(?:['’]s| is| was) (?:wrong|incorrect|false|not (?:right|correct))\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.;!?\n]+(?:\s|$)")
_CLAUSE_END = re.compile(r"[,()]|\b(?:and|but|or|which|while|though|although)\b", re.IGNORECASE)
_LISTED = re.compile(r"(?<![A-Za-z])([A-Z])(?:(?:,\s*(?:and\s|or\s|nor\s)?|\s+(?:and|or|nor)\s+)[A-Z](?![A-Za-z]))+")
_OTHERS = re.compile(
    r"(?:all )?(?:the |of the )*(?:other|others|rest|remaining|alternatives)\b|其[他它余餘]", re.IGNORECASE
)
_MENTIONED = re.compile(r"(?<![A-Za-z0-9'’])[A-Z](?![A-Za-z0-9'’])")
_ONLY_LETTERS = re.compile(r"(?:[^A-Za-z0-9]*[A-Z](?![A-Za-z0-9])){2,}[^A-Za-z0-9]*")
_MATHEMATICAL = re.compile(r"\d|\\|[A-Za-z)]\s*[-+*/^=<>]\s*[A-Za-z(]|[π√∞]|\bpi\b")


@dataclass(frozen=True)
class Gold:
    """The right letter and the texts of the options, as far as they are known, normalised and as they are written."""

    letter: str
    options: Mapping[str, str]
    complete: bool
    """Whether ``options`` has them all, so that other letters name nothing."""
    written: Mapping[str, str] = field(default_factory=dict)

    @property
    def alphabet(self) -> frozenset[str]:
        """The letters that name an option in a sentence."""
        return _USUAL.union(LETTERS[: LETTERS.index(max([self.letter, *self.options])) + 1])


@lru_cache(maxsize=4096)
def read_gold(gold: str) -> Gold | None:
    """The right letter and the options known, or None where the gold names no single option; never raises.

    >>> read_gold("(b)").letter, read_gold("C) a cat").options["C"], read_gold("A cat")
    ('B', 'cat', None)
    >>> read_gold('{"answer": "a cat", "options": ["a dog", "a cat"]}').letter
    'B'
    """
    text = " ".join(gold.split())
    if text.startswith("{"):
        return _read_json(text)
    if alone := _ALONE.fullmatch(text):
        return Gold(alone[1].upper(), MappingProxyType({}), False)
    label = _LABEL.match(text)
    if label is None:
        return None
    letter, known = _letter(label), normalised(text[label.end() :])
    return Gold(letter, MappingProxyType({letter: known} if known else {}), False)


def judge(gold: str, answer: str) -> Verdict:
    """Compares the option an answer names with the gold: "equal", "different", "ambiguous", "unparsed" or "bad_gold".

    >>> [judge("B", answer).reason for answer in ("(b)", "The answer is C.", "A cat", "B or C")]
    ['equal', 'different', 'unparsed', 'ambiguous']
    """
    reference = read_gold(gold)
    if reference is None:
        return BAD_GOLD
    named = letters_named(answer, reference)
    if named is None or len(named) > 1:
        return AMBIGUOUS
    if not named or (reference.complete and not named <= reference.options.keys()):
        return UNPARSED
    return EQUAL if named == {reference.letter} else DIFFERENT


def letters_named(answer: str, gold: Gold) -> set[str] | None:
    """The letters of the options that an answer names; None where it turns one down."""
    answer = composed(answer).replace("。", ". ")
    stated = without_confidence(answer)
    plain = " ".join(_LETTER_LINE.sub(r"\1. ", stated).split())
    text = " ".join(_WRAPPER.sub(" ", _QUOTED.sub(r" \1 ", plain)).split())
    if (alone := _ALONE.fullmatch(text)) and (not gold.complete or alone[1].upper() in gold.options):
        return {alone[1].upper()}
    if _ONLY_LETTERS.fullmatch(text):
        return set(_MENTIONED.findall(text))
    label = _LABEL.match(text)
    if label is not None and _letter(label) in gold.alphabet:
        letter, rest = _letter(label), text[label.end() :].strip()
        written = _LABEL.match(plain)
        by_text = _letters_of(plain[written.end() :] if written else rest, gold) or _letters_of(rest, gold)
        if by_text:
            # A label beside another option's text names two; texts that several options share name the labelled one.
            return {letter} if letter in by_text else {letter} | by_text
        if _is_explained(letter, stated, gold):
            return {letter}
        others = _bracketed(rest) | _options_in(rest) | set(_SHARE.findall(rest))
        if _RECONSIDERED.search(rest):
            others |= _announced(rest)
        named = {letter} | gold.alphabet & others
        return None if _TAKEN_BACK.match(rest) and _TURNED.search(rest) else named
    by_text = _letters_of(plain, gold) or _letters_of(last_clause(text), gold) or _letters_of(last_clause(plain), gold)
    if by_text:
        before = [last_clause(sentence) for sentence in _SENTENCE_END.split(plain)[:-1]]
        return by_text.union(*(_letters_of(clause, gold) for clause in before if clause))
    if (statement := _STATED.match(stated.strip(" *$"))) and _is_explained(statement["letter"].upper(), stated, gold):
        return {statement["letter"].upper()} & gold.alphabet
    named = _bracketed(text) | _announced(text) | set(_SHARE.findall(text))
    if (final := _FINAL.search(text)) is not None:
        named.add(final[1].upper())
    named &= gold.alphabet
    return None if named and _TURNED.search(text) else named


def _is_explained(letter: str, stated: str, gold: Gold) -> bool:
    """Whether sentences follow the stated letter that name no other option, and turn down only others."""
    statement = _STATED.match(stated.strip(" *$"))
    if statement is None or not _TURNED.search(statement["rest"]):
        return False
    for sentence in _SENTENCE_END.split(statement["rest"]):
        sentence = sentence.partition("Explanation:")[2] or sentence
        mentioned = {match[0] for match in _MENTIONED.finditer(sentence)} & gold.alphabet
        if _TURNED.search(sentence):
            if letter in mentioned or not (mentioned - {"I"} or _OTHERS.match(sentence.strip())):
                return False
            clauses = _CLAUSE_END.split(_LISTED.sub(r"\1", sentence))  # each letter turned down, and not "not wrong"
            if any(_MENTIONED.search(clause) and len(_TURNED.findall(clause)) != 1 for clause in clauses):
                return False
        elif not (_bracketed(sentence) | _announced(sentence)) & gold.alphabet <= {letter}:
            return False
    return True


def _bracketed(text: str) -> set[str]:
    return {_letter(match) for match in _BRACKETED.finditer(text)}


def _announced(text: str) -> set[str]:
    """Letters after an announcing word; A and I, and small letters, only where no noun or verb follows."""
    named = set()
    for match in _ANNOUNCED.finditer(text):
        letter, following = match["letter"], (match["rest"] or "").strip(" ,").lower()
        if match["option"] is not None:
            named.add(letter.upper())
        elif letter.isupper() and (letter not in "AI" or not following or following in _after(match)):
            named.add(letter)
    return named


def _after(match: re.Match[str]) -> frozenset[str]:
    """The words that may follow A, which may be an article, and I, which is a pronoun before most verbs."""
    return _AFTER_I if match["letter"] == "I" else _AFTER_A_LETTER


def _options_in(text: str) -> set[str]:
    return {match["letter"].upper() for match in _ANNOUNCED.finditer(text) if match["option"] is not None}


def _letter(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group is not None).upper()


def _letters_of(text: str, gold: Gold) -> set[str]:
    """The options whose text, number or formula this is; several where options share it."""
    wanted = normalised(text)
    named = {letter for letter, known in gold.options.items() if known == wanted} if wanted else set()
    if len(named) == 1 or len(text) > _LONGEST_FORMULA or (wanted and not _MATHEMATICAL.search(text)):
        return named
    written = {letter for letter, option in gold.written.items() if " ".join(option.split()) == text.strip()}
    if named or len(written) == 1:
        return written if len(written) == 1 else named  # of "[1,2]" and "(1,2)" the words are the same
    formulas = {letter: option for letter, option in gold.written.items() if _MATHEMATICAL.search(option)}
    return {letter for letter, option in formulas.items() if (decide(option, text) or UNPARSED).correct}


def _read_json(text: str) -> Gold | None:
    try:
        content = json.loads(text)
        options, answer = content["options"], content["answer"]
        if isinstance(options, list):
            options = dict(zip(LETTERS, options, strict=False)) if len(options) <= len(LETTERS) else {}
        written = {letter.strip("() .").upper(): option for letter, option in options.items()}
        known = {letter: normalised(option) for letter, option in written.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if not known or len(known) != len(options) or not all(len(letter) == 1 and letter in LETTERS for letter in known):
        return None
    if not isinstance(answer, str):
        return None
    gold = Gold("", MappingProxyType(known), True, MappingProxyType(written))
    named = _letters_of(answer, gold)
    if (alone := _ALONE.fullmatch(answer.strip())) is not None and alone[1].upper() in known:
        named = {alone[1].upper()}
    return replace(gold, letter=named.pop()) if len(named) == 1 else None
