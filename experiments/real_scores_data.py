# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Files of human scores as rows to train and to judge, and their parts.

`DIR/short_answers.csv` has `question_id`, `question`, `reference_answer`, `student_answer`, `grader_1` and `grader_2`: the answers of
students to 81 questions, with two graders each (Mohler, Bunescu and Mihalcea, ACL 2011; CC BY 4.0).
`DIR/sentence_similarity/{train,validation,test}.csv` have `sentence1`, `sentence2` and `score`, the mean of several people: parts of the
STS Benchmark (Agirre et al. 2012-2017; CC BY-SA 4.0).

The label of a short answer is **grader 1's** grade, of all methods and of the human ceiling: a mean of both graders would hold what the
ceiling predicts.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

TASKS = {
    "unseen_questions": "short answers, unseen questions",
    "unseen_answers": "short answers, unseen answers",
    "similarity": "sentence similarity",
}
_PARTS = ("train", "validation", "test")
# What the columns of the rows are made of; `first` and `second` are the texts that features are made of
_FILES = {
    "short_answers.csv": ("question_id", "question", "reference_answer", "student_answer", "grader_1", "grader_2"),
    "sentence_similarity": ("sentence1", "sentence2", "score"),
}
_HIGHEST = 5.0


@dataclass(frozen=True)
class Fold:
    """
    The rows of one fold, in the columns `id`, `group`, `question`, `first`, `second`, `target`, `other` and two prompts: `prompt`, which
    is as short as what training teaches allows, and `asked`, which tells a model without training what is wanted.

    Args:
        train, validation, test (`pandas.DataFrame`):
            The training rows are in a random order of the fold's own; their first n are the n labels of a learning curve.
    """

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame

    def with_labels(self, labels: int | str) -> "Fold":
        """With as many training rows, or `"all"`; 0 is for methods that are not trained."""
        return self if labels == "all" else Fold(self.train[: int(labels)], self.validation, self.test)


def load_rows(folder: Path) -> dict[str, pd.DataFrame]:
    """
    The rows of both data sets, `short_answers` and `similarity`; the latter's have their file in `part`.

    Raises:
        `ValueError`: naming file, column and row, if one is missing or a score is none from 0 to 5.
    """
    answers = _read(folder / "short_answers.csv", _FILES["short_answers.csv"])
    similar = {
        part: _read(folder / "sentence_similarity" / f"{part}.csv", _FILES["sentence_similarity"]) for part in _PARTS
    }
    pairs = pd.concat([frame.assign(part=part, row=frame.index) for part, frame in similar.items()], ignore_index=True)
    answers = pd.DataFrame(
        {
            "id": [str(row) for row in answers.index],
            # Two questions are asked twice, under other numbers: the first of them
            "group": answers.groupby(answers["question"].str.strip())["question_id"].transform("first"),
            "prompt": [
                f"Question: {question}\nReference: {reference}\nAnswer: {answer}\n"
                for question, reference, answer in zip(
                    answers["question"], answers["reference_answer"], answers["student_answer"], strict=True
                )
            ],
            "question": answers["question"],
            "first": answers["reference_answer"],
            "second": answers["student_answer"],
            "target": _scores(answers["grader_1"], "short_answers.csv"),
            "other": _scores(answers["grader_2"], "short_answers.csv"),
        }
    )
    ids = [f"{part}-{row}" for part, row in zip(pairs["part"], pairs["row"], strict=True)]
    pairs = pd.DataFrame(
        {
            "id": ids,
            "group": ids,
            "prompt": [f"{one}\n{two}\n" for one, two in zip(pairs["sentence1"], pairs["sentence2"], strict=True)],
            "question": "",
            "first": pairs["sentence1"],
            "second": pairs["sentence2"],
            "target": _scores(pairs["score"], "sentence_similarity"),
            "part": pairs["part"],
        }
    )
    answers["asked"] = (
        "Grade the student's answer with a whole number from 0 (wrong) to 5 (right).\n" + answers["prompt"]
    )
    pairs["asked"] = (
        "How similar is the meaning of the two sentences, from 0 (unrelated) to 5 (equal)?\n" + pairs["prompt"]
    )
    return {"short_answers": answers, "similarity": pairs}


def make_fold(rows: Mapping[str, pd.DataFrame], task: str, fold: int, settings: Mapping[str, Any]) -> Fold:
    """
    The parts of a fold.

    `unseen_questions`: all answers to a question are in one part. `unseen_answers`: equal answers to a question are in one part, other
    answers to it in any. `similarity`: the files as they are; `fold` is the seed of the order of the training rows.
    """
    if task == "similarity":
        pairs = rows["similarity"]
        train, validation, test = (pairs[pairs["part"] == part].reset_index(drop=True) for part in _PARTS)
        return Fold(train.sample(frac=1, random_state=fold).reset_index(drop=True), validation, test)
    answers = rows["short_answers"]
    if task == "unseen_questions":
        blocks = answers["group"]
    else:
        blocks = answers["group"] + "\n" + answers["second"].str.strip().str.lower()
    parts = _shuffled(sorted(set(blocks)), seed=0)
    if len(parts) < settings["folds"]:
        raise ValueError(
            f"short_answers.csv: {settings['folds']} folds need as many questions, and {len(parts)} are there."
        )
    tested = set(parts[fold :: settings["folds"]])
    others = _shuffled([block for block in parts if block not in tested], seed=fold)
    validated = set(others[: max(1, round(settings["validation_fraction"] * len(others)))])
    train = answers[~blocks.isin(tested | validated)].sample(frac=1, random_state=fold)
    found = (train, answers[blocks.isin(validated)], answers[blocks.isin(tested)])
    return Fold(*(frame.reset_index(drop=True) for frame in found))


def _shuffled(names: Sequence[str], seed: int) -> list[str]:
    names = list(names)
    random.Random(seed).shuffle(names)
    return names


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    if not path.is_file():
        raise ValueError(f"--data: {path} is not there. Give a folder with {' and '.join(_FILES)}.")
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)  # 1.10 is no 1.1, and an answer may be "null"
    if missing := [column for column in columns if column not in frame]:
        raise ValueError(f"--data: {path} has no column {missing[0]!r}, only {list(frame)}.")
    return frame


def _scores(cells: pd.Series, file: str) -> list[float]:
    numbers = pd.to_numeric(cells, errors="coerce")
    wrong = ~numbers.between(0, _HIGHEST)
    if wrong.any():
        row = wrong.idxmax()
        raise ValueError(f"--data: {file}: {cells.name} of row {row} is {cells.loc[row]!r}, no score from 0 to 5.")
    return numbers.astype(float).tolist()
