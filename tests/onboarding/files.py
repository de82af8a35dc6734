# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Files of human scores in the shapes that people have them in, and a model small enough to train on them."""

import csv
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.tiny import DIGITS, build_model

PLACES = ("Rome", "Oslo", "Cairo", "Lima", "Quito", "Paris", "Delhi", "Accra", "Hanoi", "Dakar", "Perth", "Osaka")
VERDICTS = ("It is wrong.", "It is mostly wrong.", "It is partly right.", "It is nearly right.", "It is right.")


def sheet(questions: int = 12, answers: int = 4, seed: int = 0) -> list[dict]:
    """Answers to questions, with a score from 1 to 5 and a comment."""
    draw = random.Random(seed)
    rows = []
    for question in range(questions):
        for _ in range(answers):
            score = draw.randint(1, 5)
            lines = "\n".join(
                f"{line}) {draw.randint(1, 9)}+{draw.randint(1, 9)} = {draw.randint(1, 20)}"
                for line in range(1, score + 1)
            )
            rows.append(
                {
                    "question": f"Describe {PLACES[question % len(PLACES)]} in {question + 1} sums.",
                    "answer": lines,
                    "score": score,
                    "comment": VERDICTS[score - 1],
                    "number": question,
                }
            )
    return rows


def write_csv(path: Path, rows: list[dict]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def comments_csv(folder: Path, **kwargs: object) -> Path:
    """A CSV with instruction, response, rating and comment; some comments are missing, and two rows are there twice."""
    rows = [
        {"instruction": row["question"], "response": row["answer"], "rating": row["score"], "comment": row["comment"]}
        for row in sheet(**kwargs)
    ]
    rows += [dict(rows[0]), {**rows[5], "rating": 6 - rows[5]["rating"], "instruction": f" {rows[5]['instruction']} "}]
    for row in rows[::9]:
        row["comment"] = ""
    return write_csv(folder / "comments.csv", rows)


def raters_jsonl(folder: Path) -> Path:
    """A JSONL with three raters, other names, a question id, rubrics, gaps, and half points."""
    draw, rows = random.Random(1), []
    for row in sheet(seed=1):
        rated = [min(5, max(1, row["score"] + draw.choice((-0.5, 0, 0.5)))) for _ in range(3)]
        rows.append(
            {
                "qid": row["number"],
                "query": row["question"],
                "model_answer": row["answer"],
                "criteria": "Are the sums right?",
                "annotator_1": rated[0],
                "annotator_2": rated[1],
                "annotator_3": rated[2],
                "length": len(row["answer"]),
            }
        )
    return write_jsonl(folder / "raters.jsonl", rows)


def prompts_parquet(folder: Path) -> Path:
    """A Parquet with complete prompts and fractional scores from 1 to 10, in splits that leak."""
    rows = sheet(questions=14, seed=2)
    table = {
        "prompt": [f"Rate this from 1 to 10.\n{row['question']}\n{row['answer']}" for row in rows],
        "mean_score": [round(2 * row["score"] - 0.3, 2) for row in rows],
        "topic_id": [row["number"] for row in rows],
        "split": ["test" if row["number"] < 3 else "train" for row in rows],
    }
    table["split"][0] = "train"  # its question is in the test split
    path = folder / "prompts.parquet"
    pq.write_table(pa.table(table), path)
    return path


def mixed_csv(folder: Path) -> Path:
    """Scores with text among them."""
    rows = [{"question": row["question"], "answer": row["answer"], "score": row["score"]} for row in sheet()]
    rows[3]["score"], rows[10]["score"] = "good", "4/5"
    return write_csv(folder / "mixed.csv", rows)


def hollow_csv(folder: Path, *, constant: bool = False) -> Path:
    """Empty responses; or the same score everywhere."""
    rows = [
        {"question": row["question"], "answer": row["answer"], "score": 3 if constant else row["score"]}
        for row in sheet()
    ]
    if not constant:
        for row in (rows[2], rows[7]):
            row["answer"] = " "
    return write_csv(folder / "hollow.csv", rows)


def write_model(folder: Path) -> Path:
    """An untrained model that reads any text, if only by characters."""
    model = build_model(tokenizer=DIGITS, initializer_range=0.02)
    model.config.max_position_embeddings = 4096  # rotary positions are computed as they come
    model.save_pretrained(folder)
    DIGITS.save_pretrained(folder)
    return folder
