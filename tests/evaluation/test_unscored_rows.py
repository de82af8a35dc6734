# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Stages and a server that refuses some rows: the others are done, the refused ones are named, and asked for again."""

import copy
import csv
import json
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from real_trl import JudgeConfig, cli
from real_trl.runs.unscored_exit import STATUS_FILE, end_with_unscored
from real_trl.scripts import evaluate, score, self_generate
from tests import tokenizers_zoo as zoo
from tests.helpers.scripted_server import ScriptedServer, chat_answer
from tests.helpers.tiny_server import MODEL_NAME, serve
from tests.text.test_json_text import strict
from tests.tiny import build_model

CHAT = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
BAD = "FILTERED"
WORDS = "The response was filtered by the content management policy."


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("real_trl.engines.server_client.time.sleep", lambda seconds: None)


@pytest.fixture(scope="module")
def judge(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("judge")
    tokenizer = copy.deepcopy(zoo.TOKENIZERS["qwen"]())
    tokenizer.chat_template = CHAT
    build_model("qwen3", tokenizer=tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    JudgeConfig(list("12345"), [1.0, 2.0, 3.0, 4.0, 5.0], chat=True).save(folder)
    return folder


@pytest.fixture
def data(tmp_path) -> Path:
    """12 rows, of which row 7, line 9 of the file, is refused."""
    rows = [{"prompt": BAD if i == 7 else f"Rate {i}", "score": float(1 + i % 5), "n": i} for i in range(12)]
    lines = [json.dumps(row) for row in rows]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([*lines[:3], "", *lines[3:]]) + "\n")
    return path


class Refusing(ScriptedServer):
    """Refuses the bad row as long as `refuses`; `prompts` are what it was asked."""

    def __init__(self, answer=(400, {"error": {"message": WORDS, "code": "content_filter"}})):
        super().__init__(self.respond)
        self.refusal, self.refuses, self.prompts = answer, True, []

    def respond(self, prompt, number):
        self.prompts.append(prompt)
        return self.refusal if prompt == BAD and self.refuses else chat_answer()


def options_of(url: str, **more) -> dict:
    return {"base_url": url, "model": MODEL_NAME, "api": "chat", "max_retries": 1, **more}


def run(stage, url: str, *arguments) -> int:
    """Exit status of a stage."""
    options = json.dumps(options_of(url))
    try:
        stage.main([*map(str, arguments), "--engine", "server", "--engine_options", options, "--max_new_tokens", "12"])
    except SystemExit as end:
        return end.code
    return 0


@pytest.mark.parametrize(
    "refusal, words",
    [
        ((400, {"error": {"message": WORDS, "code": "content_filter"}}), WORDS),
        ((400, {"error": {"message": "odd prompt 17"}}), "odd prompt 17"),
        ((500, {"error": {"message": "worker died"}}), "worker died"),
        ({"choices": []}, "empty list of choices"),
    ],
)
def test_score_does_the_other_rows_and_asks_for_the_refused_one_again(tmp_path, judge, data, capsys, refusal, words):
    server, scored = Refusing(refusal), tmp_path / "rows.scored.jsonl"
    with serve(server) as url:
        assert run(score, url, data, "--judge", judge) == 3
        said = capsys.readouterr().err
        assert "unscored: 1 of 12 rows got no answer" in said and "row 7 (line 9): " in said and words in said
        assert "Traceback" not in said
        rows = [strict(line) for line in scored.read_text().splitlines()]
        assert [row["n"] for row in rows] == list(range(12))
        bad = rows.pop(7)
        assert (bad["status"], bad["expected_score"], bad["probabilities"], bad["mass"]) == (
            "unscored",
            None,
            None,
            None,
        )
        assert words in bad["error"]
        assert {(row["status"], row["error"]) for row in rows} == {("ok", None)}
        assert all(row["expected_score"] == pytest.approx(3.62) for row in rows)

        server.prompts.clear()
        assert run(score, url, data, "--judge", judge) == 3
        assert set(server.prompts) == {BAD}
        said = capsys.readouterr()
        assert "12 rows are there; 1 without an answer are asked for again" in said.out
        assert "row 7 (line 9): " in said.err and words in said.err
        server.refuses = False
        server.prompts.clear()
        assert run(score, url, data, "--judge", judge) == 0
        assert server.prompts == [BAD]
        assert [row["status"] for row in map(strict, scored.read_text().splitlines())] == ["ok"] * 12
        capsys.readouterr()
        assert run(score, url, data, "--judge", judge) == 0
        assert "Already complete" in capsys.readouterr().out and server.prompts == [BAD]


def test_score_in_other_formats(tmp_path, judge, data):
    with serve(Refusing()) as url:
        assert run(score, url, data, "--judge", judge, "--output", tmp_path / "out.parquet", "--prefix", "a_") == 3
        assert run(score, url, data, "--judge", judge, "--output", tmp_path / "out.csv") == 3
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert (rows[7]["a_status"], rows[7]["a_expected_score"]) == ("unscored", None) and WORDS in rows[7]["a_error"]
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert (rows[7]["status"], rows[7]["expected_score"]) == ("unscored", "") and WORDS in rows[7]["error"]


def test_an_average_of_fewer_samples_is_said_and_made_whole(tmp_path, judge, data, capsys):
    class Sometimes(Refusing):
        def respond(self, prompt, number):
            self.prompts.append(prompt)
            return self.refusal if prompt == BAD and self.refuses and self.prompts.count(BAD) == 1 else chat_answer()

    server = Sometimes()
    with serve(server) as url:
        assert run(score, url, data, "--judge", judge, "--num_samples", 3) == 3
        (row,) = [row for row in map(json.loads, (tmp_path / "rows.scored.jsonl").open()) if row["prompt"] == BAD]
        assert row["status"] == "ok" and row["expected_score"] == pytest.approx(3.62)
        assert row["error"].startswith("1 of 3 samples: ") and WORDS in row["error"]
        assert "row 7 (line 9): 1 of 3 samples: " in capsys.readouterr().err
        server.refuses = False
        assert run(score, url, data, "--judge", judge, "--num_samples", 3) == 0
    assert all(row["error"] is None for row in map(json.loads, (tmp_path / "rows.scored.jsonl").open()))


def test_what_every_row_gets_ends_the_run_without_a_traceback(tmp_path, judge, data, capsys):
    server = ScriptedServer(lambda prompt, number: (403, {"error": {"message": "no logprobs for you"}}))
    with serve(server) as url:
        assert run(score, url, data, "--judge", judge) == 2
    said = capsys.readouterr().err
    assert "row 0 (line 1): " in said and "no logprobs for you" in said and "Traceback" not in said
    assert not (tmp_path / "rows.scored.jsonl").exists()


def test_evaluate_counts_the_others_and_asks_for_the_refused_one_again(tmp_path, judge, data, capsys):
    server = Refusing()
    arguments = ("--model_name_or_path", judge, "--output_dir", tmp_path / "out", "--dataset_name", data)
    arguments += ("--eval_splits", "train", "--num_resamples", 100, "--batch_size", 4)
    with serve(server) as url:
        assert run(evaluate, url, *arguments) == 3
        said = capsys.readouterr().err
        assert "unscored: 1 of 12 rows of train got no answer" in said and f"id 7: {url}" in said and WORDS in said
        evaluation = strict((tmp_path / "out" / "evaluation.json").read_text())
        (result,) = evaluation["results"]["train"].values()
        assert (result["n_rows"], result["n_unscored"], result["rail"]["n"]) == (12, 1, 11)
        assert sum(result["unscored"].values()) == 1 and any(WORDS in reason for reason in result["unscored"])
        assert WORDS in (tmp_path / "out" / "report.md").read_text()
        server.refuses = False
        server.prompts.clear()
        assert run(evaluate, url, *arguments) == 0
        assert server.prompts == [BAD]
    evaluation = strict((tmp_path / "out" / "evaluation.json").read_text())
    (result,) = evaluation["results"]["train"].values()
    assert (result["n_unscored"], result["unscored"], result["rail"]["n"]) == (0, {}, 12)


def test_self_generate_leaves_the_refused_row_out_and_asks_for_it_again(tmp_path, judge, data, capsys):
    server, out = Refusing(), tmp_path / "out"
    arguments = ("--model_name_or_path", judge, "--output_dir", out, "--dataset_name", data)
    with serve(server) as url:
        assert run(self_generate, url, *arguments) == 3
        said = capsys.readouterr()
        assert "row 7: " in said.err and WORDS in said.err
        assert "11 rows from 12 completions" in said.out and "malformed: none; dropped: 1 unscored" in said.out
        rows = [strict(line) for line in (out / "train.jsonl").read_text().splitlines()]
        assert len(rows) == 11 and {row["feedback"] for row in rows} == {"Fine."}
        (dropped,) = [strict(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
        assert (dropped["reason"], dropped["row"], WORDS in dropped["error"]) == ("unscored", 7, True)
        server.refuses = False
        server.prompts.clear()
        assert run(self_generate, url, *arguments) == 0
        assert server.prompts == [BAD]
    rows = [strict(line) for line in (out / "train.jsonl").read_text().splitlines()]
    assert len(rows) == 12 and rows[7]["prompt"] == BAD and rows[7]["score"] == 3.0
    assert (out / "dropped.jsonl").read_text() == ""


def test_the_exit_status_survives_the_launcher(tmp_path, monkeypatch, capsys):
    """accelerate launch turns every status into 1: the stage writes it down for the command that started it."""
    script = tmp_path / "stage.py"
    for code, expected in {
        f"import os; open(os.environ[{STATUS_FILE!r}], 'w').write('3')": 3,
        "pass": 0,
        "raise SystemExit(2)": 2,
    }.items():
        script.write_text(code)
        with monkeypatch.context() as patch:
            patch.setattr(signal, "signal", lambda *_: None)  # of this process
            assert cli.launch([str(script)]) == expected
    status = tmp_path / "status"
    unscored = {"rows": [(f"row {i}", f"request {i}: filtered") for i in range(8)], "rows of b": []}
    monkeypatch.setenv(STATUS_FILE, str(status))
    end_with_unscored(unscored, {"rows": 10, "rows of b": 3})
    assert status.read_text() == "3"
    said = capsys.readouterr().err
    assert "unscored: 8 of 10 rows got" in said and "rows of b" not in said
    assert "  row 0, row 1, row 2, row 3, row 4 and 3 more: request 0: filtered\n" in said
    status.unlink()
    end_with_unscored({"rows": []}, {"rows": 10})
    assert not status.exists()
