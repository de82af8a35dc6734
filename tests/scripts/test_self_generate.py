# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""TRACT's self-generation: true labels on the judge's own rationales, the same file however often it is stopped."""

import json
import multiprocessing
import os
import shutil
import socket
import time
from collections import Counter
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from accelerate import PartialState
from datasets import Dataset
from transformers import AutoModelForCausalLM

from real_trl import JudgeConfig
from real_trl.runs import fingerprints as provenance
from real_trl.runs.batches import plan_batches
from real_trl.runs.fingerprints import model_fingerprint
from real_trl.runs.rationales import Rationales, find_rationale
from real_trl.score_space import ScoreSpace
from real_trl.scripts import self_generate, sft
from tests.tiny import LORA, TOKENIZER, prompt_dataset, warm_model

SPACE = ScoreSpace.from_labels("1-5", TOKENIZER)
MARKER = "So the overall score is"
SCORES = [4.0, 2.5, 1.0, 5.0, 3.0, 2.0, 4.0]
RECIPE = {"dataset_train_split": "train", "max_new_tokens": 24, "batch_size": 2, "seed": 3}
# Children start from a server that has imported everything but runs no threads: fast, and safe to fork
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["real_trl.scripts.self_generate"])


@pytest.fixture(scope="module")
def judge(tmp_path_factory) -> Path:
    """A judge that answers in the right form, most of the time."""
    path = tmp_path_factory.mktemp("judge")
    warm_model().save_pretrained(path)
    TOKENIZER.save_pretrained(path)
    JudgeConfig(list("12345"), [1.0, 2.0, 3.0, 4.0, 5.0], method="raft").save(path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    rows = [{**row, "feedback": "right.", "question": f"q{i}"} for i, row in enumerate(prompt_dataset(SCORES))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def generate(folder: Path, judge, data, *options, **keys) -> Path:
    """Runs the stage with its recipe, changed by `keys` (`None` removes one), into `folder`."""
    recipe = {"model_name_or_path": str(judge), "output_dir": str(folder), "dataset_name": str(data), **RECIPE, **keys}
    path = folder.with_name(f"{folder.name}.yaml")
    path.write_text(yaml.safe_dump({name: value for name, value in recipe.items() if value is not None}))
    self_generate.main(["--config", str(path), *map(str, options)])
    return folder


def refusal(capsys, *args, **keys) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        generate(*args, **keys)
    assert error.value.code == 2
    message = capsys.readouterr().err
    assert message.count("error: ") == 1 and "Traceback" not in message
    return message[message.index("error: ") :]


def rows_of(folder: Path, name: str = "train.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "provenance.json"}


# --- the way through ---------------------------------------------------------------------------------------------------


def test_true_labels_on_the_judges_own_rationales(tmp_path, judge, data, capsys):
    folder = generate(tmp_path / "out", judge, data, keep_columns=["question"], num_samples=3)
    rows, source = rows_of(folder), prompt_dataset(SCORES)
    dropped = rows_of(folder, "dropped.jsonl")
    assert len(rows) + len(dropped) == 3 * len(SCORES) and len(rows) > 2 * len(SCORES)
    for row in rows:
        index = int(row["question"][1:])
        assert (row["prompt"], row["score"]) == (source[index]["prompt"], SCORES[index])
        assert MARKER not in row["feedback"] and row["feedback"] == row["feedback"].strip() != ""
    assert [row["question"] for row in rows] == sorted(row["question"] for row in rows)
    assert any(row["sampled_score"] != row["score"] for row in rows)
    assert max(Counter(row["prompt"] for row in rows).values()) == 3  # each sampled anew
    assert any(len({row["feedback"] for row in rows if row["question"] == f"q{i}"}) > 1 for i in range(len(SCORES)))
    assert sorted(path.name for path in folder.iterdir()) == ["dropped.jsonl", "provenance.json", "train.jsonl"]

    record = json.loads((folder / "provenance.json").read_text())
    assert record["complete"] and record["runs"][0]["versions"]["torch"]
    assert record["made_with"]["model"] == {
        "name_or_path": str(judge),
        "revision": "main",
        "fingerprint": model_fingerprint(str(judge)),
    }
    assert record["made_with"]["sampling"]["seed"] == 3 and record["made_with"]["sampling"]["num_samples"] == 3
    assert record["made_with"]["judge"]["temperature"] == 1.0
    assert record["made_with"]["data"]["dataset_name"] == str(data)
    assert record["counts"]["completions"] == 3 * len(SCORES) and record["counts"]["rows"] == len(rows)
    assert sum(record["counts"]["dropped"].values()) == len(dropped)
    printed = capsys.readouterr().out
    assert f"{len(rows)} rows from {3 * len(SCORES)} completions of {len(SCORES)} prompts; malformed:" in printed

    before = contents(folder)
    generate(folder, judge, data, keep_columns=["question"], num_samples=3)
    assert contents(folder) == before and "Already complete" in capsys.readouterr().out


def test_stage_2_trains_on_it(tmp_path, judge):
    rows = prompt_dataset([4.0, 2.0, 5.0, 1.0])
    rows.to_json(tmp_path / "rows.jsonl")
    folder = generate(tmp_path / "out", judge, tmp_path / "rows.jsonl", malformed="keep")
    options = {
        **{"model_name_or_path": str(judge), "dataset_name": str(folder), "output_dir": str(tmp_path / "tract")},
        **{"max_steps": 1, "per_device_train_batch_size": 4, "use_cpu": True, "bf16": False, "report_to": "none"},
        **{"gradient_checkpointing": False, "save_strategy": "no", "learning_rate": 1e-2},
    }
    (tmp_path / "sft.yaml").write_text(yaml.safe_dump(options))
    sft.main(["--config", str(tmp_path / "sft.yaml")])
    start, end = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (judge, tmp_path / "tract"))
    assert all(not (end[name] == value).all() for name, value in start.items())


def test_kept_columns_of_other_types(tmp_path, judge, data, capsys):
    """Decimals, times and maps of a Parquet file are written; what cannot be is refused before anything is generated."""
    rows = rows_of(data.parent, data.name)
    table = pa.Table.from_pylist(rows).append_column("price", pa.array([Decimal("1.50")] * len(rows)))
    table = table.append_column("day", pa.array([date(2026, 1, 2)] * len(rows)))
    table = table.append_column("votes", pa.array([[("a", 1)]] * len(rows), pa.map_(pa.string(), pa.int64())))
    pq.write_table(table.append_column("blob", pa.array([b"a"] * len(rows))), tmp_path / "rows.parquet")
    folder = generate(tmp_path / "out", judge, tmp_path / "rows.parquet", keep_columns=["price", "day", "votes"])
    assert {name: rows_of(folder)[0][name] for name in ("price", "day", "votes")} == {
        "price": 1.5,
        "day": "2026-01-02",
        "votes": {"a": 1},
    }
    message = refusal(capsys, tmp_path / "other", judge, tmp_path / "rows.parquet", keep_columns=["blob"])
    assert "the column 'blob' cannot be written as JSON: in row 0 it holds a bytes" in message
    assert not (tmp_path / "other").exists()


def test_histograms_pass_through(tmp_path, judge):
    rows = [{**row, "counts": [0, 1, 0, 0, 3]} for row in prompt_dataset([1.0] * 3).remove_columns("score")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = generate(tmp_path / "out", judge, tmp_path / "rows.jsonl", histogram_column="counts", malformed="keep")
    for row in rows_of(folder):
        assert row["score_histogram"] == [0, 0.25, 0, 0, 0.75] and row["score"] == 4.25


# --- stopping and sharing ----------------------------------------------------------------------------------------------


def _in_child(folder, judge, data, environment, keys):
    os.environ.update(environment)
    PartialState._reset_state()
    generate(folder, judge, data, **keys)


def _start(folder, judge, data, environment=None, **keys):
    child = _processes.Process(target=_in_child, args=(folder, judge, data, environment or {}, keys))
    child.start()
    return child


def _parts(folder: Path) -> int:
    """Bytes of the batches that are there."""
    try:
        return sum(path.stat().st_size for path in (folder / "parts").glob("*"))
    except FileNotFoundError:  # deleted meanwhile
        return 0


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_file(tmp_path, judge, data):
    keys = {"num_samples": 3, "batch_size": 4}
    whole = contents(generate(tmp_path / "whole", judge, data, **keys))
    folder, kills = tmp_path / "killed", 0
    while True:
        before = _parts(folder)
        child = _start(folder, judge, data, **keys)
        # The first time as soon as anything is there, then after a batch, a little later each time
        while child.is_alive() and (_parts(folder) == before if kills else not folder.exists()):
            time.sleep(0.0005)
        time.sleep(0.003 * kills)
        child.kill()
        child.join()
        if child.exitcode == 0:
            break
        kills += 1
        # What looks finished is
        assert not (folder / "train.jsonl").exists() or (folder / "train.jsonl").read_bytes() == whole["train.jsonl"]
        if kills % 2 == 0 and (folder / "parts").is_dir():
            with (folder / "parts" / "00000.jsonl").open("ab") as file:
                file.write(b'{"batch": 9, "rows": [{"row": 1, "comp')  # a line that was being written
    assert kills >= 3
    assert contents(folder) == whole


def test_a_run_that_was_killed_while_it_started_can_be_started_again(tmp_path, judge, data):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / ".writing-provenance.json").write_text('{"complete": fal')
    assert rows_of(generate(folder, judge, data))
    assert not (folder / ".writing-provenance.json").exists()


def test_a_run_that_ends_early_lets_go_of_its_folder(tmp_path, judge, data, monkeypatch):
    def stop(self, *args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt) as interrupted:
        patch.setattr(self_generate.GeneratedFolder, "append", stop)
        generate(tmp_path / "out", judge, data)
    assert len(rows_of(generate(tmp_path / "out", judge, data))) == len(SCORES)
    assert interrupted.type is KeyboardInterrupt  # held until here, and with it all that the run held


def test_two_processes_share_the_work_and_one_goes_on_alone(tmp_path, judge, data):
    keys = {"num_samples": 4, "batch_size": 3}
    whole = contents(generate(tmp_path / "whole", judge, data, **keys))

    def launch(folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
        ranks = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
        return [_start(folder, judge, data, rank, **keys) for rank in ranks]

    children = launch(tmp_path / "two")
    for child in children:
        child.join(120)
        assert child.exitcode == 0
    assert contents(tmp_path / "two") == whole
    assert json.loads((tmp_path / "two" / "provenance.json").read_text())["runs"][0]["processes"] == 2

    folder = tmp_path / "two-then-one"
    children = launch(folder)
    while len(list((folder / "parts").glob("*"))) < 2 and all(child.is_alive() for child in children):
        time.sleep(0.001)
    for child in children:
        child.kill()
        child.join()
    assert contents(generate(folder, judge, data, **keys)) == whole


def test_a_corrupt_part_is_named(tmp_path, judge, data, capsys):
    folder = generate(tmp_path / "out", judge, data)
    record = json.loads((folder / "provenance.json").read_text())
    (folder / "provenance.json").write_text(json.dumps({**record, "complete": False}))
    (folder / "parts").mkdir()
    (folder / "parts" / "00001.jsonl").write_text('{"batch": 0, "rows": []}\n{"batch": 1}\n')
    assert "00001.jsonl, line 2: not a batch" in refusal(capsys, folder, judge, data)


def test_batches_are_long_prompts_first_and_hold_every_completion_once():
    prompts = ["a", "abc", "ab", "abcd"]
    batches = plan_batches(prompts, num_samples=2, batch_size=3)
    assert batches == [[(3, 0), (3, 1), (1, 0)], [(1, 1), (2, 0), (2, 1)], [(0, 0), (0, 1)]]


# --- what is refused ---------------------------------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path, judge, data) -> Path:
    return generate(tmp_path / "made", judge, data)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"seed": 4}, "sampling.seed was 3, now it is 4"),
        ({"temperature": 0.7}, "judge.temperature was 1.0, now it is 0.7"),
        ({"top_p": 0.9}, "sampling.top_p was 1.0, now it is 0.9"),
        ({"num_samples": 2}, "sampling.num_samples was 1, now it is 2"),
        ({"batch_size": 4}, "sampling.batch_size was 2, now it is 4"),
        ({"malformed": "keep"}, "sampling.malformed was 'drop', now it is 'keep'"),
        ({"max_rows": 3}, "data.max_rows was None, now it is 3; data.rows was 7, now it is 3; data.fingerprint was"),
        ({"dtype": "bfloat16"}, "loading.dtype was"),
    ],
)
def test_a_folder_made_differently_is_refused(made, judge, data, capsys, keys, expected):
    before = contents(made)
    message = refusal(capsys, made, judge, data, **keys)
    assert expected in message and str(made) in message and "choose another output_dir" in message
    assert contents(made) == before


def test_a_folder_made_by_another_model_is_refused(made, judge, data, tmp_path, capsys):
    copy, other = tmp_path / "copy", tmp_path / "other"
    shutil.copytree(judge, copy)
    (copy / "trainer_state.json").write_text("{}")
    generate(made, copy, data)
    assert "Already complete" in capsys.readouterr().out  # the same model elsewhere
    shutil.copytree(judge, other)
    model = AutoModelForCausalLM.from_pretrained(other)
    model.model.norm.weight.data[0] += 1e-3
    model.save_pretrained(other)
    message = refusal(capsys, made, other, data)
    assert f"model.name_or_path was {str(judge)!r}, now it is {str(other)!r}; model.fingerprint was" in message


def test_a_folder_of_other_data_is_refused(made, judge, data, tmp_path, capsys):
    changed = tmp_path / "changed.jsonl"
    changed.write_text(data.read_text().replace('"score": 5.0', '"score": 4.0'))
    assert "data.fingerprint was" in refusal(capsys, made, judge, changed)
    same = tmp_path / "same.jsonl"
    shutil.copy(data, same)
    generate(made, judge, same)
    assert "Already complete" in capsys.readouterr().out


def test_a_folder_of_unknown_origin_is_refused(tmp_path, judge, data, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    assert "is not empty and has no provenance.json" in refusal(capsys, folder, judge, data)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert "is a file" in refusal(capsys, data, judge, data)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"engine": "tgi"}, "engine: got 'tgi'. Set it to one of: transformers, vllm, server."),
        ({"malformed": "force"}, "malformed: got 'force'. Set it to one of: drop, keep."),
        ({"num_samples": 0}, "num_samples: got 0"),
        ({"num_samples": 2, "do_sample": False}, "num_samples: got 2 with do_sample false"),
        ({"top_p": 0.0}, "top_p: got 0.0"),
        ({"keep_columns": ["question", "feedback"]}, "keep_columns: 'feedback'"),
        ({"score_labels": "0-9"}, "score_labels: got"),
        ({"dataset_name": "nowhere.jsonl"}, "dataset_name='nowhere.jsonl'"),
        ({"model_name_or_path": "./nowhere"}, "model: "),
    ],
)
def test_bad_settings_are_refused(tmp_path, judge, data, capsys, keys, expected):
    assert expected in refusal(capsys, tmp_path / "out", judge, data, **keys)
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_scale_needs_one(tmp_path, judge, data, capsys):
    plain = tmp_path / "plain"
    shutil.copytree(judge, plain)
    (plain / "judge_config.json").unlink()
    assert "score_labels: not set" in refusal(capsys, tmp_path / "out", plain, data)
    assert rows_of(generate(tmp_path / "out", plain, data, score_labels="1-5"))


def test_nothing_usable_is_an_error_that_keeps_the_completions(tmp_path, judge, data, capsys):
    message = refusal(capsys, tmp_path / "out", judge, data, max_new_tokens=3)
    assert "holds no row" in message and "max_new_tokens" in message
    dropped = rows_of(tmp_path / "out", "dropped.jsonl")
    assert len(dropped) == len(SCORES) and {row["reason"] for row in dropped} == {"unmarked"}


# --- rationales --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("completion", "status", "drop", "keep"),
    [
        (f"right. {MARKER} 4", "ok", "right.", "right."),
        (f"{MARKER} 3? wrong. {MARKER} 4", "ok", f"{MARKER} 3? wrong.", f"{MARKER} 3? wrong."),
        (f"right. {MARKER} 9", "outside", "right.", "right."),
        (f"right. {MARKER}", "truncated", "right.", "right."),
        ("right, wrong.", "missing", None, "right, wrong."),
        (f"{MARKER} 4", "ok", "", ""),
        ("", "missing", None, ""),
    ],
)
def test_the_rationale_is_what_precedes_the_last_marker(completion, status, drop, keep):
    assert find_rationale(completion, status, SPACE, "drop") == drop
    assert find_rationale(completion, status, SPACE, "keep") == keep


@pytest.mark.parametrize(
    ("malformed", "rows", "dropped"),
    [("drop", [0, 2], {"unmarked": 1, "empty": 1}), ("keep", [0, 1, 2], {"empty": 1})],
)
def test_counts_say_what_was_malformed_and_what_was_dropped(malformed, rows, dropped):
    dataset = Dataset.from_dict({"prompt": list("abcd"), "score": [1.0, 2.0, 3.0, 4.0]})
    texts = [("right. So the overall score is 5", "ok"), ("wrong.", "missing"), ("close. " + MARKER, "truncated")]
    completions = [
        {"row": row, "sample": 0, "status": status, "sampled_score": None, "completion": text}
        for row, (text, status) in reversed(list(enumerate([*texts, (f"{MARKER} 1", "ok")])))
    ]
    kept, left_out, counts = Rationales(dataset, SPACE, malformed).make_rows(completions)
    assert [row["prompt"] for row in kept] == ["abcd"[row] for row in rows]
    assert [row["score"] for row in kept] == [float(row + 1) for row in rows]
    assert counts["malformed"] == {"missing": 1, "truncated": 1} and counts["dropped"] == dropped
    assert Counter(row["reason"] for row in left_out) == dropped
    assert (counts["prompts"], counts["completions"], counts["rows"]) == (4, 4, len(rows))


# --- fingerprints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole_up_to", [2**40, 1])
def test_a_fingerprint_tells_weights_apart_and_ignores_the_log(tmp_path, judge, monkeypatch, whole_up_to):
    monkeypatch.setattr(provenance, "_WHOLE_UP_TO", whole_up_to)
    folder = tmp_path / "model"
    shutil.copytree(judge, folder)
    first = model_fingerprint(str(folder))
    (folder / "training_args.bin").write_bytes(b"x")
    assert model_fingerprint(str(folder)) == first
    weights = folder / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-3] ^= 1
    weights.write_bytes(bytes(changed))
    assert model_fingerprint(str(folder)) != first


def test_the_fingerprint_of_an_adapter_covers_its_base(tmp_path, judge):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    shutil.copytree(judge, base)
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({**LORA, "base_model_name_or_path": str(base)}))
    first = model_fingerprint(str(adapter))
    (base / "model.safetensors").write_bytes(b"other weights")
    assert model_fingerprint(str(adapter)) != first
