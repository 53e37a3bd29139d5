r"""Brings the many spellings of a piece of mathematics to one LaTeX string, by string work alone.

Nothing here evaluates anything and nothing raises: what is not understood is left for :func:`is_safe` to turn down.
Plain spellings become LaTeX: ``pi``, ``11sqrt(2)``, ``x**2``, ``137 1/2``, ``3.2 x 10^4``, ``6.7e-5``,
``0.\overline{3}``, ``[[1,2],[3,4]]``. Degrees go without being compared; a percent sign stays.
"""

from __future__ import annotations

import re

MAX_DEPTH = 12
"""Deepest nesting of brackets that :func:`is_safe` lets through: the parser's time can double with a level."""

MAX_LATEX_CHARS = 600
"""Longest LaTeX that :func:`is_safe` lets through, after respelling."""

_GREEK = "alpha beta gamma delta epsilon zeta eta theta lambda mu nu xi rho sigma tau phi varphi chi psi omega pi"
_FUNCTIONS = "sin cos tan cot sec csc sinh cosh tanh arcsin arccos arctan log ln exp gcd lcm max min"
_COMMANDS = frozenset(
    f"{_GREEK} {_FUNCTIONS} Gamma Delta Theta Lambda Sigma Phi Psi Omega frac binom sqrt infty pm cdot times div cup"
    " cap in setminus emptyset le ge lt gt ne approx lfloor rfloor lceil rceil { } \\ |".split()
)
_SAFE_CHARACTERS = re.compile(r"[A-Za-z0-9\s+\-*/^_=<>()\[\]{}|.,:;!%&\\]+")
_SAFE_GROUPS = re.compile(r"\\(?:begin|end)\{[pbv]?matrix\}|\\mathbb\{[A-Z]\}")
_COMMAND = re.compile(r"\\([A-Za-z]+|.?)", re.DOTALL)
_FREE_SUBSCRIPT = re.compile(r"_(?!\s*(?:[A-Za-z0-9]|\{\s*[A-Za-z0-9]+\s*\}))")


def is_safe(latex: str) -> bool:
    r"""Whether ``latex`` may be handed to a parser that names symbols after what it reads.

    True for at most :data:`MAX_LATEX_CHARS` characters of a small ASCII alphabet, known commands, subscripts of letters
    and digits, and brackets that balance within :data:`MAX_DEPTH`. No quote and no command that names a symbol freely
    (``\hat``, ``\text``) gets through.

    >>> is_safe(r"\frac{\sqrt{3}}{4} x_{12}"), is_safe(r"\hat{open(1)}"), is_safe("x_{f(1)}"), is_safe("__import__")
    (True, False, False, False)
    """
    if len(latex) > MAX_LATEX_CHARS or not _SAFE_CHARACTERS.fullmatch(latex) or _FREE_SUBSCRIPT.search(latex):
        return False
    if any(match[1] not in _COMMANDS for match in _COMMAND.finditer(_SAFE_GROUPS.sub("", latex))):
        return False
    depth = 0
    for char in latex.replace("\\{", "(").replace("\\}", ")"):
        depth += (char in "([{") - (char in ")]}")
        if not 0 <= depth <= MAX_DEPTH:
            return False
    return depth == 0


Rule = tuple[str, re.Pattern[str], str]
"""What a text must hold for the pattern to be looked for, the pattern, and what replaces it."""


def compiled(*rules: tuple[str, str, str]) -> list[Rule]:
    """Rules from their sign, the pattern as text, and the replacement; an empty sign is in every text."""
    return [(sign, re.compile(pattern), replacement) for sign, pattern, replacement in rules]


def replaced(text: str, rules: list[Rule]) -> str:
    """``text`` after all replacements, in their order."""
    for sign, pattern, replacement in rules:
        if sign in text:
            text = pattern.sub(replacement, text)
    return text


_RESPELLED = compiled(
    ("\\le", r"\\(?:le(?:q|qslant)?)(?![A-Za-z])", r"\\le "),
    ("<=", r"<=", r"\\le "),
    ("\\ge", r"\\ge(?:q|qslant)?(?![A-Za-z])", r"\\ge "),
    (">=", r">=", r"\\ge "),
    ("\\ne", r"\\neq?(?![A-Za-z])", r"\\ne "),
    ("!=", r"!=", r"\\ne "),
    ("\\varn", r"\\varnothing(?![A-Za-z])", r"\\emptyset "),
    ("\\", r"\\(?:vee|lor)(?![A-Za-z])", r"\\lor "),
    ("\\", r"\\(?:wedge|land)(?![A-Za-z])", r"\\land "),
    ("U", r"(?<=[)\]}])\s*U\s*(?=[(\[]|\\\{)", r"\\cup "),
    ("\\", r"\\(?:mid|[lr]?vert)(?![A-Za-z])", "|"),
    ("\\colon", r"\\colon(?![A-Za-z])", ":"),
    ("\\equiv", r"(?<=\))\s*\\equiv(?![A-Za-z])(?!.*mod)", "="),
    ("+", r"\+\s*/\s*-", r"\\pm "),
    ("\\", r"\\(?:cr|newline)(?![A-Za-z])", r"\\\\"),
    ("\\lbrace", r"\\lbrace(?![A-Za-z])", r"\\{"),
    ("\\rbrace", r"\\rbrace(?![A-Za-z])", r"\\}"),
    ("<", r"^<([^<>=]*,[^<>=]*)>$", r"(\1)"),
    ("binom", r"\\[dt]binom(?![A-Za-z])", r"\\binom"),
    ("\\over", r"(?:^|\{)([^{}]*)\\over(?![A-Za-z])([^{}]*)(?:\}|$)", r"\\frac{\1}{\2}"),
    ("\\", r"\\(?:mathbb|Bbb)\s*([RZNQC])(?![A-Za-z])|\\([RZNQC])(?![A-Za-z])", r"\\mathbb{\1\2}"),
    ("\\mathbb", r"(?<=\\mathbb\{[RC]\})\s*(?:-|\\backslash(?![A-Za-z])|\\(?=\s))\s*(?=\\\{)", r"\\setminus "),
    ("^", r"(?<=\^)(\s*\{?\s*)(?:\\(?:top|intercal)(?![A-Za-z])|\\math(?:sf|rm|bf) ?T(?![A-Za-z]))", r"\1T"),
    ("\\lang", r"\\langle(?![A-Za-z])", "("),
    ("\\rang", r"\\rangle(?![A-Za-z])", ")"),
    ("", r"(?<=\d)\s+[xX]\s+(?=\d)|(?<=\d)[xX](?=10\s*\^)", r"\\times "),
    ("a", r"(?<![A-Za-z\\])a(?:rc)?(sin|cos|tan)(?![A-Za-z])", r"\\arc\1 "),
    ("", rf"(?<![A-Za-z\\])(sqrt|{_GREEK}|{_FUNCTIONS})(?![A-Za-z])".replace(" ", "|"), r"\\\1 "),
    ("sqrt", r"(?<![A-Za-z\\])sqrt(?=\d)", r"\\sqrt "),
    ("", r"(?<![A-Za-z\\])(?:infinity|infty|inf|oo)(?![A-Za-z])", r"\\infty "),
    ("**", r"\*\*", "^"),
    ("*", r"\*", r"\\cdot "),
    ("^", r"\^\s*([+-]?\d+)", r"^{\1}"),
    # Powers of ten; "2e-5" without a decimal point may be 2e minus 5 and stays.
    ("", r"(?<![\w.])(\d*\.\d+|1)[eE]([+-]?\d{1,3})(?![\w.])", r"\1\\cdot 10^{\2}"),
    ("", r"(?<![\w.])(\d+)[eE](\d{1,3})(?![\w.])", r"\1\\cdot 10^{\2}"),
    # Mixed numbers; the parser knows them in LaTeX only.
    ("/", r"(?<![\w/.}\\])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d.])", r"\1\\frac{\2}{\3}"),
    # The imaginary unit: the parser reads a lone i as a real symbol in "5i" and as a complex one in "5 i".
    ("i", r"(?<![A-Za-z\\_])i(?![A-Za-z])", "I"),
    # A product, which the parser would read as a function of the bracket; f, g, h, p stay functions.
    ("(", r"(?<![A-Za-z\\_])([A-EI-OQ-Za-eh-oq-z])\s*\(", r"\1\\cdot ("),
)
_DEGREES = re.compile(r"\^\s*(?:\\circ(?![A-Za-z])|\{\s*\\circ\s*\})|\\degree(?![A-Za-z])")
_TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)")
_ANGLE = re.compile(
    rf"({_TRIGONOMETRY.pattern}\s*(?:\^\s*\{{?\d\}}?)?\s*[({{]?\s*)(\d{{1,9}}(?:\.\d{{1,9}})?)\s*(?:{_DEGREES.pattern})"
)
_REPEATING = re.compile(
    r"(?<![\w.])(\d{0,12})\.(\d{0,12})(?:\\(?:overline|bar|dot)\s*(?:\{(\d{1,12})\}|(\d))|\((\d{1,12})\)(?!\d))"
)
# Small numbers as Python prints them.
_SCIENTIFIC = re.compile(r"(?<![\w.])(?:(\d)\.(\d{1,20})e-([0-3]\d)|(\d)e-(0\d))(?![\w.])", re.ASCII)
_OUTWARDS = re.compile(r"([\[\]])([^\[\](),;]+)[,;]([^\[\](),;]+)([\[\]])")
_ARGUMENTS = re.compile(r"\\(frac|binom|sqrt)(?![A-Za-z])")
_ROOT = re.compile(r"\\sqrt(?:\[\d\])?\s*$")
_TOKEN = re.compile(r"\\[A-Za-z]+|[0-9A-Za-z]")
_ROOT_TOKEN = re.compile(r"\\[A-Za-z]+|\d+|[A-Za-z]")


def respell(text: str) -> str:
    r"""One LaTeX spelling of a piece of mathematics without words and wrappers.

    >>> respell("11sqrt(2)"), respell(r"(-infinity, 3^2]"), respell(r"\frac43"), respell(r"90^\circ")
    ('11\\sqrt{2}', '(-\\infty , 3^{2}]', '\\frac{4}{3}', '90')
    """
    text = _OUTWARDS.sub(_in_round_brackets, _ANGLE.sub(r"\1(\\frac{\2 \\pi}{180})", text))
    if not _TRIGONOMETRY.search(text):
        text = _DEGREES.sub(" ", text)
    text = _SCIENTIFIC.sub(_with_zeros, text)
    text = collapsed(_REPEATING.sub(_repeating_fraction, text))
    text = replaced(text, _RESPELLED)
    text = _brace_arguments(_brace_parentheses(text))
    return collapsed(text)


def collapsed(text: str) -> str:
    """``text`` with single spaces."""
    return " ".join(text.split())


def group_end(text: str, start: int) -> int:
    """Position behind the brace that closes the one at ``start``, or -1."""
    depth = 0
    for position in range(start, len(text)):
        if text[position - 1 : position] == "\\":
            continue
        depth += (text[position] == "{") - (text[position] == "}")
        if depth == 0:
            return position + 1
    return -1


def _in_round_brackets(match: re.Match[str]) -> str:
    """``]0, 1[`` as ``(0, 1)``; what opens and closes in the usual way stays."""
    opening, low, high, closing = match.groups()
    if (opening, closing) == ("[", "]"):
        return match[0]
    return f"{'(' if opening == ']' else '['}{low},{high}{')' if closing == '[' else ']'}"


def _with_zeros(match: re.Match[str]) -> str:
    """``1.5e-05`` as ``0.000015``: the digits of a decimal say how exact it is."""
    digit, digits, places = (match[1], match[2], match[3]) if match[1] else (match[4], "", match[5])
    return f"0.{'0' * (int(places) - 1)}{digit}{digits}" if int(places) else f"{digit}.{digits or 0}"


def _repeating_fraction(match: re.Match[str]) -> str:
    whole, fixed = match[1], match[2]
    repeated = match[3] or match[4] or match[5]
    numerator = int(whole + fixed + repeated) - int((whole + fixed) or "0")
    return f"\\frac{{{numerator}}}{{{10 ** len(fixed) * (10 ** len(repeated) - 1)}}}"


def _brace_parentheses(text: str) -> str:
    r"""``\sqrt(x)`` and ``^(x)`` with braces, for any nesting."""
    pieces: list[str] = []
    closing: list[str] = []
    for char in text:
        if char == "(":
            before = next((piece for piece in reversed(pieces) if piece != " "), "")
            argument = before == "^" or _ROOT.search("".join(pieces[-10:])) is not None
            closing.append("}" if argument else ")")
            char = "{" if argument else "("
        elif char == ")" and closing:
            char = closing.pop()
        pieces.append(char)
    return "".join(pieces)


def _brace_arguments(text: str) -> str:
    r"""``\frac43``, ``\frac{1}2``, ``\sqrt 5`` and ``\sqrt13`` (read as the root of 13) with every argument braced."""
    for match in reversed(list(_ARGUMENTS.finditer(text))):
        position = match.end()
        token = _ROOT_TOKEN if match[1] == "sqrt" else _TOKEN
        if match[1] == "sqrt" and text[position : position + 1] == "[":
            position = text.find("]", position) + 1
        head, arguments = text[: position or match.end()], []
        for _ in range(1 if match[1] == "sqrt" else 2):
            while text[position : position + 1] == " ":
                position += 1
            single = token.match(text, position)
            end = single.end() if single else group_end(text, position) if text[position : position + 1] == "{" else -1
            if end < 0:
                break
            arguments.append(f"{{{single[0]}}}" if single else text[position:end])
            position = end
        else:
            text = head + "".join(arguments) + text[position:]
    return text
