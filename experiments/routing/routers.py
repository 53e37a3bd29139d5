"""Routers that see the prompt alone, before anything is generated: what a confidence has to beat to earn its cost.

Each is fitted on prompts with the outcomes of both models and then says, for a prompt, how sure it is that the small
model will do: a number in [0, 1], higher keeps the question with the small model. They differ in what they predict:
``length``, ``tfidf`` and ``neighbours`` whether the small model is right, ``win`` whether it is at least as good as the
large one, ``matrix_factorisation`` which of the two is better where they differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.utils.extmath import randomized_svd

from estimators.metrics.inputs import FloatArray


class Embedding(Protocol):
    """Turns prompts into vectors."""

    def fit(self, prompts: Sequence[str]) -> None:
        """Learn what has to be learnt from the prompts of the training part."""

    def __call__(self, prompts: Sequence[str]) -> FloatArray:
        """Vectors (N, D)."""


class Router(Protocol):
    """Fitted on outcomes, it says of a prompt how sure it is that the small model will do."""

    def fit(self, prompts: Sequence[str], small: FloatArray, large: FloatArray) -> None:
        """Learn from prompts and the correctness (N,) of both models, in [0, 1]."""

    def __call__(self, prompts: Sequence[str]) -> FloatArray:
        """Confidence (N,) in [0, 1], higher keeps the question with the small model."""


class _Logistic:
    """Logistic regression that also takes labels of one class, whose share, smoothed by one of each, is then said."""

    def fit(self, features: Any, labels: FloatArray) -> None:
        right = labels > 0.5
        self._share = (right.sum() + 1.0) / (len(right) + 2.0)
        one_class = right.all() or not right.any()
        self._model = None if one_class else LogisticRegression(max_iter=1000).fit(features, right)

    def __call__(self, features: Any) -> FloatArray:
        if self._model is None:
            return np.full(features.shape[0], self._share)
        said: FloatArray = self._model.predict_proba(features)[:, 1]
        return said


class Length:
    """P(small is right) from the logarithm of the prompt's number of characters: the plainest difficulty there is."""

    def __init__(self) -> None:
        self._scale, self._model = StandardScaler(), _Logistic()

    def fit(self, prompts: Sequence[str], small: FloatArray, large: FloatArray) -> None:
        self._model.fit(self._scale.fit_transform(self._features(prompts)), small)

    def __call__(self, prompts: Sequence[str]) -> FloatArray:
        return self._model(self._scale.transform(self._features(prompts)))

    def _features(self, prompts: Sequence[str]) -> FloatArray:
        return np.log1p([[float(len(prompt))] for prompt in prompts])


class Tfidf:
    """P(small is right) by logistic regression on the TF-IDF weights of words and pairs of words."""

    def __init__(self) -> None:
        self._model = _Logistic()

    def fit(self, prompts: Sequence[str], small: FloatArray, large: FloatArray) -> None:
        self._words = _words(prompts)
        self._model.fit(self._words.transform(prompts), small)

    def __call__(self, prompts: Sequence[str]) -> FloatArray:
        return self._model(self._words.transform(prompts))


class TfidfVectors:
    """TF-IDF weights, cut to their ``dimensions`` leading singular directions: an embedding that needs no model."""

    def __init__(self, dimensions: int = 64) -> None:
        self.dimensions = dimensions

    def fit(self, prompts: Sequence[str]) -> None:
        self._words = _words(prompts)
        weights = self._words.transform(prompts)
        most = max(1, min(self.dimensions, min(weights.shape) - 1))
        self._directions = randomized_svd(weights, most, n_iter=5, random_state=0)[2].T

    def __call__(self, prompts: Sequence[str]) -> FloatArray:
        vectors: FloatArray = self._words.transform(prompts) @ self._directions
        return vectors


class Neighbours:
    """P(small is right) as its share among the prompts of the training part that are most similar by cosine.

    Where all of those are alike, all are neighbours. Source: arXiv 2403.12031, the kNN router.
    """

    def __init__(self, embedding: Embedding, neighbours: int = 40) -> None:
        self.embedding, self.neighbours = embedding, neighbours

    def fit(self, prompts: Sequence[str], small: FloatArray, large: FloatArray) -> None:
        self.embedding.fit(prompts)
        vectors = self.embedding(prompts)
        self._small = small
        most = len(prompts) if np.allclose(vectors, vectors[0]) else min(self.neighbours, len(prompts))
        self._index = NearestNeighbors(n_neighbors=most, metric="cosine").fit(vectors)

    def __call__(self, prompts: Sequence[str]) -> FloatArray:
        places = self._index.kneighbors(self.embedding(prompts), return_distance=False)
        shares: FloatArray = self._small[places].mean(axis=1)
        return shares


class Win:
    """P(small is at least as good as large) by logistic regression on the prompt's vector: Hybrid-LLM's deterministic
    router, with a linear head on any embedding in place of its fine-tuned encoder.

    With one right or wrong answer of each model, its probabilistic label is this one, and its relaxed label, whose
    tolerance has to lie below a whole answer, is as well. Source: arXiv 2404.14618.
    """

    def __init__(self, embedding: Embedding) -> None:
        self.embedding, self._scale, self._model = embedding, StandardScaler(), _Logistic()

    def fit(self, prompts: Sequence[str], small: FloatArray, large: FloatArray) -> None:
        self.embedding.fit(prompts)
        self._model.fit(self._scale.fit_transform(self.embedding(prompts)), (small >= large).astype(float))

    def __call__(self, prompts: Sequence[str]) -> FloatArray:
        return self._model(self._scale.transform(self.embedding(prompts)))


class MatrixFactorisation:
    """1 - P(large wins) under RouteLLM's bilinear model, fitted on the prompts where exactly one of the two is better.

    The model gives w . (v_model * (W e + b)) for a prompt of vector e, and the difference between two models is what
    counts. Of two models that difference is linear in e, whatever the factors, so that it is fitted as what it is, a
    logistic regression. Source: arXiv 2406.18665, section 4.2.
    """

    def __init__(self, embedding: Embedding) -> None:
        self.embedding, self._scale, self._model = embedding, StandardScaler(), _Logistic()

    def fit(self, prompts: Sequence[str], small: FloatArray, large: FloatArray) -> None:
        self.embedding.fit(prompts)
        vectors, differ = self._scale.fit_transform(self.embedding(prompts)), small != large
        self._model.fit(vectors[differ], (small > large)[differ].astype(float))

    def __call__(self, prompts: Sequence[str]) -> FloatArray:
        return self._model(self._scale.transform(self.embedding(prompts)))


class BaseRate:
    """The small model's accuracy, whatever the prompt: escalates blindly, so that any share of it is a random one."""

    def fit(self, prompts: Sequence[str], small: FloatArray, large: FloatArray) -> None:
        self._rate = float(small.mean())

    def __call__(self, prompts: Sequence[str]) -> FloatArray:
        return np.full(len(prompts), self._rate)


ROUTERS: Mapping[str, Callable[[Embedding], Router]] = {
    "base_rate": lambda _: BaseRate(),
    "length": lambda _: Length(),
    "tfidf": lambda _: Tfidf(),
    "neighbours": Neighbours,
    "win": Win,
    "matrix_factorisation": MatrixFactorisation,
}
"""Name -> router on an embedding, which those that need none leave alone."""


def _words(prompts: Sequence[str]) -> TfidfVectorizer:
    """TF-IDF weights of the words and pairs of words that at least two prompts have; one weight of 0 without any."""
    settings = {"ngram_range": (1, 2), "token_pattern": r"(?u)\w+|[+*/=<>-]"}
    terms = TfidfVectorizer(**settings).build_analyzer()
    among = Counter(term for prompt in prompts for term in set(terms(prompt)))
    repeated = sorted(term for term, count in among.items() if count > 1)
    return TfidfVectorizer(**settings, sublinear_tf=True, vocabulary=repeated or [""]).fit(prompts)
