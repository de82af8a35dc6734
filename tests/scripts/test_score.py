# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`real-trl score`: every row scored once, however often it is killed, in every format."""

import csv
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from real_trl import Judge, JudgeConfig
from real_trl.data.files import read_file
from real_trl.data.table_rows import class_names, features_of
from real_trl.prompts.template import PromptTemplate
from real_trl.runs.batches import batch_seed
from real_trl.runs.scored_file import SCORES
from real_trl.scripts import score
from tests.tiny import LINES, PROMPT, TOKENIZER, build_model, prompt_dataset, warm_model

TEMPLATE = PromptTemplate("{{ instruction }}\n{{ response }}\n", "homework.jinja")
ROWS = [{"instruction": PROMPT, "response": "\n".join(LINES[: 1 + i % 3]), "question": i} for i in range(7)]
OPTIONS = ("--max_new_tokens", "24", "--batch_size", "2", "--seed", "3")


def save_judge(folder: Path, model, template: PromptTemplate | None = TEMPLATE) -> Path:
    model.save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    config = JudgeConfig(list("12345"), [1.0, 2.0, 3.0, 4.0, 5.0])
    config.use_template(template)
    config.save(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_judge(tmp_path_factory.mktemp("judge"), warm_model())


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(data: Path, judge: Path, *options) -> None:
    score.main([str(data), "--judge", str(judge), *OPTIONS, *map(str, options)])


def refusal(capsys, *args) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        run(*args)
    assert error.value.code == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message and message.count("error: ") == 1
    return message[message.index("error: ") + 7 :]


# --- what is written -------------------------------------------------------------------------------------------------


def test_the_first_rows_in_batches_that_fit(tmp_path, folder):
    data = write(tmp_path / "answers.jsonl", ROWS)
    run(data, folder, "--limit", 2, "--batch_size", "auto", "--device", "cpu", "--do_sample", "false")
    scored = read(tmp_path / "answers.scored.jsonl")
    assert [row["question"] for row in scored] == [0, 1]
    judge = Judge.from_pretrained(folder, max_new_tokens=24, do_sample=False)
    for row, judgment in zip(scored, judge.score(ROWS[:2]), strict=True):
        assert row["expected_score"] == pytest.approx(judgment.expected_score, abs=1e-6)


def test_the_judges_scores_beside_the_rows(tmp_path, folder, capsys):
    data = write(tmp_path / "answers.jsonl", ROWS)
    run(data, folder)
    scored = read(tmp_path / "answers.scored.jsonl")
    judge = Judge.from_pretrained(folder, max_new_tokens=24, batch_size=2)
    judgments = judge.score(ROWS, seed=batch_seed(3, 0))
    assert len(scored) == len(ROWS)
    for row, own, judgment in zip(scored, ROWS, judgments, strict=True):
        assert list(row) == [*own, *SCORES] and {name: row[name] for name in own} == own
        assert row["probabilities"] == dict(zip("12345", judgment.probabilities.values(), strict=True))
        assert {name: row[name] for name in SCORES if name != "probabilities"} == {
            name: getattr(judgment, name) for name in SCORES if name != "probabilities"
        }
    assert "7 rows scored" in capsys.readouterr().out
    record = json.loads((tmp_path / "answers.scored.jsonl.provenance" / "provenance.json").read_text())
    assert record["complete"] and record["counts"] == {"rows": 7} and record["made_with"]["sampling"]["seed"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "answers.jsonl",
        "answers.scored.jsonl",
        "answers.scored.jsonl.provenance",
    ]
    before = (tmp_path / "answers.scored.jsonl").read_bytes()
    run(data, folder)  # nothing is left to do
    assert "Already complete" in capsys.readouterr().out
    assert (tmp_path / "answers.scored.jsonl").read_bytes() == before


def test_formats(tmp_path, folder):
    rows = [{**row, "tags": ["a", "ü"], "label": None} for row in ROWS]
    data = write(tmp_path / "answers.jsonl", rows)
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        run(data, folder, "--output", tmp_path / name)
    expected = read(tmp_path / "a.jsonl")
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == expected
    with (tmp_path / "a.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert json.loads(cells[0]["probabilities"]) == expected[0]["probabilities"]
    assert json.loads(cells[0]["tags"]) == ["a", "ü"] and cells[0]["label"] == ""
    assert [float(row["expected_score"]) for row in cells] == [row["expected_score"] for row in expected]
    assert [row["rationale"] for row in cells] == [row["rationale"] for row in expected]

    sources = [tmp_path / name for name in ("b.json", "b.csv", "b.parquet")]
    sources[0].write_text(json.dumps(ROWS))
    pd.DataFrame(ROWS).to_csv(sources[1], index=False)
    days = pd.date_range("2026-01-01", periods=7)
    pd.DataFrame(ROWS).assign(day=days).to_parquet(sources[2])
    for source in sources:
        run(source, folder, "--output", f"{source}.scored.jsonl")
        again = read(Path(f"{source}.scored.jsonl"))
        assert [row["expected_score"] for row in again] == [row["expected_score"] for row in expected]
        assert [int(row["question"]) for row in again] == list(range(7))
    assert again[1]["day"] == "2026-01-02T00:00:00"
    run(sources[2], folder, "--output", tmp_path / "c.parquet")
    assert pd.read_parquet(tmp_path / "c.parquet")["day"].tolist() == days.tolist()


def test_paths_into_nested_columns(tmp_path, folder):
    nested = [{"id": row["question"], "data": row, "messages": turns(row)} for row in ROWS]
    data, flat = write(tmp_path / "nested.jsonl", nested), write(tmp_path / "flat.jsonl", ROWS)
    paths = "{instruction: data.instruction, response: messages.response}"
    run(data, folder, "--columns", paths, "--output", tmp_path / "a.jsonl")
    run(flat, folder, "--output", tmp_path / "b.jsonl")
    a, b = read(tmp_path / "a.jsonl"), read(tmp_path / "b.jsonl")
    assert [row["expected_score"] for row in a] == [row["expected_score"] for row in b]
    assert list(a[0]) == ["id", "data", "messages", *SCORES]


def turns(row: dict) -> list[dict]:
    return [{"role": "user", "content": row["instruction"]}, {"role": "assistant", "content": row["response"]}]


def test_columns_of_every_type_stay_what_they_are(tmp_path, folder):
    table = pa.Table.from_pylist(ROWS)
    columns = {
        "price": pa.array([Decimal("1.50")] * 7),
        "map": pa.array([[("k", "v")]] * 7, pa.map_(pa.string(), pa.string())),
        "uuid": pa.array([b"0123456789abcdef"] * 7, pa.uuid()),
        "wait": pa.array([timedelta(hours=1)] * 7),
        "gap": pa.array([[math.nan, 1.5]] * 7),
        "kind": pa.array([1, 0] * 3 + [1]),
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    classes = {"info": {"features": {"kind": {"names": ["poem", "essay"], "_type": "ClassLabel"}}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps(classes)})
    pq.write_table(table, tmp_path / "data.parquet")
    run(tmp_path / "data.parquet", folder, "--output", tmp_path / "a.jsonl")
    first = read(tmp_path / "a.jsonl")[0]
    expected = {"price": 1.5, "map": {"k": "v"}, "wait": "P0DT1H0M0S", "gap": [None, 1.5], "kind": "essay"}
    assert {name: first[name] for name in expected} == expected
    assert first["uuid"] == "30313233-3435-3637-3839-616263646566"
    run(tmp_path / "data.parquet", folder, "--output", tmp_path / "a.parquet")
    scored = pq.read_table(tmp_path / "a.parquet")
    same = [name for name in table.column_names if name != "gap"]  # NaN is equal to nothing
    assert scored.select(same).to_pylist() == table.select(same).to_pylist()
    assert scored.schema.types[: len(table.schema)] == table.schema.types
    assert scored["expected_score"].to_pylist() == [row["expected_score"] for row in read(tmp_path / "a.jsonl")]
    assert class_names(features_of(scored)["kind"]) == ["poem", "essay"]


@pytest.mark.parametrize("output", ["a.jsonl", "a.csv", "a.parquet"])
def test_half_a_character_in_the_data_is_replaced(tmp_path, folder, output):
    rows = [{**row, "note": "\ud83d"} for row in ROWS]
    rows[1]["response"] += " \ud83d"
    (tmp_path / "data.json").write_text(json.dumps(rows))
    run(tmp_path / "data.json", folder, "--output", tmp_path / output)
    readers = {"a.jsonl": pd.read_json, "a.csv": pd.read_csv, "a.parquet": pd.read_parquet}
    scored = readers[output](tmp_path / output, **({"lines": True} if output == "a.jsonl" else {}))
    assert scored["note"].tolist() == ["\ufffd"] * 7 and scored["response"][1].endswith(" \ufffd")


def test_columns_texts_and_a_second_judge(tmp_path, folder):
    renamed = [{"prompt": row["instruction"], "answer": row["response"], "response": "x"} for row in ROWS]
    data = write(tmp_path / "answers.jsonl", renamed)
    run(data, folder, "--columns", "{instruction: prompt, response: answer}", "--output", tmp_path / "a.jsonl")
    run(write(tmp_path / "b.jsonl", ROWS), folder)
    own = [row["expected_score"] for row in read(tmp_path / "b.scored.jsonl")]
    assert [row["expected_score"] for row in read(tmp_path / "a.jsonl")] == own
    as_json = '{"instruction": "prompt", "response": "answer"}'
    options = ("--columns", as_json, "--prefix", "second_", "--output", tmp_path / "c.jsonl")
    run(tmp_path / "a.jsonl", folder, *options)
    both = read(tmp_path / "c.jsonl")
    assert [row["expected_score"] for row in both] == [row["second_expected_score"] for row in both] == own


def test_one_rubric_for_all(tmp_path):
    template = PromptTemplate("{{ instruction }}\n{{ rubric }}\n{{ response }}\n", "rubric.jinja")
    judge = save_judge(tmp_path / "judge", warm_model(), template)
    run(write(tmp_path / "a.jsonl", ROWS), judge, "--rubric", "right close")
    run(write(tmp_path / "b.jsonl", [{**row, "rubric": "right close"} for row in ROWS]), judge)
    scores = [[row["expected_score"] for row in read(tmp_path / f"{name}.scored.jsonl")] for name in "ab"]
    assert scores[0] == scores[1]


def test_empty_responses_are_scored_and_counted(tmp_path, folder, capsys):
    answers = ["right.", "", "close.", "  "]
    data = write(tmp_path / "a.jsonl", [{"instruction": PROMPT, "data": {"text": answer}} for answer in answers])
    run(data, folder, "--columns", "response=data.text")
    said = " ".join(capsys.readouterr().out.split())
    assert "note: 2 of 4 rows have an empty response ('data.text')" in said
    assert [row["status"] for row in read(tmp_path / "a.scored.jsonl")] == ["ok"] * 4
    run(write(tmp_path / "b.jsonl", ROWS), folder)
    assert "empty response" not in capsys.readouterr().out


def test_complete_prompts(tmp_path, folder):
    prompts = prompt_dataset([1.0] * 3)["prompt"][:]
    judge = Judge.from_pretrained(folder, max_new_tokens=24, batch_size=2)
    own = [judgment.expected_score for judgment in judge.judge(prompts, seed=batch_seed(3, 0))]
    trained_on_such = save_judge(tmp_path / "judge", warm_model(), None)
    for number, (column, options) in enumerate([("prompt", ()), ("text", ("--prompt_column", "text"))]):
        data = write(tmp_path / f"{number}.jsonl", [{column: prompt} for prompt in prompts])
        for which in (folder, trained_on_such):
            output = tmp_path / f"{number}-{which.name}.jsonl"
            run(data, which, "--output", output, *options)
            assert [row["expected_score"] for row in read(output)] == own


def test_averages_and_malformed_completions(tmp_path, folder):
    data = write(tmp_path / "answers.jsonl", ROWS)
    run(data, folder, "--num_samples", 4, "--output", tmp_path / "average.jsonl")
    assert len({row["sampled_score"] for row in read(tmp_path / "average.jsonl")} - {1.0, 2.0, 3.0, 4.0, 5.0}) > 0
    run(data, folder, "--max_new_tokens", 2, "--malformed", "drop", "--output", tmp_path / "dropped.parquet")
    dropped = pq.read_table(tmp_path / "dropped.parquet").to_pylist()
    assert all(row["expected_score"] is None and row["probabilities"] is None for row in dropped)
    assert {row["status"] for row in dropped} == {"missing"} and all(row["rationale"] for row in dropped)


# --- killed and started again ----------------------------------------------------------------------------------------


def start(cwd: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "real_trl.scripts.score", "data.jsonl", "--judge", "judge", *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def stored_rows(folder: Path) -> int:
    """Rows in finished batches, of 32 rows each."""
    path = folder / "data.scored.jsonl.provenance" / "parts" / "00000.jsonl"
    return 32 * path.read_bytes().count(b"\n") if path.exists() else 0


def killed_runs(folder: Path, num_rows: int, kills: int, *options: str) -> list[int]:
    """Kill the command while it writes, `kills` times; returns the rows that each run left."""
    rng, left = random.Random(0), []
    for kill in range(kills):
        process = start(folder, *options)
        while stored_rows(folder) < num_rows * (kill + 1) / (kills + 1) and process.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.random() * 0.02)
        assert process.poll() is None, "it was to be killed, and was over"
        process.send_signal(signal.SIGKILL)
        process.wait()
        left.append(stored_rows(folder))
    assert not (folder / "data.scored.jsonl").exists()
    # As a kill in the middle of a write leaves it
    with (folder / "data.scored.jsonl.provenance" / "parts" / "00000.jsonl").open("ab") as file:
        file.write(b'{"batch": 99, "rows": [{"expected_sc')
    return left


def finish(folder: Path, *options: str) -> str:
    process = start(folder, *options)
    log = process.communicate(timeout=540)[0].decode()
    assert process.returncode == 0, log
    return log


def check_every_row_once(folder: Path, num_rows: int) -> list[dict]:
    scored = read(folder / "data.scored.jsonl")
    assert [row["question"] for row in scored] == list(range(num_rows))
    assert all(row["expected_score"] is not None for row in scored)
    left = {path.name for path in (folder / "data.scored.jsonl.provenance").iterdir()}
    assert left - {".complete.json"} == {"provenance.json"}  # the first, where it was a command of its own that ended
    return scored


def make_folder(path: Path, num_rows: int) -> Path:
    """A judge that knows nothing, and rows."""
    save_judge(path / "judge", build_model())
    rng = random.Random(1)
    rows = [
        {"instruction": PROMPT, "response": " ".join(rng.choices(LINES, k=2)), "question": i} for i in range(num_rows)
    ]
    write(path / "data.jsonl", rows)
    return path


@pytest.mark.slow
def test_killed_and_started_again(tmp_path, monkeypatch, capsys):
    folder = make_folder(tmp_path / "killed", 600)
    shutil.copytree(folder, whole := tmp_path / "whole")
    left = killed_runs(folder, 600, 1, "--max_new_tokens", "8")
    assert 300 <= left[0] < 600
    for each in (folder, whole):
        monkeypatch.chdir(each)
        score.main(["data.jsonl", "--judge", "judge", "--max_new_tokens", "8"])
    assert capsys.readouterr().out.count(f"{left[0]} rows are there") == 1
    assert check_every_row_once(folder, 600) == read(whole / "data.scored.jsonl")


@pytest.mark.slow
def test_ten_thousand_rows_killed_half_way(tmp_path):
    folder = make_folder(tmp_path / "killed", 10_000)
    shutil.copytree(folder, whole := tmp_path / "whole")
    left = killed_runs(folder, 10_000, 2, "--max_new_tokens", "4")
    assert 3_333 <= left[0] <= left[1] < 10_000
    assert f"{left[1]} rows are there" in finish(folder, "--max_new_tokens", "4")
    finish(whole, "--max_new_tokens", "4")
    assert check_every_row_once(folder, 10_000) == read(whole / "data.scored.jsonl")


def interrupt(monkeypatch, data: Path, judge: Path, *options) -> pytest.ExceptionInfo:
    """Stop a run after its first batch; what is returned holds all that the run held."""
    append = score.GeneratedFolder.append

    def stop(self, *args, **options):
        append(self, *args, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt) as interrupted:
        patch.setattr(score.GeneratedFolder, "append", stop)
        run(data, judge, *options)
    return interrupted


def test_a_run_that_ends_early_lets_go_of_its_folder(tmp_path, folder, monkeypatch):
    data = write(tmp_path / "a.jsonl", ROWS)
    interrupted = interrupt(monkeypatch, data, folder)
    run(data, folder)
    assert len(read(tmp_path / "a.scored.jsonl")) == len(ROWS)
    assert interrupted.type is KeyboardInterrupt


def test_changed_data_or_settings_are_refused(tmp_path, folder, monkeypatch, capsys):
    data = write(tmp_path / "a.jsonl", ROWS * 3)
    interrupt(monkeypatch, data, folder)
    output = tmp_path / "a.scored.jsonl"
    refused = refusal(capsys, data, folder, "--temperature", 0.5)
    assert refused.startswith(
        f"output: '{output}.provenance' holds what was made differently: judge.temperature was 1.0, now"
    )
    assert "max_new_tokens was 24, now it is 20" in refusal(capsys, data, folder, "--max_new_tokens", 20)
    assert "sampling.seed was 3, now it is 4" in refusal(capsys, data, folder, "--seed", 4)
    write(data, [*ROWS * 3, ROWS[0]])
    assert "data.rows was 21, now it is 22" in refusal(capsys, data, folder)
    write(data, [{**row, "question": "?"} for row in ROWS * 3])
    assert "data.fingerprint was" in refusal(capsys, data, folder)
    write(data, ROWS * 3)
    run(data, folder)
    assert "8 rows are there" in capsys.readouterr().out and len(read(output)) == 21
    assert "made differently" in refusal(capsys, data, folder, "--seed", 4)  # complete ones too
    shutil.rmtree(f"{output}.provenance")
    assert "is there already, and was not made by this command" in refusal(capsys, data, folder)
    assert len(read(output)) == 21


def test_a_second_run_that_starts_before_the_first_ends(tmp_path, folder, monkeypatch, capsys):
    data = write(tmp_path / "a.jsonl", ROWS)
    refused = []

    def second_while_the_first_loads(self, *args, **kwargs):
        refused.append(refusal(capsys, data, folder))
        return load(self, *args, **kwargs)

    load = score.ScoreArguments.load
    with monkeypatch.context() as patch:
        patch.setattr(score.ScoreArguments, "load", second_while_the_first_loads)
        run(data, folder)
    assert "another process is writing to" in refused[0] and refused[0].startswith("output: ")
    before = (tmp_path / "a.scored.jsonl").read_bytes()

    # The first ends just before the second has the lock
    (tmp_path / "a.scored.jsonl").unlink()
    shutil.rmtree(tmp_path / "a.scored.jsonl.provenance")
    only_writer = score.only_writer

    def lock_late(*args):
        monkeypatch.setattr(score, "only_writer", only_writer)
        run(data, folder)
        monkeypatch.setattr(score.ScoreArguments, "load", None)  # nothing is left to be scored
        return only_writer(*args)

    monkeypatch.setattr(score, "only_writer", lock_late)
    run(data, folder)
    assert "Already complete" in capsys.readouterr().out
    assert (tmp_path / "a.scored.jsonl").read_bytes() == before
    provenance = tmp_path / "a.scored.jsonl.provenance"
    assert [path.name for path in provenance.iterdir()] == ["provenance.json"]
    assert json.loads((provenance / "provenance.json").read_text())["complete"]


# --- what a user gets wrong ------------------------------------------------------------------------------------------


def test_user_errors(tmp_path, folder, capsys, monkeypatch):
    def no_model(*args, **kwargs):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(score.ScoreArguments, "load", no_model)
    data = write(tmp_path / "a.jsonl", ROWS)
    rows = {
        "taken": [{**row, "status": "done"} for row in ROWS],
        "unclear": [{**row, "prompt": "x"} for row in ROWS],
        "holes": [ROWS[0], {"instruction": PROMPT}, ROWS[2], {**ROWS[3], "response": 4}],
        "mixed": [{**ROWS[0], "extra": 1}, {**ROWS[1], "extra": "one"}],
        "other": [{"prompt": PROMPT}, {"prompt": " "}],
    }
    files = {name: write(tmp_path / f"{name}.jsonl", content) for name, content in rows.items()}
    blob = tmp_path / "blob.parquet"
    pq.write_table(pa.table({**{n: [r[n] for r in ROWS] for n in ROWS[0]}, "blob": [b"\x00"] * 7}), blob)
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "broken.jsonl").write_text('{"a": 1}\n{"a"\n')
    cases = [
        ((tmp_path / "no.jsonl",), "data: there is no file"),
        ((tmp_path / "empty.jsonl",), "holds no row"),
        ((tmp_path / "broken.jsonl",), "line 2"),
        ((folder / "model.safetensors",), "data='"),
        (
            (files["taken"],),
            "data: has a column 'status' already, as the scores will have. Rename it in the data, or set prefix",
        ),
        ((files["unclear"],), "prompt_column: not set, and there are the columns 'prompt' and 'response'"),
        ((files["holes"],), "2 of 4 rows of"),
        ((files["holes"],), "row 1 (line 2): response: the variable 'response' is undefined"),
        ((files["holes"],), "row 3 (line 4): response: the column 'response' holds 4 (a int). Turn it into text"),
        ((files["other"],), "row 1 (line 2): prompt_column 'prompt' is empty. Fill it"),
        ((files["mixed"], "--output", tmp_path / "x.parquet"), "the column 'extra' of the data mixes types"),
        ((blob,), "row 0 cannot be written as .jsonl (a bytes is no JSON"),
        ((data, "--output", tmp_path / "x.txt"), "ends in none of .jsonl, .csv, .parquet"),
        ((data, "--output", tmp_path / "no" / "x.jsonl"), "does not exist. Create it"),
        ((data, "--output", data), "is the data itself"),
        ((data, "--output", files["other"]), "is there already, and was not made by this command"),
        ((data, "--columns", "{respons: response}"), "no column variable 'respons'"),
        ((data, "--columns", "{response: answer}"), "columns: 'response' is read from 'answer', which does not exist"),
        ((data, "--columns", "[a"), "columns: got '[a'. Give a mapping"),
        (
            (data, "--columns", "instruction=question", "response=instruction"),
            "'response=instruction' on the command line belongs to no option. Separate entries of a mapping by commas",
        ),
        ((data, "--rubric", "x"), "rubric: the judge's prompt (homework.jinja) has no such field"),
        ((data, "--prompt_column", "text"), "prompt_column='text' is not a column"),
        ((data, "--prompt_column", "response", "--rubric", "x"), "to which rubric='x' adds nothing"),
        ((data, "--malformed", "strict"), "malformed: got 'strict'"),
        ((data, "--num_samples", "2", "--do_sample", "false"), "num_samples: got 2 with do_sample false"),
        ((data, "--output_dir", "x"), "unknown option '--output_dir'. Did you mean '--output'?"),
    ]
    for args, message in cases:
        assert message in refusal(capsys, args[0], folder, *args[1:])
    capsys.readouterr()
    wrong = {("--judge", "x"): "data: not set", (str(data),): "model: not set"}
    wrong["--judge", "x", str(data)] = "data: not set. Name the file to score first"
    for argv, message in wrong.items():
        with pytest.raises(SystemExit):
            score.main(list(argv))
        assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.provenance"))
    with pytest.raises(SystemExit, match="0"):
        score.main(["--help"])
    assert "real-trl score DATA --model JUDGE" in capsys.readouterr().out


def test_what_responses_say_moves_no_terminal_and_no_spreadsheet(tmp_path, folder, capsys):
    hostile = ["=cmd|' /C calc'!A0", "- a list\x1b[31m", "'=1", "-1.5", "@x", "＝1", "plain"]
    rows = [{**row, "note": note} for row, note in zip(ROWS, hostile, strict=True)]
    data = write(tmp_path / "an\x1b[2Jswers.jsonl", rows)
    run(data, folder, "--output", tmp_path / "a.csv")
    run(data, folder, "--output", tmp_path / "a\x1b[2J.jsonl")
    shown = capsys.readouterr()
    assert "7 rows scored" in shown.out and r"a\u001b[2J.jsonl" in shown.out and "\x1b" not in shown.out + shown.err
    with (tmp_path / "a.csv").open(newline="") as file:
        notes = [row["note"] for row in csv.DictReader(file)]
    assert notes == ["'" + note if note not in ("-1.5", "plain") else note for note in hostile]
    again = read_file(tmp_path / "a.csv")
    expected = read(tmp_path / "a\x1b[2J.jsonl")
    assert [row["note"] for row in again.iterate()] == hostile == [row["note"] for row in expected]
    assert [float(row["expected_score"]) for row in again.iterate()] == [row["expected_score"] for row in expected]
    run(tmp_path / "a.csv", folder, "--prefix", "second_", "--output", tmp_path / "b.jsonl")
    twice = read(tmp_path / "b.jsonl")
    assert [row["note"] for row in twice] == hostile
    assert [row["second_expected_score"] for row in twice] == [row["expected_score"] for row in expected]
