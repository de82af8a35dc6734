# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Files of human scores in the shapes that people have them in, and a model small enough to train on them."""

import csv
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from openpyxl import Workbook

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


def excel(folder: Path) -> Path:
    """An Excel sheet with a title row left empty, whole and half points, and a column that nobody filled."""
    book = Workbook()
    book.active.append([])
    book.active.append(["Question", "Answer", "Grade", "Remarks"])
    for number, row in enumerate(sheet(seed=3)):
        book.active.append([row["question"], row["answer"], min(5, row["score"] + number % 2 / 2), None])
    path = folder / "grades.xlsx"
    book.save(path)
    return path


def tabs(folder: Path) -> Path:
    """Tab-separated, in UTF-16, as spreadsheets save "Unicode text"."""
    lines = ["question\tanswer\tscore"]
    lines += [f'{row["question"]}\t"{row["answer"]}"\t{row["score"]}' for row in sheet(seed=4)]
    path = folder / "answers.tsv"
    path.write_bytes("\r\n".join(lines).encode("utf-16"))
    return path


def semicolons(folder: Path) -> Path:
    """As a German Excel writes a CSV: semicolons, decimal commas, Windows-1252; two graders, of whom the second left some out."""
    lines = ["Question;Answer;Grader 1;Grader 2"]
    for number, row in enumerate(sheet(seed=5)):
        second = "" if number % 6 == 0 else f"{row['score']},0"
        lines.append(
            f'Für {row["question"]};"{row["answer"]}";{max(1, row["score"] - 0.5):.1f}'.replace(".5", ",5")
            + f";{second}"
        )
    path = folder / "noten.csv"
    path.write_bytes("\r\n".join(lines).replace(".0;", ",0;").encode("cp1252"))
    return path


def label_studio(folder: Path) -> Path:
    """Label Studio's JSON: two or three annotators, one of whom cancelled, with a rating and a comment."""
    tasks = []
    for number, row in enumerate(sheet(seed=6)):
        annotations = [
            {
                "id": 10 * number + who,
                "completed_by": who,
                "was_cancelled": who == 3 and number % 2 == 0,
                "lead_time": 3.5,
                "result": [
                    *_said("quality", "rating", rating=min(5, row["score"] + who // 2)),
                    *_said("why", "textarea", text=[f"{row['comment']} ({who})"]),
                ],
            }
            for who in (1, 2, 3)
        ]
        data = {"question": row["question"], "answer": row["answer"]}
        tasks.append(
            {"id": number, "data": data, "annotations": annotations, "predictions": [], "total_annotations": 3}
        )
    path = folder / "project-1.json"
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return path


def _said(name: str, kind: str, **value: object) -> list[dict]:
    return [{"id": "x", "from_name": name, "to_name": "text", "type": kind, "origin": "manual", "value": value}]


def label_studio_criteria(folder: Path) -> Path:
    """Label Studio's JSON with two controls, of which the second annotator left one out."""
    tasks = [
        {
            "id": number,
            "data": {"question": row["question"], "answer": row["answer"]},
            "annotations": [
                {
                    "id": 1,
                    "completed_by": 1,
                    "result": _criterion("helpfulness", row["score"]) + _criterion("fluency", 3),
                },
                {"id": 2, "completed_by": 2, "result": _criterion("helpfulness", min(5, row["score"] + 1))},
            ],
        }
        for number, row in enumerate(sheet(seed=16))
    ]
    path = folder / "criteria.json"
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return path


def _criterion(name: str, score: int) -> list[dict]:
    return _said(name, "rating", rating=score)


def argilla(folder: Path) -> Path:
    """Argilla's `to_json`: fields, responses of two users, suggestions of a model."""
    records = [
        {
            "id": str(number),
            "fields": {"instruction": row["question"], "response": row["answer"]},
            "metadata": {"tokens": number},
            "suggestions": {"rating": {"value": 1, "score": None, "agent": "model"}},
            "responses": {
                "rating": [
                    {"value": row["score"], "user_id": "a"},
                    *([{"value": max(1, row["score"] - 1), "user_id": "b"}] if number % 3 else []),
                ]
            },
            "vectors": {"small": [0.5, 0.25]},
            "_server_id": f"s{number}",
        }
        for number, row in enumerate(sheet(seed=7))
    ]
    path = folder / "records.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


def label_studio_small(folder: Path) -> Path:
    """Label Studio's CSV, with a row for each annotation."""
    rows = [
        {
            "annotation_id": 10 * number + who,
            "annotator": who,
            "answer": row["answer"],
            "created_at": "2026-01-02T03:04:05Z",
            "id": number,
            "lead_time": 2.5,
            "quality": json.dumps([{"rating": min(5, row["score"] + who)}]),
            "question": row["question"],
        }
        for number, row in enumerate(sheet(seed=14))
        for who in (0, 1)
    ]
    return write_csv(folder / "small.csv", rows)


def argilla_flat(folder: Path) -> Path:
    """Argilla's records with `flatten=True`."""
    rows = [
        {
            "id": str(number),
            "prompt": row["question"],
            "reply": row["answer"],
            "correct.responses": [row["score"]],
            "correct.responses.users": ["a"],
            "correct.responses.status": ["submitted"],
            "correct.suggestion": 1,
            "correct.suggestion.score": 0.5,
        }
        for number, row in enumerate(sheet(seed=15))
    ]
    return write_jsonl(folder / "flat.jsonl", rows)


def conversations(folder: Path) -> Path:
    """TRL's conversational format with a score; some have a system prompt, some an earlier turn."""
    rows = []
    for number, row in enumerate(sheet(seed=8)):
        before = [[], [("system", "Be brief.")], [("user", "Hello."), ("assistant", "Hello!")]][number % 3]
        turns = [*before, ("user", row["question"]), ("assistant", row["answer"])]
        messages = [{"role": role, "content": content} for role, content in turns]
        rows.append({"messages": messages, "score": row["score"]})
    return write_jsonl(folder / "chats.jsonl", rows)


def prompts_and_completions(folder: Path) -> Path:
    """TRL's `prompt` and `completion`, each a list of messages."""
    return write_jsonl(
        folder / "completions.jsonl",
        [
            {
                "prompt": [{"role": "user", "content": row["question"]}],
                "completion": [{"role": "assistant", "content": row["answer"]}],
                "rating": row["score"],
            }
            for row in sheet(seed=9)
        ],
    )


def ratings_in_rows(folder: Path) -> Path:
    """A row for each rating: every answer by three of four workers."""
    rows = []
    for number, row in enumerate(sheet(seed=10)):
        for who in range(4):
            if who != number % 4:
                score = min(5, max(1, row["score"] + who - 1))
                rows.append(
                    {"worker_id": f"w{who}", "prompt": row["question"], "response": row["answer"], "score": score}
                )
    return write_csv(folder / "ratings.csv", rows)


def gaps(folder: Path) -> Path:
    """Two raters in columns, who wrote N/A where they gave no rating."""
    rows = []
    for number, row in enumerate(sheet(seed=13)):
        one, two = row["score"], min(5, row["score"] + 1)
        if number % 4 == 0:
            one, two = ("N/A", two) if number % 8 else (one, "N/A")
        rows.append({"query": row["question"], "output": row["answer"], "rater_a": one, "rater_b": two})
    return write_csv(folder / "gaps.csv", rows)


def grades(folder: Path) -> Path:
    """School grades, of which 1 is the best, with the teacher's answer."""
    rows = [
        {"question": row["question"], "answer": row["answer"], "reference": "All right.", "grade": 6 - row["score"]}
        for row in sheet(seed=11)
    ]
    return write_csv(folder / "grades.csv", rows)


def write_model(folder: Path) -> Path:
    """An untrained model that reads any text, if only by characters."""
    model = build_model(tokenizer=DIGITS, initializer_range=0.02)
    model.config.max_position_embeddings = 4096  # rotary positions are computed as they come
    model.save_pretrained(folder)
    DIGITS.save_pretrained(folder)
    return folder
