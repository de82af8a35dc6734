# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What costs nothing: the mean label, the other grader, and TF-IDF features with ridge regression."""

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.preprocessing import StandardScaler

from experiments.real_scores_data import Fold

LOWEST, HIGHEST = 0.0, 5.0


def mean_label(fold: Fold, settings: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """The mean label of the training rows, for every test row."""
    return np.full(len(fold.test), fold.train["target"].mean()), {}


def other_grader(fold: Fold, settings: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """What the other grader gave."""
    return fold.test["other"].to_numpy(), {}


def other_grader_at_level(fold: Fold, settings: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """The other grader, brought to the first one's level by a line fitted on the training rows: what the grades tell, not how strict they are."""
    line = LinearRegression().fit(fold.train[["other"]], fold.train["target"])
    return np.clip(line.predict(fold.test[["other"]]), LOWEST, HIGHEST), {}


def tfidf_ridge(fold: Fold, settings: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """
    Ridge regression on features of the pair of texts: their cosine similarities over words, word pairs and characters, overlaps and lengths,
    and n-grams, those of the second text, those that both have and those that one of them has. Penalty and weight of the n-grams are those
    with the smallest error on the validation rows; predictions are kept on the scale.
    """
    features = PairFeatures(fold.train)
    target = fold.train["target"]
    options = settings["ridge"]
    found = []
    for weight, alpha in product(options["ngram_weights"], options["alphas"]):
        ridge = Ridge(alpha=alpha, solver="sparse_cg", max_iter=1000, tol=1e-4).fit(
            features(fold.train, weight), target
        )
        predicted = np.clip(ridge.predict(features(fold.validation, weight)), LOWEST, HIGHEST)
        error = float(np.sqrt(np.mean((predicted - fold.validation["target"]) ** 2)))
        found.append((error, weight, alpha, ridge))
    error, weight, alpha, ridge = min(found, key=lambda each: each[0])
    predicted = np.clip(ridge.predict(features(fold.test, weight)), LOWEST, HIGHEST)
    return predicted, {"ngram_weight": weight, "alpha": alpha, "validation_rmse": round(error, 4)}


class PairFeatures:
    """
    Features of the texts `question`, `first` and `second`, with n-grams and scales of the training rows.

    Args:
        train (`pandas.DataFrame`):
            The training rows.
    """

    def __init__(self, train: pd.DataFrame) -> None:
        texts = pd.concat([train["first"].drop_duplicates(), train["second"], train["question"].drop_duplicates()])
        least = {"min_df": 2 if len(train) > 200 else 1, "sublinear_tf": True}
        self.vectorizers = [
            TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", **least).fit(texts),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), **least).fit(texts),
        ]
        self.scaler = StandardScaler().fit(self._dense(train))
        self._made: dict[int, tuple[np.ndarray, sparse.csr_matrix]] = {}

    def __call__(self, rows: pd.DataFrame, ngram_weight: float) -> sparse.csr_matrix:
        """`(n, features)`; with a weight of 0 the similarities alone."""
        if id(rows) not in self._made:
            self._made[id(rows)] = (self.scaler.transform(self._dense(rows)), self._ngrams(rows))
        dense, ngrams = self._made[id(rows)]
        parts = [sparse.csr_matrix(dense), ngrams * ngram_weight] if ngram_weight else [sparse.csr_matrix(dense)]
        return sparse.hstack(parts, format="csr")

    def _ngrams(self, rows: pd.DataFrame) -> sparse.csr_matrix:
        blocks = []
        for vectorizer in self.vectorizers:
            first, second = vectorizer.transform(rows["first"]), vectorizer.transform(rows["second"])
            blocks += [second, first.multiply(second), abs(first - second)]
        return sparse.hstack(blocks, format="csr")

    def _dense(self, rows: pd.DataFrame) -> np.ndarray:
        columns = []
        for vectorizer in self.vectorizers:
            question, first, second = (vectorizer.transform(rows[name]) for name in ("question", "first", "second"))
            columns += [_cosine(first, second), _cosine(question, second)]
        sets = ([set(text.lower().split()) for text in rows[name]] for name in ("question", "first", "second"))
        overlaps = [_overlaps(*each) for each in zip(*sets, strict=True)]
        return np.column_stack([*columns, np.array(overlaps)])


def _overlaps(question: set[str], first: set[str], second: set[str]) -> list[float]:
    """Shares of the words that the texts have in common, and their lengths."""
    shared, sizes = first & second, [np.log1p(len(words)) for words in (first, second)]
    return [
        len(shared) / max(1, len(first | second)),
        len(shared) / max(1, len(first)),
        len(shared) / max(1, len(second)),
        len(shared - question) / max(1, len(first - question)),
        *sizes,
        abs(sizes[0] - sizes[1]),
    ]


def _cosine(a: sparse.csr_matrix, b: sparse.csr_matrix) -> np.ndarray:
    """Row by row `(n,)`; rows of TF-IDF have length 1, or 0."""
    return np.asarray(a.multiply(b).sum(axis=1)).ravel()


BASELINES: dict[str, Any] = {
    "mean": mean_label,
    "other_grader": other_grader,
    "other_grader_at_level": other_grader_at_level,
    "tfidf": tfidf_ridge,
}
