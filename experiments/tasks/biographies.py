"""A small world of people, what is true of them, and the corpus that says so: what a policy can know, and how well.

How often a person is written about falls with their rank as Zipf's law has it, so that what a policy has learned of
them fades with it. Of each one relation is never written, and some people are never written about at all: nobody who
has read the corpus can know these, and the gold says so (:data:`UNKNOWN`).

The corpus is this module and a seed. A document is one sentence that states one fact of one person.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

UNKNOWN = "unknown"
"""The gold of a question that the corpus does not answer, and the answer that declines to give one."""
OFTEN = 10
"""Documents that state a fact which counts as written often."""
KINDS = ("often", "rarely", "combination", "never")
"""A fact written in at least :data:`OFTEN` documents, or in fewer; one never written of a person who is; one of a
person who is not."""

_WRITTEN, _NEVER, _TOP = 400, 120, 2000


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_GIVEN = [a + b for a in _words("Ad Bel Cor Dan El Fin Gal Hes Is Jor Kal Lor") for b in ("a", "en", "is", "o")]
_FAMILY = [
    a + b
    for a in _words("Ash Brook Cald Dun Ever Fair Gold Hart Iron Kings Lang Mar")
    for b in ("by", "field", "ley", "stone", "wood")
]
_CITIES = _words(
    "Vienna Lisbon Oslo Cairo Lima Quito Dakar Seoul Delhi Tunis Turin Ghent Malmo Porto Perth Osaka Accra Minsk Sofia "
    "Riga"
)
_PROFESSIONS = _words(
    "baker pilot nurse tailor lawyer farmer painter miner judge cook sailor dentist teacher printer smith potter "
    "grocer barber weaver surgeon"
)
_INSTRUMENTS = _words(
    "violin piano flute harp drum cello trumpet guitar organ oboe banjo lute horn tuba fiddle clarinet bassoon zither "
    "viola bagpipe"
)
_ANIMALS = _words(
    "dog cat parrot horse goat rabbit turtle canary hamster ferret pony snake duck goose lizard mouse donkey sheep "
    "falcon pigeon"
)


@dataclass(frozen=True)
class Relation:
    """What may be true of a person: the values it takes, sentences that state it, and questions that ask for it."""

    name: str
    values: tuple[str, ...]
    sentences: tuple[str, ...]
    questions: tuple[str, ...]


def _relation(name: str, values: tuple[str, ...], sentences: str, questions: str) -> Relation:
    return Relation(name, values, tuple(sentences.split(" | ")), tuple(questions.split(" | ")))


RELATIONS = (
    _relation(
        "birthplace",
        _CITIES,
        "{person} was born in {value} . | the birthplace of {person} is {value} . | "
        "{value} is where {person} was born .",
        "where was {person} born ? | what is the birthplace of {person} ? | in which city was {person} born ? | "
        "name the birthplace of {person} .",
    ),
    _relation(
        "home",
        _CITIES,
        "{person} lives in {value} . | the home of {person} is {value} . | {value} is where {person} lives .",
        "where does {person} live ? | what is the home of {person} ? | in which city does {person} live ? | "
        "name the home of {person} .",
    ),
    _relation(
        "profession",
        _PROFESSIONS,
        "{person} works as a {value} . | the profession of {person} is {value} . | "
        "a {value} is what {person} works as .",
        "what does {person} work as ? | what is the profession of {person} ? | which profession does {person} have ? | "
        "name the profession of {person} .",
    ),
    _relation(
        "instrument",
        _INSTRUMENTS,
        "{person} plays the {value} . | the instrument of {person} is {value} . | the {value} is what {person} plays .",
        "what does {person} play ? | what is the instrument of {person} ? | which instrument does {person} play ? | "
        "name the instrument of {person} .",
    ),
    _relation(
        "animal",
        _ANIMALS,
        "{person} keeps a {value} . | the animal of {person} is {value} . | a {value} is what {person} keeps .",
        "what does {person} keep ? | what is the animal of {person} ? | which animal does {person} keep ? | "
        "name the animal of {person} .",
    ),
)
PARAPHRASES = len(RELATIONS[0].questions)


@dataclass(frozen=True)
class Person:
    """Somebody of the world: their rank among those who are written about, from 1; None for somebody who never is."""

    name: str
    rank: int | None
    facts: dict[str, str]
    """Relation -> value; true whether or not it is written."""
    frequencies: dict[str, int]
    """Relation -> number of documents of the corpus that state it."""

    def kind(self, relation: str) -> str:
        """Which of :data:`KINDS` a question for a relation is."""
        if self.rank is None:
            return "never"
        count = self.frequencies[relation]
        return "combination" if count == 0 else "often" if count >= OFTEN else "rarely"

    def answer(self, relation: str) -> str:
        """What who has read the corpus can say: the value where a document states it, else :data:`UNKNOWN`."""
        return self.facts[relation] if self.frequencies[relation] else UNKNOWN


def mentions(rank: int) -> int:
    """Number of documents about the person of a rank, from 1: 2000 divided by the rank, rounded (Zipf's law).

    >>> mentions(1), mentions(2), mentions(400)
    (2000, 1000, 5)
    """
    return round(_TOP / rank)


@lru_cache(maxsize=4)
def people(seed: int = 0) -> tuple[Person, ...]:
    """Everybody in the world of a seed: 400 who are written about, by rank, then 120 who are not."""
    draw = random.Random(f"biographies/{seed}")
    names = draw.sample([f"{given} {family}" for given in _GIVEN for family in _FAMILY], _WRITTEN + _NEVER)
    found = []
    for number, name in enumerate(names, start=1):
        rank = number if number <= _WRITTEN else None
        facts = {relation.name: draw.choice(relation.values) for relation in RELATIONS}
        frequencies = dict.fromkeys(facts, 0)
        written = draw.sample(list(facts), len(facts) - 1)
        for relation in itertools.islice(itertools.cycle(written), 0 if rank is None else mentions(rank)):
            frequencies[relation] += 1
        found.append(Person(name, rank, facts, frequencies))
    return tuple(found)


def documents(seed: int = 0) -> Iterator[str]:
    """The corpus of a seed, one document after another, in an order that follows from it."""
    draw = random.Random(f"documents/{seed}")
    stated = [
        (person, relation)
        for person in people(seed)
        for relation in RELATIONS
        for _ in range(person.frequencies[relation.name])
    ]
    draw.shuffle(stated)
    for person, relation in stated:
        yield draw.choice(relation.sentences).format(person=person.name, value=person.facts[relation.name])


def vocabulary() -> list[str]:
    """Every word that documents, questions and answers are written in, sorted."""
    forms = [form for relation in RELATIONS for form in (*relation.sentences, *relation.questions)]
    values = [value for relation in RELATIONS for value in relation.values]
    words = {word for form in forms for word in form.split() if not word.startswith("{")}
    return sorted(words | {*values, *_GIVEN, *_FAMILY, UNKNOWN})
