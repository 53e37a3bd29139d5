"""Corpus statistics: counts against a naive reading of the same texts, streaming, hostile phrases, and the trigger."""

from __future__ import annotations

import json
import random
import re
import tracemalloc
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import estimators.corpus_index as corpus_index
from estimators.corpus import CorpusEntity, CorpusPair, CorpusTrigger, entities_of, mean_count, pair_count
from estimators.corpus_index import CorpusIndex, build_index
from estimators.estimator import Completions
from estimators.token_statistics import TokenStatistics

DOCUMENTS = [
    "Ada Brook was born in Vienna.",
    "Ada Brook plays the harp.",
    "In Vienna, Ida Marsh plays the harp.",
    "ada brook lives in Oslo",
]


@pytest.fixture
def indexed(tmp_path: Path) -> Callable[..., CorpusIndex]:
    """Builds an index of documents and opens it."""

    def build(documents: list[str]) -> CorpusIndex:
        path = tmp_path / "documents.jsonl"
        path.write_text("".join(json.dumps({"text": each}) + "\n" for each in documents), encoding="utf-8")
        build_index([path], tmp_path / "index")
        return CorpusIndex(tmp_path / "index")

    return build


def found(document: str, phrase: str) -> list[tuple[int, int]]:
    """First and last word of each place where a phrase stands."""
    words, wanted = re.findall(r"\w+", document.lower()), re.findall(r"\w+", phrase.lower())
    size = len(wanted)
    return [(at, at + size - 1) for at in range(len(words) - size + 1) if words[at : at + size] == wanted]


def test_counts_are_those_of_a_naive_reading(indexed: Callable[..., CorpusIndex]) -> None:
    draw = random.Random(0)
    documents = [
        " ".join(draw.choices(["Ash", "Brook", "Cald", "née", "Dun"], k=draw.randint(1, 12))) for _ in range(300)
    ]
    index = indexed(documents)
    for _ in range(60):
        first, second = (
            " ".join(draw.choices(["ash", "brook", "cald", "Née", "dun"], k=draw.randint(1, 2))) for _ in range(2)
        )
        window = draw.choice([0, 1, 3, 1000])
        assert index.count(first) == sum(bool(found(each, first)) for each in documents)
        if set(first.lower().split()).isdisjoint(second.lower().split()):
            near = [
                any(
                    0 <= later[0] - earlier[1] - 1 <= window
                    for a in found(each, first)
                    for b in found(each, second)
                    for earlier, later in [sorted((a, b))]
                )
                for each in documents
            ]
            assert index.count_pair(first, second, window) == index.count_pair(second, first, window) == sum(near)


def test_files_of_text_and_of_json_lines_say_what_was_seen(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One two\nthree.\n\n\n  \nFour.\n\n...\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "four five"}\n\n{"text": "-"}\n', encoding="utf-8")
    facts = build_index([tmp_path / "a.txt", tmp_path / "b.jsonl"], tmp_path / "index")
    assert (facts.documents, facts.words, facts.files) == (3, 6, ("a.txt", "b.jsonl"))
    index = CorpusIndex(tmp_path / "index")
    assert index.facts == facts
    assert [index.count(each) for each in ("two three", "three four", "FOUR")] == [1, 0, 2]


def test_a_long_document_counts_as_several_and_is_never_whole_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_index, "LONGEST_DOCUMENT", 1000)
    monkeypatch.setattr(corpus_index, "_CHUNK", 2**12)
    peaks = []
    for words in (20_000, 200_000):
        path = tmp_path / f"{words}.txt"
        path.write_text("word " * words, encoding="utf-8")  # one line without an end
        tracemalloc.start()
        facts = build_index([path], tmp_path / "index")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert words / 1000 <= facts.documents <= words / 500
        assert facts.words == pytest.approx(words, abs=words / 500)  # a word may be cut in two at a chunk's end
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize(
    "phrase",
    ['ada" OR "harp', "Ada* brook", "NEAR(ada harp, 5)", "text: ada", "ada AND harp", "'; DROP TABLE corpus; --"],
)
def test_a_phrase_is_words_and_no_query(phrase: str, indexed: Callable[..., CorpusIndex]) -> None:
    index = indexed(DOCUMENTS)
    words = re.findall(r"\w+", phrase)
    assert index.count(phrase) == sum(bool(found(each, " ".join(words))) for each in DOCUMENTS)
    assert index.count("Ada Brook") == 3


def test_what_has_no_word_or_is_too_long_has_no_count(indexed: Callable[..., CorpusIndex]) -> None:
    index = indexed(DOCUMENTS)
    assert index.count(" ?! ") is None and index.count_pair("Ada", "") is None
    assert index.count("a" * 201) is None
    assert index.count("_") is None and index.count_pair("Ada Brook", "_") is None
    assert index.count_pair("Ada Brook", "\u19b0") == 0, "a letter that the index may not know stands beside nothing"


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("asked", ["NFC", "NFD"])
def test_accents_are_found_however_they_are_encoded(
    stored: str, asked: str, indexed: Callable[..., CorpusIndex]
) -> None:
    index = indexed([unicodedata.normalize(stored, "Ada Brook knew Zo\u00eb in Vi\u1ec7t X\u030c. A \ud800 half.")])
    question = unicodedata.normalize(asked, "Who knew Zo\u00eb?")
    assert entities_of(question) == ["Zo\u00eb"] and mean_count(index, question) == 1
    assert [index.count(unicodedata.normalize(asked, each)) for each in ("Vi\u1ec7t X\u030c", "A \ud800 half")] == [
        1,
        1,
    ]
    assert pair_count(index, question, "Ada Brook") == 1
    assert pair_count(index, question, unicodedata.normalize(asked, "zo\u00eb")) is None, "it stands beside itself"


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    broken, empty = tmp_path / "b.jsonl", tmp_path / "e.txt"
    broken.write_text('{"text": "a"}\n{"txt": 1}\n', encoding="utf-8")
    empty.write_text("\n ...\n", encoding="utf-8")
    (tmp_path / "link.txt").symlink_to(empty)
    packed = tmp_path / "p.parquet"
    packed.write_bytes(b"PAR1 words\0 and more")
    for files, message in [
        ([broken], r"b\.jsonl:2: expected an object with a document under text, found {\"txt\": 1}"),
        ([packed], r"p\.parquet: is no text in UTF-8, it holds a byte of 0"),
        ([empty], r"e\.txt: holds no document"),
        ([empty, broken, tmp_path / "." / "link.txt"], r"link\.txt: is named twice"),
        ([tmp_path / "absent.txt"], r"absent\.txt: cannot be read: No such file"),
    ]:
        with pytest.raises(ValueError, match=message):
            build_index(files, tmp_path / "index")
    with pytest.raises(ValueError, match="index: holds no corpus index; candor corpus build"):
        CorpusIndex(tmp_path / "index")
    assert not list((tmp_path / "index").iterdir())  # nothing half-made is left
    build_index([tmp_path / "b.jsonl"] if broken.write_text('{"text": "a"}\n') else [], tmp_path / "index")
    (tmp_path / "index" / "corpus.json").write_text('{"documents": 1, "words": 1, "files": [], "format": 9}')
    with pytest.raises(ValueError, match="is an index of format 9, expected 2"):
        CorpusIndex(tmp_path / "index")


@pytest.mark.parametrize(
    ("question", "entities"),
    [
        ("where was Ada Brook born ?", ["Ada Brook"]),
        ("Where was Ada Brook born?", ["Ada Brook"]),
        ("Who met Ada Brook and Jean-Luc O'Hara in New York?", ["Ada Brook", "Jean-Luc O'Hara", "New York"]),
        ("what is it ?", []),
        ("user\nAnswer in This Format.\n\nIs Émile older than Émile?", ["Émile"]),
    ],
)
def test_entities_are_runs_of_capitalised_words(question: str, entities: list[str]) -> None:
    assert entities_of(question) == entities


def test_the_trigger_flags_what_was_never_read_together(indexed: Callable[..., CorpusIndex]) -> None:
    index, trigger = indexed(DOCUMENTS), CorpusTrigger(question_below=2, yes_no_below=4)
    question = "Where was Ada Brook born?"
    assert trigger.reasons(index, question, None) == trigger.reasons(index, question, "Vienna") == ()
    assert trigger.reasons(index, question, "Lima") == ("unseen pair",)
    assert trigger.reasons(index, question, "Marsh") == ("unseen pair",)  # each is there, together they are not
    assert trigger.reasons(index, "Where was Ida Marsh born?", "Vienna") == ("rare entity",)
    assert trigger.reasons(index, "Is Ada Brook a pilot?", "Yes") == ("rare entity",)  # below the threshold of its own
    assert trigger.reasons(index, "what is it?", "Vienna") == ("nothing to count",)
    assert trigger.reasons(index, question, "?") == ("nothing to count",)
    assert trigger.reasons(index, question, "Ada Brook") == ("nothing to count",)  # it stands beside itself
    assert trigger.reasons(index, "Did Ada Brook meet Ida Marsh?", "ada brook") == ("unseen pair",)
    assert CorpusTrigger() == CorpusTrigger(1000, 1, 20)  # the paper's


def of_texts(prompts: list[str], answers: list[str | None]) -> Completions:
    none_BT = torch.zeros(len(prompts), 2, dtype=torch.bool)
    return Completions(
        prompt_ids=[[1]] * len(prompts), completion_ids=[[2, 3]] * len(prompts), written_BT=~none_BT,
        reasoning_BT=none_BT, answer_BT=none_BT, confidence_BT=none_BT, steps_BT=torch.full((len(prompts), 2), -1),
        stated_B=torch.ones(len(prompts), dtype=torch.float64), prompts=prompts, answers=answers,
    )  # fmt: skip


def test_the_estimators_count_question_and_answer(indexed: Callable[..., CorpusIndex], tmp_path: Path) -> None:
    index = indexed(DOCUMENTS)
    question = "Where was Ada Brook born?"
    completions = of_texts([question] * 4 + ["Is Ada Brook in Vienna?"], ["Vienna", "Lima", None, "?", "yes"])
    statistics = TokenStatistics.empty((5, 2))
    pair = CorpusPair(str(tmp_path / "index"))(completions, statistics)
    assert pair.values_B[:2].tolist() == [1.0, 0.0] and pair.valid_B.tolist() == [True, True, False, False, False]
    entity = CorpusEntity(str(tmp_path / "index"))(completions, statistics)
    assert entity.values_B.tolist() == [3.0, 3.0, 3.0, 3.0, 2.5]
    assert pair_count(index, question, "Vienna") == 1 and mean_count(index, "Is Ada Brook in Vienna?") == 2.5
    with pytest.raises(ValueError, match="reads texts, and the completions have no prompts"):
        CorpusPair(str(tmp_path / "index"))(replace(completions, prompts=()), statistics)
    with pytest.raises(ValueError, match="holds no corpus index"):  # and no "nothing was flagged"
        CorpusPair(str(tmp_path / "nowhere"))(completions, statistics)
