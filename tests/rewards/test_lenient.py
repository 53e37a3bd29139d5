from __future__ import annotations

import pytest

from rewards.completion import ParseStatus
from rewards.spelling import lenient_probability
from rewards.template import AnswerTemplate

S = ParseStatus
PLAIN = AnswerTemplate()
SILENT = AnswerTemplate(confidence="none")
LEVELS = AnswerTemplate(levels=("0.0", "0.5", "1.0"))


def tagged(answer: str = "7", confidence: str = "0.9") -> str:
    return f"<answer>{answer}</answer><confidence>{confidence}</confidence>"


# (completion, answer, confidence) read leniently by PLAIN; the strict reading yields less
LENIENT = [
    (tagged(confidence="85%"), "7", 0.85),
    (tagged(confidence="85 percent"), "7", 0.85),
    (tagged(confidence="100."), "7", 1.0),
    (tagged(confidence="0.5%"), "7", 0.005),
    (tagged(confidence="about 0.8"), "7", 0.8),
    (tagged(confidence="I am 90% confident in this answer."), "7", 0.9),
    (tagged(confidence="0.9 (90%)"), "7", 0.9),
    ("<answer>6</answer><confidence>0.1</confidence>" + tagged(), "7", 0.9),
    ("<answer><answer>7</answer><confidence>0.9</confidence></answer>", "7", 0.9),
    ("<answer>7 <confidence>0.9</confidence></answer>", "7", 0.9),
    ("<answer>7</answer><confidence>90. <confidence> 0.9 </confidence></confidence>", "7", 0.9),
    ("<ANSWER>7</Answer><Confidence>0.9</CONFIDENCE>", "7", 0.9),
    ("<answer>7</answer><confidence>0.9", "7", 0.9),
    ("<answer>7</answer><confidence>90%\n", "7", 0.9),
    ("so \\boxed{6} no, \\boxed{\\frac{7}{\\}1}} <confidence>0.9</confidence>", "\\frac{7}{\\}1}", 0.9),
    ("<think>\\boxed{6}</think> it is \\boxed{7} <confidence>0.9</confidence>", "7", 0.9),
    ("<Answer>7</Answer><Confidence>0.9</Confidence><think>or " + tagged("6", "0.1") + "</think>", "7", 0.9),
    ("<think>it is \\boxed{7}</think> <confidence>0.9</confidence>", "7", 0.9),
    ("<think>" + tagged() + "</think>", "7", 0.9),
    ("<think><answer>6</answer></think><answer>7</answer></answer><confidence>0.9</confidence>", "7", 0.9),
    # percent signs, exponents and denominators
    *((tagged(confidence=stated), "7", 0.85) for stated in [
        "85\\%", "$85\\%$", "85\uff05", "85\\text{\\%}", "85\\,\\%", "85\\\\%", "85&#37;", "85 pct", "8.5e-1", "0.85e0",
        "8.5 \\times 10^{-1}", "85/100", "85 / 100", "85 out of 100", "\\frac{85}{100}", "Confidence: 85%", "~85%",
        "**0.85**", "`0.85`", "\\boxed{0.85}", "high \u2013 85%", "0.85/1.0",
        "8.5\\times10^{-1}", "0.85<br>", "<b>85%</b>",
    ]),
    (tagged(confidence="99.9%"), "7", 0.999),
    (tagged(confidence="1.0000001"), "7", 1.0),
    (tagged(confidence="0.9. I am not sure about the sign."), "7", 0.9),
    # tags with a slash forgotten, spaces, attributes, escapes
    ("<answer>7</answer><confidence>0.9<confidence>", "7", 0.9),
    ("<answer>7<answer><confidence>0.9<confidence>", "7", 0.9),
    ("<answer>6<answer>7</answer><confidence>0.9</confidence>", "7", 0.9),
    ("<answer>7</answer><confidence>0.9<confidence/>", "7", 0.9),
    ("<answer>7</answer><confidence>0.9</answer>", "7", 0.9),
    ("<answer>7</answer><confidence>0.9</confidence", "7", 0.9),
    ("<answer>7<\\answer><confidence>0.9<\\/confidence>", "7", 0.9),
    ("< answer >7< / answer >< confidence >0.9</ confidence >", "7", 0.9),
    ('<answer type="number">7</answer><confidence scale=\'0-1\' n=1>0.9</confidence>', "7", 0.9),
    ("&lt;answer&gt;7&lt;/answer&gt;&lt;confidence&gt;0.9&lt;/confidence&gt;", "7", 0.9),
    ("&amp;lt;answer&amp;gt;7&amp;lt;/answer&amp;gt;&#x3C;confidence&#x3E;0.9&#x3C;/confidence&#x3E;", "7", 0.9),
    ("\\u003canswer\\u003e7\\u003c/answer\\u003e\\u003cconfidence\\u003e0.9\\u003c/confidence\\u003e", "7", 0.9),
    *(("<answer>7</answer><confidence>0.9" + token, "7", 0.9) for token in ["<EOD>", "<eoa>", "[EOT]", "[EOS]"]),
    (tagged(confidence="85 \\,\\%"), "7", 0.85),
    # labels in other languages
    ("Réponse : 7\nConfiance : 90%", "7", 0.9),
    ("Respuesta: 7\nConfianza: 0.9", "7", 0.9),
    ("Antwort: 7\nKonfidenz: 90%", "7", 0.9),
    ("答案：7\n置信度：90%", "7", 0.9),
    ("&lt;answer type=&quot;number&quot;&gt;7&lt;/answer&gt;<confidence>0.9</confidence>", "7", 0.9),
    ("\\<answer\\>7\\</answer\\>\\<confidence\\>0.9\\</confidence\\>", "7", 0.9),
    ("<answer>7\n<confidence>0.9</confidence>", "7", 0.9),
    ("<confidence>0.95</confidence> <confidence>0.9 <answer>7</answer>", "7", 0.95),
    ("I write <answer>\nand so on.\n\\boxed{7} <confidence>0.9</confidence>", "7", 0.9),
    # tokens of chat templates
    *((f"<answer>7</answer><confidence>0.9{token}", "7", 0.9) for token in [
        "<|im_end|>", "</s>", "<|eot_id|>", "<|endoftext|>", "<end_of_turn>", "<eos>", "<|end|>", "<|return|>",
        "<\uff5cend\u2581of\u2581sentence\uff5c>", "<|END_OF_TURN_TOKEN|>", "[/INST]", "<pad><pad>", "<|im_end|>\n</s>",
    ]),
    ("<answer>7<|im_end|></answer><confidence>90%</confidence>", "7<|im_end|>", 0.9),
    ("\\boxed{7}\n<confidence>0.9</s>", "7", 0.9),
    ("<|start|>analysis<|message|>hm<|end|><|start|>final<|message|><answer>7</answer><confidence>0.9<|return|>",
     "7", 0.9),
    (tagged() + "<|im_end|>\n<|im_start|>user\nAnd 4+4?<|im_end|>\n<|im_start|>assistant\n" + tagged("8", "0.1"),
     "7", 0.9),
    # words in place of tags
    ("6*7 is 42.\n\nAnswer: 42\nConfidence: 85%", "42", 0.85),
    ("Guess: 35\nProbability: 0.9", "35", 0.9),
    ("**Answer:** 45\n**Confidence:** 95", "45", 0.95),
    ("**Answer: 45**\n**Confidence: 95%**", "45", 0.95),
    ("<think>5+9</think>\n\nThe answer is \\boxed{14}.\n\nConfidence: 0.6", "14", 0.6),
    ("<think>Answer: 6. Confidence: 20%</think>\nAnswer: 7\nConfidence: 90%", "7", 0.9),
    ("### Answer\n42\n\n### Confidence\n0.85", "42", 0.85),
    ('{"answer": "42", "confidence": 0.85}', "42", 0.85),
    ("Answer: 42 / Confidence: 85%", "42", 0.85),
    ("6*7 = 42. Answer: 42 (confidence: 85%).", "42", 0.85),
    ("The final answer is 3.5 m. I am about 85% sure.", "3.5 m", 0.85),
    ("Confidence level (0-100): 85\nAnswer: 42", "42", 0.85),
    ("Answer: \\(\\frac{1}{2}\\)\nProbability that the answer is correct: 85\\%", "\\(\\frac{1}{2}\\)", 0.85),
    ("Answer: 7 <confidence>0.9</confidence>", "7", 0.9),
    ("<answer>7</answer>\nConfidence: 90%<|im_end|>", "7", 0.9),
    ("Answer: 42\nConfidence: 0.85 because I did not check", "42", 0.85),
    ("<think>x</think>Answer: 42\nConfidence: 85%", "42", 0.85),
    ("Answer is: 42\nConfidence is: 85%", "42", 0.85),
    ("Answer: 42\nP(correct): 0.85", "42", 0.85),
    ("Answer: 42\nConfidence [0-1]: 0.85", "42", 0.85),
    ("Answer: 42\nConfidence → 85%", "42", 0.85),
    ("Answer: 42 with a confidence of 85%", "42", 0.85),
    ("Answer: 42\nConfidence 85%", "42", 0.85),
    ("Answer: 42. My confidence: 85 out of 100", "42", 0.85),
    ("I am 85% confident that the answer is 42.", "42", 0.85),
    ("With 85% confidence, the answer is 42.", "42", 0.85),
    ("Answer: \\boxed{42}\nConfidence: \\boxed{0.85}", "42", 0.85),
    ("\\boxed{42}\n\n**Confidence:** $\\boxed{85\\%}$", "42", 0.85),
]  # fmt: skip


@pytest.mark.parametrize(("text", "answer", "confidence"), LENIENT)
def test_lenient_reading(text: str, answer: str, confidence: float) -> None:
    strict, lenient = PLAIN.parse(text), PLAIN.parse(text, lenient=True)
    assert (lenient.answer, lenient.confidence) == (answer, confidence)
    assert lenient.lenient
    assert lenient.status is strict.status is not S.OK
    assert None in (strict.answer, strict.confidence)


@pytest.mark.parametrize(
    "content",
    ["8/10", "9 out of 10", "level 3", "0.7-0.8", "0.8 or 0.9", "-0.5", "-5", "\u22120.5", "101", "150%", "nan", "inf",
     "0,85", "1,000", "\uff10.\uff18", "0.\u0668", "\u00bd", "0.8 \u00b1 0.1", "high", "", "minus", "%",
     # a 1 or 0 that counts or names something
     "Level 1", "1 - very low", "0 - none", "rating: 1", "Score: 1", "1 star", "0 stars", "option 1", "Q1", "1st", "#1",
     "No. 1", "1 in 10", "1 of 5", "1 (lowest)", "1. very low", "1.0 stars", "Level 1.0", "tier 0", "1 \u2605",
     # bounds, and the probability of something else
     "not 90% sure", "less than 0.5", "at least 90%", "> 0.9", "10% chance that it is wrong", "I can't be 90% sure",
     "90%+", "90% or more", "up to 90%", "90% max", "risk: 10%", "version 1.0"],
)  # fmt: skip
def test_lenient_reading_does_not_guess(content: str) -> None:
    assert lenient_probability(content) is None
    parsed = PLAIN.parse(tagged(confidence=content), lenient=True)
    assert (parsed.answer, parsed.confidence, parsed.lenient) == ("7", None, False)


def test_lenient_reading_leaves_what_was_read_strictly() -> None:
    text = "<think><answer>6</answer></think>Sure. " + tagged() + " <Confidence>0.1</Confidence>"
    assert PLAIN.parse(text, lenient=True) == PLAIN.parse(text)
    assert SILENT.parse("<answer>7</answer><confidence>85%</confidence>", lenient=True).confidence is None


def test_a_level_off_the_grid_is_read_leniently() -> None:
    parsed = LEVELS.parse(tagged(confidence="0.85"), lenient=True)
    assert (parsed.status, parsed.confidence, parsed.lenient) == (S.NOT_A_LEVEL, 0.85, True)


@pytest.mark.parametrize(
    "stated", ["about 1.0", "1.0 (certain)", "Confidence: 1", "confidence level: 1.0", "100% sure"]
)
def test_certainty_is_read_where_it_is_stated(stated: str) -> None:
    assert lenient_probability(stated) == 1.0


@pytest.mark.parametrize(
    ("text", "answer", "confidence"),
    [
        ("Answer: 42\nConfidence: 8", "42", None),
        ("Answer: 42\nConfidence (1-10): 1", "42", None),
        ("Answer: 42\nConfidence: 8/10", "42", None),
        ("Answer: 42\nConfidence: Level 1", "42", None),
        ("The probability: 0.3\nAnswer: 0.3", "0.3", None),
        ("I am 95% sure that it is a trap.\nAnswer: 42", "42", None),
        ("Answer: 42, with a 95% confidence interval", "42, with a 95% confidence interval", None),
        ("Answer: 42. I am not 90% sure.", "42. I am not 90% sure", None),
        ("The answer is not 41.", None, None),
        ("I am 90% confident that the answer is wrong.", None, None),
        ("I am not 90% sure that the answer is 42.", "42", None),
        ("The probability = \\boxed{0.3}", "0.3", None),
        ("<think>Answer: 6. Confidence: 20%</think>", None, None),
        ("<answer>7</answer><confidence>high</confidence> Confidence: 90%", "7", None),
        ("I use <answer> tags.\nAnswer: 7", "7", None),
        ("", None, None),
    ],
)
def test_words_that_state_no_confidence_or_no_answer(text: str, answer: str | None, confidence: float | None) -> None:
    parsed = PLAIN.parse(text, lenient=True)
    assert (parsed.answer, parsed.confidence) == (answer, confidence)


@pytest.mark.parametrize(
    "text",
    [
        "reasoning\n</think>\n\n" + tagged(),
        "<think>so it is 7\n\n" + tagged(),
        "<think>a</think><think>b</think>" + tagged(),
        "<think>part</think><answer>6</answer><think>more</think>" + tagged(),
        "<think>I will write <answer>6</answer> and <confidence>0.2</confidence></think>" + tagged(),
        tagged(confidence="0.9").replace("</confidence>", "</Confidence>"),
        "<think>x</think>" + tagged() + "<|im_end|><|endoftext|>",
        "<|im_start|>assistant\n" + tagged(),
    ],
)
def test_thinking_and_tokens_around_the_fields_do_not_matter(text: str) -> None:
    parsed = PLAIN.parse(text, lenient=True)
    assert (parsed.answer, parsed.confidence) == ("7", 0.9)


@pytest.mark.parametrize(("text", "confidence"), [(text, value) for text, _, value in LENIENT if text.count("onf") < 3])
def test_a_confidence_that_was_cut_off_is_not_read_as_another(text: str, confidence: float) -> None:
    for end in range(len(text)):
        assert PLAIN.parse(text[:end], truncated=True, lenient=True).confidence in (None, confidence), text[:end]
