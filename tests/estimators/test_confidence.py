"""One answer's confidence, from a text, from a server's log-probabilities and from a model; with numpy alone."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from estimators import Confidence
from estimators.exported import file_digest, read_manifest, write_manifest
from estimators.gate import Gate
from estimators.gate_fitting import fit_error
from estimators.recalibration import Recalibration, fit

LEVELS = ("0.0", "0.5", "1.0")
ECE = {"ece": {"value": 0.02, "low": 0.01, "high": 0.04}}
ROOT = Path(__file__).resolve().parents[2]


def folder(
    path: Path, estimator: str = "expected_confidence", *, recalibrated: bool = False, temperature: float = 0.5
) -> Path:
    """A folder as an export leaves it, with the weights of a model of a few bytes."""
    calibration = path / "calibration"
    calibration.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"weights of one model")
    (calibration / "template.json").write_text(json.dumps({"levels": LEVELS}))
    rng = np.random.default_rng(0)
    c = rng.random(1000)
    y = (rng.random(1000) < c).astype(float)
    files = ["model.safetensors", "calibration/template.json", "calibration/gate.json"]
    fit_error([c], [y], alpha=0.25, source="rows").save(calibration / "gate.json")
    if recalibrated:
        fit("platt", c**2, y).save(calibration / "recalibration.json")
        files.append("calibration/recalibration.json")
    measured = {estimator: ECE, "verbalized": {"ece": {"value": 0.3}}, "recalibrated": {"ece": {"value": 0.0}}}
    content = {"estimator": estimator, "options": {}, "temperature": temperature, "measured": measured}
    write_manifest(path, content, files)
    return path


def entry(token: str, log_prob: float = -0.1, **top: float) -> dict[str, Any]:
    listed = [{"token": name, "logprob": math.log(value)} for name, value in top.items()]
    return {"token": token, "logprob": log_prob, "bytes": list(token.encode()), "top_logprobs": listed}


def reply(*levels: tuple[str, float], written: str = "0.5", answer: tuple[float, ...] = (0.9, 0.8)) -> dict[str, Any]:
    tokens = [entry("<answer>"), *(entry("7", math.log(p)) for p in answer), entry("</answer>"), entry("<confidence>")]
    tokens += [entry(written, math.log(dict(levels)[written]), **dict(levels)), entry("</confidence>")]
    text = "".join(each["token"] for each in tokens)
    return {"choices": [{"message": {"content": text}, "logprobs": {"content": tokens}, "finish_reason": "stop"}]}


ALL = (("0.0", 0.1), ("0.5", 0.3), ("1.0", 0.4))


def test_the_mean_level_at_the_temperature_of_training(tmp_path: Path) -> None:
    reading = Confidence.load(folder(tmp_path / "a"))(**_arguments(reply(*ALL)))
    # The worked example of estimators.expected_confidence.mean_level.
    assert reading["confidence"] == pytest.approx(0.788462, abs=1e-6) == reading["read"]
    assert reading["source"] == "measured" and reading["calibrated"] == ECE
    gate = Gate.load(tmp_path / "a")
    assert reading["threshold"] == gate.tiers[0].threshold and reading["decision"] == gate.decide(0.788462)
    assert reading["guarantee"] == {
        "promise": "error", "at_most": 0.25, "probability": 0.9, "rows": 1000, "data": "rows"
    }  # fmt: skip
    token = Confidence.load(folder(tmp_path / "b", "confidence_token"))(**_arguments(reply(*ALL)))
    assert token["confidence"] == pytest.approx(0.4**2 / (0.4**2 + 0.1**2))


def test_marks_behind_the_answer(tmp_path: Path) -> None:
    path = folder(tmp_path, "confidence_token", temperature=1.0)
    template = {"levels": ["<UN>", "<CN>"], "confidence": "token", "thinking": "optional", "analysis": "none"}
    (path / "calibration" / "template.json").write_text(json.dumps(template))
    manifest = json.loads((path / "calibration" / "calibration.json").read_text())
    write_manifest(
        path,
        {key: manifest[key] for key in ("estimator", "options", "temperature", "measured")},
        manifest["files"],
    )
    tokens = [
        entry("<answer>"),
        entry("7"),
        entry("</answer>"),
        entry("<CN>", math.log(0.6), **{"<CN>": 0.6, "<UN>": 0.2}),
    ]
    reading = Confidence.load(path)(text="<answer>7</answer><CN>", logprobs=tokens)
    assert reading["source"] == "measured" and reading["confidence"] == pytest.approx(0.75)


def test_the_answers_probability(tmp_path: Path) -> None:
    whole = Confidence.load(folder(tmp_path / "a", "answer_probability"))(**_arguments(reply(*ALL)))
    assert whole["confidence"] == pytest.approx(0.72)
    least = Confidence.load(folder(tmp_path / "b", "answer_min_probability"))(**_arguments(reply(*ALL)))
    assert least["confidence"] == pytest.approx(0.8)


def test_what_was_only_stated_is_said_to_be_and_not_answered_on(tmp_path: Path) -> None:
    confidence = Confidence.load(folder(tmp_path / "a"))
    text = reply(*ALL, written="1.0")["choices"][0]["message"]["content"]
    reading = confidence(text=text)
    assert (reading["confidence"], reading["source"], reading["decision"]) == (1.0, "stated", "escalate")
    assert reading["calibrated"] == {"ece": {"value": 0.3}} and "log-probabilities" in reading["reason"]
    nothing = confidence(text="<answer>7</answer>")
    assert (nothing["confidence"], nothing["source"], nothing["calibrated"]) == (None, "none", None)
    assert nothing["decision"] == "escalate"
    stated = Confidence.load(folder(tmp_path / "b", "verbalized"))(text=text)
    assert (stated["confidence"], stated["source"], stated["decision"]) == (1.0, "stated", "answer")


def test_levels_that_a_server_left_out_matter_only_where_they_can(tmp_path: Path) -> None:
    confidence = Confidence.load(folder(tmp_path, temperature=1.0))
    few = confidence(**_arguments(reply(("0.5", 0.5), ("x", 0.3))))
    assert few["source"] == "stated" and "1 of 3 levels" in few["reason"]
    appended = confidence(**_arguments(reply(("1.0", 0.9), ("0.5", 1e-9))))
    assert appended["source"] == "stated" and "2 of 3 levels" in appended["reason"], "0.0 may have a tenth"
    enough = confidence(**_arguments(reply(("0.5", 0.5), ("1.0", 0.4), ("x", 1e-9))))
    assert enough["source"] == "measured" and enough["confidence"] == pytest.approx(0.65 / 0.9, abs=1e-8)


def test_tokens_that_state_something_else_than_the_text_are_not_read(tmp_path: Path) -> None:
    answer = reply(*ALL)["choices"][0]
    text = answer["message"]["content"].replace("0.5", "1.0")
    reading = Confidence.load(folder(tmp_path))(text=text, logprobs=answer["logprobs"])
    assert reading["source"] == "stated" and reading["decision"] == "escalate"


def test_a_recalibration_maps_what_is_said_and_the_gate_compares_what_was_read(tmp_path: Path) -> None:
    confidence = Confidence.load(folder(tmp_path, recalibrated=True))
    reading = confidence.of_response(reply(*ALL))
    mapped = Recalibration.load(tmp_path)([0.788462])[0]
    assert reading["confidence"] == pytest.approx(mapped, abs=1e-5) and reading["read"] == pytest.approx(0.788462)
    assert reading["calibrated"] == {"ece": {"value": 0.0}}
    assert reading["decision"] == Gate.load(tmp_path).decide(0.788462)


def test_replies_of_other_forms_are_read_alike(tmp_path: Path) -> None:
    confidence, chat = Confidence.load(folder(tmp_path)), reply(*ALL)
    (choice,) = chat["choices"]
    text, tokens = choice["message"]["content"], choice["logprobs"]["content"]
    expected = confidence.of_response(chat)
    parts = {**choice, "message": {"content": [{"type": "text", "text": text[:9]}, {"type": "text", "text": text[9:]}]}}
    tops = [{top["token"]: top["logprob"] for top in each["top_logprobs"]} for each in tokens]
    own = {name: [each[key] for each in tokens] for name, key in (("tokens", "token"), ("token_logprobs", "logprob"))}
    for other in (parts, {"text": text, "logprobs": {**own, "top_logprobs": tops}}):
        assert confidence.of_response({"choices": [other]}) == expected
    silent = confidence.of_response({"choices": [{**choice, "logprobs": {"content": None}}]})
    assert (silent["source"], silent["decision"]) == ("stated", "escalate")


def test_tokens_of_another_answer_are_not_read(tmp_path: Path) -> None:
    choice, confidence = reply(*ALL)["choices"][0], Confidence.load(folder(tmp_path, "answer_probability"))
    text = choice["message"]["content"]
    reading = confidence(text=text.replace("77", "8"), logprobs=choice["logprobs"])
    assert reading["source"] == "stated" and reading["reason"] == "the tokens write another answer than the text"
    told = confidence(text=text.replace("77", "7\u00e97"), logprobs=choice["logprobs"])
    assert told["source"] == "measured", "a server may tell a character that tokens share in a way of its own"


def test_a_level_without_any_probability_is_no_reading(tmp_path: Path) -> None:
    choice = reply(*ALL)["choices"][0]
    tokens = [each | {"logprob": -math.inf, "top_logprobs": []} for each in choice["logprobs"]["content"]]
    reading = Confidence.load(folder(tmp_path))(text=choice["message"]["content"], logprobs=tokens)
    assert reading["read"] is None and reading["reason"] == "none of the levels has a probability"


def test_neither_text_nor_log_probabilities(tmp_path: Path) -> None:
    confidence = Confidence.load(folder(tmp_path))
    with pytest.raises(ValueError, match="neither text nor logprobs"):
        confidence()
    with pytest.raises(ValueError, match="choices"):
        confidence.of_response({"error": "busy"})
    for response in (None, "text", {"choices": [{"message": {"content": [{"type": "text"}]}}]}):
        with pytest.raises(ValueError, match="found, expected choices"):
            confidence.of_response(response)
    with pytest.raises(ValueError, match="text: int found, expected a text"):
        confidence(text=3)  # type: ignore[arg-type]


def test_another_models_folder_is_refused(tmp_path: Path) -> None:
    mine, other = folder(tmp_path / "mine"), folder(tmp_path / "other")
    (other / "model.safetensors").write_bytes(b"weights of another model")
    for load in (Gate.load, Confidence.load):
        with pytest.raises(ValueError, match="another model's"):
            load(other)
    (other / "model.safetensors").unlink()
    assert Gate.load(other).feasible, "a router needs no weights"
    (other / "model-00001-of-00002.safetensors").write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"model-00001-of-00002\.safetensors was not exported"):
        Gate.load(other)
    with pytest.raises(ValueError, match="exported without recalibration"):
        Recalibration.load(mine)
    manifest = mine / "calibration" / "calibration.json"
    manifest.write_text(manifest.read_text().replace('"value": 0.02', '"value": 0.01'))
    with pytest.raises(ValueError, match="changed"):
        Confidence.load(mine)
    with pytest.raises(ValueError, match="holds no calibration"):
        Gate.load(tmp_path)


def test_a_changed_or_missing_calibration_file_is_noticed(tmp_path: Path) -> None:
    path = folder(tmp_path)
    (path / "calibration" / "template.json").write_text("{}")
    with pytest.raises(ValueError, match=r"template\.json is not the one"):
        read_manifest(path)
    (path / "calibration" / "template.json").unlink()
    with pytest.raises(ValueError, match=r"template\.json is missing"):
        read_manifest(path)
    for text in ("nothing", "[" * 100_000, "3"):
        (path / "calibration" / "template.json").write_text(text)
        write_manifest(path, KEPT, ["model.safetensors", "calibration/template.json", "calibration/gate.json"])
        with pytest.raises(ValueError, match=r"template\.json: is not a template"):
            Confidence.load(path)


KEPT = {"estimator": "expected_confidence", "options": {}, "temperature": 1.0, "measured": {}}


@pytest.mark.parametrize(
    "name",
    ["chat_template.jinja", "special_tokens_map.json", "adapter_config.json", "pytorch_model.bin", "modeling_x.py",
     "merges.txt", "additional_chat_templates/x.jinja", "calibration/sampling.json"],
)  # fmt: skip
def test_a_file_that_loaders_read_and_nobody_exported_is_noticed(tmp_path: Path, name: str) -> None:
    added = folder(tmp_path) / name
    (tmp_path / "README.md").write_text("notes are nobody's")
    assert read_manifest(tmp_path)
    added.parent.mkdir(exist_ok=True)
    added.write_text("{}")
    with pytest.raises(ValueError, match=f"{name} was not exported with this calibration"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("changes", [{"estimator": 3}, {"options": []}, {"temperature": "hot"}, {"measured": None}])
def test_a_manifest_says_all_that_a_reading_needs(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = folder(tmp_path)
    write_manifest(path, KEPT | changes, ["model.safetensors"])
    with pytest.raises(ValueError, match=f"{next(iter(changes))} is .*expected what candor export writes"):
        Confidence.load(path)


def test_json_nested_too_deep_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = folder(tmp_path)
    for name, load in (("gate", Gate.load), ("recalibration", Recalibration.load), ("calibration", Confidence.load)):
        deep = path / "calibration" / f"{name}.json"
        deep.write_text("[" * 100_000)
        with pytest.raises(ValueError, match=f"{name}.json: not valid JSON"):
            load(path if name == "calibration" else deep)


def test_the_digest_of_a_large_file_sees_its_ends_and_its_size(tmp_path: Path) -> None:
    path = tmp_path / "large"
    content = bytearray(17 * 2**20)
    digests = set()
    for place in (None, 0, len(content) - 1, 2**20 + 3):
        if place is not None:
            content[place] ^= 1
        path.write_bytes(content)
        digests.add(file_digest(path))
    path.write_bytes(content + b"\0")
    assert len(digests | {file_digest(path)}) == 5


def test_numpy_alone_loads_and_decides(tmp_path: Path) -> None:
    """A thousand recorded confidences in a process in which nothing else can be imported: the same decisions."""
    path, rng = folder(tmp_path / "f", recalibrated=True), np.random.default_rng(1)
    confidences = rng.random(1000).tolist()
    (tmp_path / "rows.json").write_text(json.dumps({"confidences": confidences, "reply": reply(*ALL)}))
    program = f"""
import importlib.abc, json, sys
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ("numpy", "estimators"):
            raise ImportError(f"{{name}} is blocked")
sys.meta_path.insert(0, Block())
from estimators import Confidence
from estimators.gate import Gate
from estimators.recalibration import Recalibration
rows = json.load(open({str(tmp_path / "rows.json")!r}))
gate = Gate.load({str(path)!r})
Recalibration.load({str(path)!r})
reading = Confidence.load({str(path)!r}).of_response(rows["reply"])
print(json.dumps({{"actions": gate.actions(rows["confidences"]).tolist(), "reading": reading}}))
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["actions"] == Gate.load(path).actions(confidences).tolist() and len(set(found["actions"])) == 2
    assert found["reading"] == Confidence.load(path).of_response(reply(*ALL))


def test_a_model_is_read_as_the_estimator_reads_it(policy: Any, tmp_path: Path) -> None:
    import torch

    from estimators.expected_confidence import ExpectedConfidence
    from experiments.probe.estimates import estimate_generations
    from experiments.probe.generate import Policy, generate

    path = folder(tmp_path)
    (path / "calibration" / "template.json").write_text(json.dumps({"levels": policy.template.levels}))
    manifest = json.loads((path / "calibration" / "calibration.json").read_text())
    kept = {key: manifest[key] for key in ("estimator", "options", "temperature", "measured")}
    write_manifest(path, kept, manifest["files"])
    confidence = Confidence.load(path)
    model, tokenizer = policy.load()
    asked = Policy(model, tokenizer, policy.template, 0.5)
    answers = generate(asked, [row["prompt"] for row in policy.rows], max_new_tokens=12, batch_size=8, title=None)
    expected = estimate_generations(asked, answers, {"e": ExpectedConfidence()}, batch_size=8)["e"].values_B
    readings = [
        confidence.of_model(model, tokenizer, each.prompt_ids, each.completion_ids[: -1 if each.decoded.finished else None])  # noqa: E501
        for each in answers
    ]  # fmt: skip
    read = torch.tensor([math.nan if each["read"] is None else each["read"] for each in readings])
    assert read.isnan().sum() < len(read) and torch.allclose(read.double(), expected, atol=1e-5, equal_nan=True)
    with pytest.raises(ValueError, match="not one token of this tokenizer"):
        Confidence("expected_confidence", {}, ("0.123",), 1.0, {}).of_model(model, tokenizer, [1], [1])


def _arguments(response: dict[str, Any]) -> dict[str, Any]:
    choice = response["choices"][0]
    return {"text": choice["message"]["content"], "logprobs": choice["logprobs"]}
