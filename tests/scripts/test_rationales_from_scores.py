# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From scores alone to a judge with rationales: a model that was never trained as a judge writes them, and the nearest are kept."""

import copy
import json
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from real_trl.judge_config import JudgeConfig
from real_trl.runs.folder import GeneratedFolder
from real_trl.scripts import rl, self_generate, sft
from tests import tokenizers_zoo as zoo
from tests.helpers.rationale_writer import PROMPTS, writer_model
from tests.helpers.scripted_server import PROBABILITIES, ScriptedServer, chat_answer
from tests.helpers.tiny_server import MODEL_NAME, TinyServer, serve
from tests.tiny import TOKENIZER, chat_tokenizer

MARKER = "So the overall score is"
ROWS = [
    {"prompt": PROMPTS[place % 2], "score": score, "question": place}
    for place, score in enumerate([4.0, 2.0, 1.0, 3.0, 5.0, 4.0, 2.0, 5.0])
]
RECIPE = {
    **{"max_new_tokens": 24, "batch_size": 4, "seed": 3, "num_samples": 1},
    **{"score_labels": "1-5", "keep_columns": ["question"]},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """It has no `judge_config.json`, so that nothing is known of it as a judge."""
    path = tmp_path_factory.mktemp("model")
    writer_model().save_pretrained(path)
    TOKENIZER.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def generate(folder: Path, model, data, **keys) -> Path:
    recipe = {"model_name_or_path": str(model), "output_dir": str(folder), "dataset_name": str(data), **RECIPE, **keys}
    path = folder.with_name(f"{folder.name}.yaml")
    path.write_text(yaml.safe_dump(recipe))
    self_generate.main(["--config", str(path)])
    return folder


def rows_of(folder: Path, name: str = "train.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def expected_score(model: torch.nn.Module, prompt: str, rationale: str) -> float:
    """By a forward in double precision over all of it, divided by the mass on the labels."""
    ids = TOKENIZER(prompt)["input_ids"] + TOKENIZER(f"{rationale} {MARKER}")["input_ids"]
    probabilities = model(torch.tensor([ids])).logits[0, -1].softmax(-1)
    of_labels = probabilities[[TOKENIZER.convert_tokens_to_ids(str(label)) for label in range(1, 6)]]
    return float((of_labels / of_labels.sum()) @ torch.arange(1.0, 6.0, dtype=torch.float64))


@pytest.mark.parametrize("show_score", [False, True])
def test_the_score_is_read_behind_prompt_rationale_and_marker(tmp_path, model, data, capsys, show_score):
    keys = {"max_distance": 1.0, "show_score": show_score}
    folder = generate(tmp_path / "out", model, data, **keys)
    rows, dropped = rows_of(folder), rows_of(folder, "dropped.jsonl")
    found = [(row["question"], row["feedback"], row["expected_score"]) for row in rows]
    found += [
        (each["row"], each["rationale"], each["expected_score"])
        for each in dropped
        if each["reason"] in ("too far", "not the nearest")
    ]
    double = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64).eval()
    with torch.no_grad():
        for index, rationale, expected in found:
            assert expected == pytest.approx(expected_score(double, PROMPTS[index % 2], rationale), abs=1e-5)
    for row in rows:
        truth = ROWS[row["question"]]
        assert (row["prompt"], row["score"]) == (truth["prompt"], truth["score"]) and MARKER not in row["feedback"]
        assert row["distance"] == abs(row["expected_score"] - row["score"]) <= 1.0
        of_row = [abs(expected - row["score"]) for index, _, expected in found if index == row["question"]]
        assert row["distance"] == min(of_row)
        # Right: 4 or 5, close: 3, wrong: 1 or 2, in even parts, although a score that was shown is repeated
        assert row["distance"] == pytest.approx(0.0 if row["score"] == 3 else 0.5, abs=0.2)
    # A model that guesses finds a rationale for some rows, one that is told for nearly all
    assert len(rows) >= 7 if show_score else 1 <= len(rows) <= 6

    counts = json.loads((folder / "provenance.json").read_text())["counts"]
    assert counts["selection"]["kept"] == counts["rows"] == len(rows)
    assert [group["rows"] for group in counts["selection"]["by_score"]] == [1, 2, 1, 2, 2]
    printed = capsys.readouterr().out
    assert f"kept {len(rows)} of 8 rows" in printed and "true score" in printed

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    generate(folder, model, data, **keys)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    printed = capsys.readouterr().out
    assert "Already complete" in printed and f"kept {len(rows)} of 8 rows" in printed


def test_a_server_is_shown_the_score_only_where_it_writes(tmp_path, model, data):
    server = TinyServer(writer_model(), TOKENIZER, extensions=True)
    with serve(server) as url:
        options = {"engine": "server", "tokenizer": str(model), "engine_options": {"base_url": url}}
        folder = generate(tmp_path / "out", MODEL_NAME, data, **options, max_distance=1.0, show_score=True)
    sent = {True: 0, False: 0}
    for body in filter(None, server.bodies):
        if body["prompt"][0] == TOKENIZER(PROMPTS[0])["input_ids"][0]:  # else it was asked what it can do
            # The tiny tokenizer does not know the words of the hint
            assert (body["prompt"].count(TOKENIZER.unk_token_id) > 20) == (body["max_tokens"] > 1)
            sent[body["max_tokens"] > 1] += 1
    assert sent[True] == len(ROWS) and sent[False] >= len(ROWS) - 1
    double = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64).eval()
    assert len(rows_of(folder)) >= 7
    with torch.no_grad():
        for row in rows_of(folder):
            truth = expected_score(double, row["prompt"], row["feedback"])
            assert row["expected_score"] == pytest.approx(truth, abs=1e-5)


def test_a_chat_api_is_refused_only_where_it_would_have_to_read(tmp_path, model, data, capsys):
    """It cannot go on with an answer that is given, but what it writes itself brings the distribution along."""
    tokenizer = copy.deepcopy(zoo.TOKENIZERS["qwen"]())
    tokenizer.chat_template = chat_tokenizer().chat_template
    tokenizer.save_pretrained(tmp_path / "chat")
    server = ScriptedServer(lambda prompt, number: chat_answer())
    with serve(server) as url:
        options = {"engine": "server", "tokenizer": str(tmp_path / "chat"), "max_distance": 1.0}
        options["engine_options"] = {"base_url": url, "api": "chat"}
        message = refusal(capsys, tmp_path / "shown", MODEL_NAME, data, **options, show_score=True)
        assert "show_score: got true, but a chat API cannot read" in message and server.asked == 0
        rows = rows_of(generate(tmp_path / "out", MODEL_NAME, data, **options))
    expected = sum(int(label) * share for label, share in PROBABILITIES.items()) / sum(PROBABILITIES.values())
    assert [row["score"] for row in rows] == [4.0, 3.0, 4.0]  # 3.82
    assert all(row["expected_score"] == pytest.approx(expected) and row["feedback"] == "Fine." for row in rows)


@pytest.mark.parametrize("show_score", [False, True])
def test_a_run_that_is_stopped_ends_with_the_same_files(tmp_path, model, data, monkeypatch, show_score):
    keys = {"max_distance": 1.0, "show_score": show_score, "num_samples": 3, "batch_size": 5}
    whole = generate(tmp_path / "whole", model, data, **keys)
    batches, append = [], GeneratedFolder.append

    def stop(self, *args, **options):
        append(self, *args, **options)
        batches.append(args)
        if len(batches) % 2 == 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(GeneratedFolder, "append", stop)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                generate(tmp_path / "stopped", model, data, **keys)
        generate(tmp_path / "stopped", model, data, **keys)
    assert len(batches) == 5
    for name in ("train.jsonl", "dropped.jsonl"):
        assert (tmp_path / "stopped" / name).read_bytes() == (whole / name).read_bytes()
    counts = [json.loads((tmp_path / name / "provenance.json").read_text())["counts"] for name in ("whole", "stopped")]
    assert counts[0] == counts[1]


def refusal(capsys, *args, **keys) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        generate(*args, **keys)
    assert error.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"show_score": True}, "max_distance: not set, and show_score is true. Set it"),
        ({"max_distance": 0}, "max_distance: got 0. Set it above 0."),
        ({"max_distance": 1.0, "keep_columns": ["distance"]}, "keep_columns: 'distance' is a column"),
    ],
)
def test_bad_settings_are_refused(tmp_path, model, data, capsys, keys, expected):
    assert expected in refusal(capsys, tmp_path / "out", model, data, **keys)
    assert not (tmp_path / "out").exists()


def test_nothing_near_enough_is_an_error_that_keeps_the_completions(tmp_path, model, data, capsys):
    message = refusal(capsys, tmp_path / "out", model, data, max_distance=1e-9)
    assert "holds no row" in message and "Raise max_distance, num_samples" in message
    assert {each["reason"] for each in rows_of(tmp_path / "out", "dropped.jsonl")} >= {"too far"}


def test_a_folder_made_with_another_bound_or_hint_is_refused(tmp_path, model, data, capsys):
    folder = generate(tmp_path / "out", model, data, max_distance=4.0)
    assert "sampling.max_distance was 4.0, now it is 3.0" in refusal(capsys, folder, model, data, max_distance=3.0)
    message = refusal(capsys, folder, model, data, max_distance=4.0, show_score=True)
    assert "sampling.hint was None, now it is '(The score awarded" in message


@pytest.mark.parametrize("show_score", [False, True])
def test_from_scores_alone_to_a_judge_that_reasons(tmp_path, model, data, show_score):
    """An untrained model, its rationales, RAFT on them as they are, and a step of REAL: each by its command."""
    folder = generate(tmp_path / "rationales", model, data, max_distance=4.0, show_score=show_score)
    assert len(rows_of(folder)) == len(ROWS)
    training = {
        **{"score_labels": "1-5", "max_steps": 1, "per_device_train_batch_size": 4, "use_cpu": True, "bf16": False},
        **{"gradient_checkpointing": False, "save_strategy": "no", "learning_rate": 1e-2, "report_to": "none"},
    }
    raft = {"model_name_or_path": str(model), "dataset_name": str(folder), "output_dir": str(tmp_path / "raft")}
    real = {"model_name_or_path": raft["output_dir"], "dataset_name": str(data), "output_dir": str(tmp_path / "real")}
    real |= {"num_generations": 4, "max_completion_length": 24, "malformed": "force"}
    for stage, own in (("sft", raft), ("rl", real)):
        (tmp_path / f"{stage}.yaml").write_text(yaml.safe_dump({**training, **own}))
        {"sft": sft, "rl": rl}[stage].main(["--config", str(tmp_path / f"{stage}.yaml")])
    states = [
        AutoModelForCausalLM.from_pretrained(path).state_dict()
        for path in (model, tmp_path / "raft", tmp_path / "real")
    ]
    for before, after in zip(states, states[1:], strict=False):
        assert all(not torch.equal(before[name], value) and value.isfinite().all() for name, value in after.items())
    assert JudgeConfig.load(tmp_path / "real").method == "regression"
