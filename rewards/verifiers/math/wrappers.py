r"""Takes what is around an answer's words and mathematics off it, by string work alone; no word and no sign goes too.

Boxes, ``$...$``, spacing and sizing of LaTeX, markdown, quotation marks, currency, and the many characters of Unicode
for one thing. What stood apart stays apart: digits never fuse over what is taken away.
"""

from __future__ import annotations

import re
import unicodedata

from rewards.verifiers.math.latex import collapsed, compiled, group_end, replaced
from rewards.verifiers.prose import says_what_is_meant
from rewards.verifiers.sentence import IN_TEXT

_MAX_BOXES = 40
_NAMES = (
    "α alpha β beta γ gamma δ delta ε epsilon θ theta λ lambda μ mu φ phi ω omega σ sigma π pi Δ Delta √ sqrt ∞ infty"
    " ± pm × times · cdot ⋅ cdot ÷ div ≤ le ≥ ge ≠ ne ≈ approx ∪ cup ∩ cap ∈ in ∅ emptyset ⟨ langle ⟩ rangle ∖ setminus"
    " ⩽ le ⩾ ge ≦ le ≧ ge ∙ cdot ∧ land ∨ lor ≡ equiv ⌊ lfloor ⌋ rfloor ⌈ lceil ⌉ rceil"
)
_NAMED = _NAMES.split()
_VULGAR = {
    char: f"\\frac{{{numerator}}}{{{denominator}}}"
    for char, numerator, denominator in re.findall(
        r"(\S)(\d)/(\d+)", "½1/2 ⅓1/3 ⅔2/3 ¼1/4 ¾3/4 ⅕1/5 ⅖2/5 ⅗3/5 ⅘4/5 ⅙1/6 ⅚5/6 ⅐1/7 ⅛1/8 ⅜3/8 ⅝5/8 ⅞7/8 ⅑1/9 ⅒1/10"
    )
}
_UNICODE = str.maketrans(
    {char: f"\\{name} " for char, name in zip(_NAMED[::2], _NAMED[1::2], strict=True)}
    | _VULGAR
    | dict.fromkeys("\u2212\u2013\u2014\u2010\u2011", "-")
    | dict.fromkeys("\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202c\u202d\u2060\ufeff\ufe0f", "")
    | dict.fromkeys("“”„‟«»「」『』〝〞【】", '"')
    | dict.fromkeys("‘’‚‛", "'")
    | {
        "。": ".",
        "、": ", ",
        "°": "^\\circ ",
        "º": "^\\circ ",
        "˚": "^\\circ ",
        "ℝ": "\\mathbb{R}",
        "ℤ": "\\mathbb{Z}",
        "ℕ": "\\mathbb{N}",
        "ℚ": "\\mathbb{Q}",
        "ℂ": "\\mathbb{C}",
        "∛": "\\sqrt[3]",
        "∜": "\\sqrt[4]",
        "∗": "*",
        "⁄": "/",
        "∕": "/",
        "∶": ":",
        "∣": "|",
    }
)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SUPERSCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUBSCRIPT_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_SMALL_FRACTION = re.compile("([⁰¹²³⁴⁵⁶⁷⁸⁹]+)[⁄/]([₀₁₂₃₄₅₆₇₈₉]+)")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_SPACED_THOUSANDS = re.compile(r"(?<![\w.,/^{}\\$])(?<![\d)] )\d{1,3}(?: \d{3})+(?![\w,/]| ?[\d\\])")
_MARKED_THOUSANDS = re.compile(r"(?<![\w.,/^{}\\])\d{1,3}(?:(?:['’_]\d{3})+|(?:\.\d{3}){2,})(?![\w,'’/]|\.\d)")
_MARKS = "\\s✅✔✓☑🎉🎯👍👌👉🏆🌟⭐★✨➡→⇒⟹∴•●▪◦"
_DECORATION = re.compile(rf"^[{_MARKS}]+|[{_MARKS}]+$")
_SIGNS = re.escape("".join(filter(lambda char: unicodedata.category(char) == "Sc", map(chr, range(0x80, 0x20D0)))))
_CURRENCY = re.compile(rf"(?:US|CN|JP)?[{_SIGNS}]|(?<=\d)\s?[円元圓원]")

_BEFORE_BOXES = compiled(
    ("#", r"^\s*#{1,6}\s+", ""),
    ("* ", r"^\s*\*\s+", ""),
    ("...", r",\s*\.{3}", ",\x00"),  # a list that goes on
    ("*", r"(?<![\w*])(\*{1,3})(?![\s*])([^*]+)(?<!\s)\1(?![\w*])", r" \2 "),
    ("_", r"(?<![\w}\\])(_{1,2})([-+$\d.,/%]+)\1(?!\w)", r" \2 "),
    ("~~", r"~~", "\x00"),  # struck out
    ("", r"^\s*(?:[=-]>|\\(?:Rightarrow|rightarrow|implies|therefore|to)(?![A-Za-z]))", ""),
    ("\\begin", r"\\(?:begin|end)\s*\{(?:equation|align|aligned|gather|split|displaymath|math|center)\*?\}", " "),
    ("&", r"(?:\\\\)?\s*&\s*=", " = "),
    ("\\", r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|limits)(?![A-Za-z])|\\color\s*\{[a-z]{1,20}\}", ""),
    ("{\\", r"(?<![\^_}A-Za-z])\{\\(?:rm|bf|it|sf)(?![A-Za-z])([^{}]*)\}", r" \\text{\1} "),
    ("\\", r"\\(?:bf|bfseries|rm|it|sf|large|Large|huge|checkmark|blacksquare)(?![A-Za-z])", " "),
    ("\\textc", r"\\textcolor\s*\{[a-z]{1,20}\}", r"\\text"),
    ("$", r"(?<![A-Za-z\\])(?:US|CA?|AU?|NZ|HK|SG?|NT|MX|R)\$(?=\d[^$]*$)", " "),
    ("\\!", r",\\!\s*", ","),
    ("{small", r"\{smallmatrix\}", "{matrix}"),
    ("{Bmat", r"\{Bmatrix\}", "{pmatrix}"),
    (
        "\\begin",
        r"[\[(]\s*\\begin\{(?:array\}\{[lcr|]*|matrix)\}((?:(?!\\begin).)*?)\\end\{(?:array|matrix)\}\s*[\])]",
        r"\\begin{pmatrix}\1\\end{pmatrix}",
    ),
    (".", r"(?<![A-Za-z])([aApP])\.\s?[mM](?:\.|(?![A-Za-z]))", r"\1m"),
    ("\\", r"(?<=\d)\\[,;: ](?=\d{3}(?!\d))", ""),
    ("\\", r"\\q?quad(?![A-Za-z])|\\[,!;:]|(?<!\\)\\ ", " "),
    ("~", r"(?<=[\w{})$.,])~(?=[\w\\$(])", " "),
    ("$", r"\\?\$", " "),
    ("\\", r"(?<!\\)\\[()\[\]]", " "),
    ("{", r"\{\s*,\s*\}", ","),
)
_AFTER_BOXES = compiled(
    ("`", r"(?<![\w`])(`{1,3})([^`]+)\1(?![\w`])", r" \2 "),
    ('"', r"(?<!\w)\"([^\"]*)\"(?!\w)", r" \1 "),
    ("'", r"(?<!\w)'([^']*)'(?!\w)", r" \1 "),
    ("<", r"</?(?:b|i|u|em|strong|code|p|span)>", " "),
    ("\\", r"\\(?:pounds|euro|yen|text(?:euro|sterling|yen|dollar))(?![A-Za-z])", " "),
    ("Rs", r"(?<![A-Za-z\\])Rs\b\.?(?=\s?\d)", " "),
    ("frac", r"\\(?:[dtcs]|nice|flat)frac(?![A-Za-z])", r"\\frac"),
    ("\\%", r"\\%", "%"),
    ("p", r"\s*(?<![A-Za-z])(?:percent|pct)(?![A-Za-z])", "%"),
    ("\\", r"\\(?:math(?:rm|bf|it|sf|cal|tt)|boldsymbol|bm|operatorname)\s*\{((?:[^{}]|\{[^{}]*\})*)\}", r" \1 "),
    ("\\", r"\\(?:vec|overrightarrow)\s*\{\s*([A-Za-z]{1,2})\s*\}", r" \1 "),
    ("Matrix(", r"(?:(?:sympy|sp)\.)?Matrix\(\s*(\[.*\])\s*\)", r"\1"),
)
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|sf|tt|sl|sc|up|md|normal)?|mbox|hbox|emph)\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_TEMPERATURE = re.compile(rf"(\^\s*(?:\\circ|\{{\s*\\circ\s*\}})|\\degree)\s*{IN_TEXT}?[CF](?![A-Za-z])")
_LONE_LETTER = re.compile(r"(?<![^\W\d_])([^\W\d_])(?![^\W\d_])")
_BASES = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9"}
_BASES |= {"ten": "10", "twelve": "12", "sixteen": "16", "binary": "2", "octal": "8", "hexadecimal": "16"}
_BASE_NAMES = "|".join(_BASES)
_BASED = re.compile(
    rf"\(?(?<![\w.])([0-9A-F]+)\s*\)?\s*(?:_\s*\{{?\s*\(?\s*(?:base\s*)?(\d+|{_BASE_NAMES})(?![A-Za-z\d])\s*\)?\s*\}}?"
    rf"|,?\s*\(?(?:in\s+)?base[\s-]+(\d+|{_BASE_NAMES})(?![A-Za-z\d])\)?|\s+\(?(?:in\s+)?(binary|octal|hexadecimal)(?![A-Za-z])\)?)"
)
_PREFIXED = re.compile(r"0(?<![\w.]0)(?:b([01]+)|o([0-7]+)|x([0-9A-Fa-f]+))(?!\w)")
_BOX = re.compile(r"\\{1,2}(?:[bB]oxed|fbox|framebox)(?![A-Za-z])\s*|(?<![A-Za-z\\])boxed\s*(?=\{)")
_SAID_TWICE = re.compile(r"(\\boxed\s*\{[^{}]*\})([^{}]{1,200}?)(\1)")
_BARE_BOXED = re.compile(r"-?[^\s$\\{},;]+")
_ANNOUNCED = re.compile(
    r"(?:^|[.:;!]|(?<![A-Za-z])(?:so|thus|hence|therefore|is|are|get|gives|obtain|answer))\s*$", re.I
)


def unwrapped(text: str) -> str | None:
    r"""``text`` without its wrappers; None where two boxes differ among words, so that there are two answers.

    >>> unwrapped(r"$\boxed {17}$"), unwrapped("**58** ✅"), unwrapped("“£1 234 567”"), unwrapped(r"7\text{ R }3")
    ('17', '58', '1234567', '7 \x02R 3')
    >>> unwrapped(r"not \boxed{5}"), unwrapped(r"\boxed{4}, \boxed{9}"), unwrapped(r"First \boxed{4}. Then \boxed{9}")
    ('not 5', '4 , 9', None)
    """
    text = _CONTROL.sub("\x00", text)
    if not text.isascii():
        text = _SMALL_FRACTION.sub(_as_fraction, text)
        text = _SUPERSCRIPT_RUN.sub(lambda run: f"^{{{run[0].translate(_SUPERSCRIPTS)}}}", text)
        text = _SUBSCRIPT_RUN.sub(lambda run: f"_{{{run[0].translate(_SUBSCRIPTS)}}}", text)
        text = unicodedata.normalize("NFKC", text.translate(_UNICODE)).translate(_UNICODE)
        text = _CURRENCY.sub(" ", _DECORATION.sub("", text))
    text = collapsed(text)
    if " " in text:
        text = _SPACED_THOUSANDS.sub(lambda number: number[0].replace(" ", ""), text)
    if "'" in text or "_" in text or text.count(".") > 1:
        text = _MARKED_THOUSANDS.sub(lambda number: re.sub(r"\D", "", number[0]), text)
    text = replaced(text, _BEFORE_BOXES)
    opened = _unboxed(text)
    if opened is None:
        return None
    text = opened
    text = replaced(text, _AFTER_BOXES)
    text = _TEXT.sub(lambda match: f" {_LONE_LETTER.sub(_as_word, match[1])} ", text)
    if "circ" in text or "degree" in text:
        text = _TEMPERATURE.sub(r"\1", text)
    if "0" in text:
        text = _PREFIXED.sub(_prefixed, text)
    if "base" in text or "_" in text or " in " in text or "binary" in text or "octal" in text or "hexa" in text:
        text = _BASED.sub(_based, text)
    return collapsed(text)


def _as_fraction(match: re.Match[str]) -> str:
    return f"\\frac{{{match[1].translate(_SUPERSCRIPTS)}}}{{{match[2].translate(_SUBSCRIPTS)}}}"


def _as_word(match: re.Match[str]) -> str:
    return IN_TEXT + match[1]


def _based(match: re.Match[str]) -> str:
    base = match[2] or match[3] or match[4]
    return f" {match[1]}_{{{_BASES.get(base, base)}}} "


def _prefixed(match: re.Match[str]) -> str:
    base = {1: 2, 2: 8, 3: 16}[match.lastindex or 1]
    return f" {match[match.lastindex or 1].upper()}_{{{base}}} "


def _unboxed(text: str) -> str | None:
    """``text`` with the contents of its boxes in their places; what only announces a box goes."""
    if "oxed" not in text and "box" not in text:
        return text
    text = _SAID_TWICE.sub(_last_of_two, text)
    boxes = list(_BOX.finditer(text))
    if not boxes or len(boxes) > _MAX_BOXES:
        return text
    contents: list[str] = []
    for box in reversed(boxes):  # from the last, so that an inner box is opened before the one around it
        start, end = box.end(), -1
        if text[start : start + 1] == "{":
            end = group_end(text, start)
            content = text[start + 1 : end - 1]
        elif (bare := _BARE_BOXED.match(text, start)) is not None:
            end, content = bare.end(), bare[0]
        if end < 0:
            return text
        before, after = text[: box.start()].rstrip()[-1:], text[end:].lstrip()[:1]
        bound = (before and before in "+-*/^_}") or (after and after in "+-*/^!_{")
        is_argument = before == "{" and after == "}"
        if bound and not is_argument and not content.strip().replace(".", "").isalnum():
            content = f"({content})"
        contents.append(content.strip())
        text = f"{text[: box.start()]} {content} {text[end:]}"
        first = box.start()
    distinct = {"".join(content.split()) for content in contents if not _BOX.search(content)}
    if len(distinct) == 1 and _ANNOUNCED.search(text[:first]) and says_what_is_meant(text[:first]):
        return text[first:]
    if len(distinct) > 1 and not _is_list(text, contents):
        return None
    return text


def _last_of_two(match: re.Match[str]) -> str:
    between = match[2]
    said = _ANNOUNCED.search(between) and says_what_is_meant(between) and not re.search(r"[-+*/=<>^\\\d]", between)
    return match[3] if said else match[0]


def _is_list(text: str, contents: list[str]) -> bool:
    rest = text
    for content in contents:
        rest = rest.replace(content, " ", 1)
    return not re.sub(r"(?<![A-Za-z])(?:and|or|[xy]\s*=)(?![A-Za-z])|\\[{}]", " ", rest).strip(" ,;.()[]{}=")
