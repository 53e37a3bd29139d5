"""The knowledge world: Zipf's law, golds that the corpus bears out, splits that share nobody, a token a word."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from experiments.tasks import Facts
from experiments.tasks.biographies import KINDS, OFTEN, RELATIONS, UNKNOWN, documents, mentions, people, vocabulary
from experiments.tasks.facts import questions, warm_up
from experiments.tasks.splits import SPLITS
from experiments.tasks.word_tokenizer import word_tokenizer
from rewards.template import AnswerTemplate
from rewards.verifiers.text import judge
from rl.segments import decode_completion
from rl.sft import sft_rows

TEMPLATE = AnswerTemplate(thinking="none", levels=("0.0", "0.5", "1.0"), abstain=UNKNOWN)
CORPUS = list(documents())


def stated() -> Counter[tuple[str, str, str]]:
    """(person, relation, value) -> number of documents, read back from the text alone."""
    names = {person.name for person in people()}
    found: Counter[tuple[str, str, str]] = Counter()
    for document in CORPUS:
        words = document.split()
        (name,) = {f"{a} {b}" for a, b in itertools.pairwise(words)} & names
        hits = [
            (name, relation.name, value)
            for relation in RELATIONS
            for value in relation.values
            if value in words
            if document in {sentence.format(person=name, value=value) for sentence in relation.sentences}
        ]
        assert len(hits) == 1
        found[hits[0]] += 1
    return found


def test_the_corpus_follows_zipfs_law() -> None:
    named = Counter(name for name, _, _ in stated().elements())
    ranked = sorted(named.values(), reverse=True)
    assert ranked == [mentions(rank) for rank in range(1, len(ranked) + 1)]
    slope = np.polyfit(np.log(np.arange(1, len(ranked) + 1)), np.log(ranked), 1)[0]
    assert slope == pytest.approx(-1.0, abs=0.01)


def test_golds_are_what_the_corpus_says_and_unknown_where_it_says_nothing() -> None:
    found = stated()
    assert sum(found.values()) == len(CORPUS)
    for person in people():
        for relation in RELATIONS:
            counts = {value: found[person.name, relation.name, value] for value in relation.values}
            told = [value for value, count in counts.items() if count]
            assert told == ([] if person.answer(relation.name) == UNKNOWN else [person.answer(relation.name)])
            assert sum(counts.values()) == person.frequencies[relation.name]
            often = sum(counts.values()) >= OFTEN
            named = any(key[0] == person.name for key in found)
            expected = ("often" if often else "rarely") if told else ("combination" if named else "never")
            assert person.kind(relation.name) == expected


def test_who_is_never_written_about_stands_in_no_document() -> None:
    text = "\n".join(CORPUS)
    never = [person.name for person in people() if person.rank is None]
    assert never and not any(name in text for name in never)
    assert all(part in text for name in never for part in name.split())  # of names that others have
    seen = [person for person in people() if person.rank is not None]
    assert all(0 in person.frequencies.values() for person in seen)  # an unseen combination of each


def test_world_and_questions_follow_from_their_seeds() -> None:
    assert CORPUS == list(documents(0)) != list(documents(1))
    assert people(1) == people(1) != people(0)
    first, same, other = (list(questions("test", 100, seed=seed)) for seed in (0, 0, 1))
    assert first == same != other
    assert list(warm_up(50)) == list(warm_up(50)) != list(warm_up(50, seed=1))


def test_splits_share_nobody_and_those_to_measure_on_no_question() -> None:
    asked = {split: list(questions(split, 400)) for split in SPLITS}
    asked["warmup"] += [row for row in warm_up(2000) if "answer" in row]
    people_of = {split: {row["entity"] for row in rows} for split, rows in asked.items()}
    for one, other in itertools.combinations(SPLITS, 2):
        assert people_of[one].isdisjoint(people_of[other])
    assert len({row["id"] for row in asked["test"]}) == 400
    with pytest.raises(ValueError, match=r"split 'validation' has only \d+ distinct questions, 99999 were asked for"):
        list(questions("validation", 99_999))
    with pytest.raises(ValueError, match="split 'shifted' is not one of"):
        list(questions("shifted", 1))


def test_every_kind_is_asked_about_in_every_wording() -> None:
    rows = list(questions("train", 2000))
    shares = Counter(row["group"] for row in rows)
    assert [shares[kind] / 2000 for kind in KINDS] == pytest.approx([0.25, 0.35, 0.2, 0.2], abs=0.04)
    assert {row["paraphrase"] for row in rows} == {0, 1, 2, 3}
    wordings: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        assert row["entity"] in row["question"] and (row["frequency"] == 0) == (row["answer"] == UNKNOWN)
        wordings.setdefault((row["entity"], row["relation"]), set()).add(row["question"])
    assert max(map(len, wordings.values())) == 4
    unanswerable = next(row for row in rows if row["group"] == "never")
    assert judge(unanswerable["answer"], "unknown").correct == 1.0
    assert judge(unanswerable["answer"], "Vienna").correct == 0.0


def test_the_warm_start_reads_documents_and_answers_what_is_written_and_declines_a_few() -> None:
    rows = list(warm_up(3000))
    read = [row["prompt"] + row["continuation"] for row in rows if "continuation" in row]
    assert read == CORPUS[: len(read)] and len(read) / 3000 == pytest.approx(0.6, abs=0.05)
    answered = [row for row in rows if "answer" in row]
    assert all(row["frequency"] for row in answered)
    declined = [row for row in answered if row["demonstration"] == UNKNOWN]
    assert 0 < len(declined) / len(answered) < 0.05
    pairs = sft_rows(Facts(template=TEMPLATE, train_split="warmup").rows("train", 60), TEMPLATE, seed=0)
    assert {pair["completion"].startswith("<answer>") for pair in pairs} == {True, False}
    assert sum(pair["prompt"] + pair["completion"] in CORPUS for pair in pairs) > 20


def test_every_text_of_the_world_survives_its_tokenizer_a_word_a_token() -> None:
    tokenizer = word_tokenizer(TEMPLATE, vocabulary())
    texts = [*CORPUS[:300], *(row["question"] for row in questions("test", 300))]
    for text in texts:
        ids = tokenizer.encode(text)
        assert len(ids) == len(text.split()) and tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text
    for answer in ("Vienna", UNKNOWN):
        text = TEMPLATE.render(answer, "0.5")
        ids = [*tokenizer.encode(text), tokenizer.eos_token_id]
        assert len(ids) == 7
        decoded = decode_completion(tokenizer, ids)
        assert decoded.text == text and decoded.finished
        assert tokenizer.encode(answer)[0] == ids[1]  # the same token as in a document
    assert tokenizer.unk_token_id in tokenizer.encode("Ada plays chess")


def test_a_size_that_makes_no_questions_is_refused() -> None:
    with pytest.raises(ValueError, match=r"task\.train_size: 0 is below 1"):
        Facts(train_size=0)
    task = Facts(template=TEMPLATE, instructions=True)
    (row,) = task.rows("test", 1)
    assert row["prompt"].endswith(("?", ".")) and "exactly this as your answer: unknown" in row["prompt"]
