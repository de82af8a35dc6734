# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A judge published to a folder: what is in it, what its card says, and what is refused."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from real_trl import Judge
from real_trl.judge_config import JudgeConfig
from real_trl.methods import METHODS
from real_trl.publishing import Publication, build_card, check_card, find_judge_files, read_evaluation, write_folder
from real_trl.publishing.lineage import base_among, mark_local
from real_trl.publishing.results import eval_results, evaluation_table
from real_trl.runs.fingerprints import model_fingerprint
from real_trl.scale import Scale
from real_trl.scripts.push import main
from tests.publishing.judges import PUBLISHED, TOKEN, judge_config, write_adapter, write_evaluation, write_judge
from tests.tiny import LINES

RESPONSES = ["\n".join(LINES[: 1 + row % 3]) for row in range(6)]


def scores(folder: Path) -> list[tuple[float, str]]:
    judge = Judge.from_pretrained(folder, max_new_tokens=16)
    return [(each.expected_score, each.completion) for each in judge.score(response=RESPONSES)]


def refused(argv: list[str], capsys: pytest.CaptureFixture) -> str:
    with pytest.raises(SystemExit) as status:
        main(argv)
    assert status.value.code == 2
    return capsys.readouterr().err


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    return write_judge(tmp_path / "my-real")


def test_the_folder_holds_the_judge_and_nothing_else(judge, tmp_path, capsys):
    main([str(judge), "--local_dir", str(tmp_path / "out"), "--repo_id", "acme/judge"])
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == PUBLISHED
    assert not list(tmp_path.glob(".publishing-*"))
    assert "was not evaluated" in capsys.readouterr().out
    for path in (tmp_path / "out").iterdir():
        content = path.read_bytes()
        assert str(tmp_path).encode() not in content and b"/somewhere/private" not in content, path
    assert JudgeConfig.load(tmp_path / "out").prompt_template == "homework.jinja"


def test_the_published_judge_gives_the_same_scores(judge, tmp_path):
    main([str(judge), "--local_dir", str(tmp_path / "out")])
    before = scores(judge)
    assert scores(tmp_path / "out") == before
    assert len({score for score, _ in before}) > 1


def test_the_card_tells_what_is_known(judge, tmp_path):
    config = JudgeConfig.load(judge)
    figures = write_evaluation(tmp_path / "evaluation", config)
    argv = [str(judge), "--local_dir", str(tmp_path / "out"), "--repo_id", "acme/judge", "--license", "apache-2.0"]
    main([*argv, "--evaluation", str(tmp_path / "evaluation")])
    card = ModelCard.load(tmp_path / "out" / "README.md")
    check_card(card)
    data = card.data
    assert (data.base_model, data.license, data.model_name) == ("acme/base-8b", "apache-2.0", "judge")
    results = {result.metric_name: result for result in data.eval_results}
    assert results["pearson (RAIL)"].metric_value == figures["pearson"]
    assert results["rmse (RAIL)"].dataset_name == "scores.jsonl, test"
    assert "secret-project" not in card.content
    for part in (
        "2603.17145",
        METHODS["regression"].equation,
        "| `num_generations` | 8 |",
        "acme/base-8b",
        "transformers 5",
    ):
        assert part in card.content, part
    assert f"{100 * figures['pearson']:.1f} [" in card.text
    assert "group_filter" not in card.text  # not set


def test_without_an_evaluation_the_card_says_so(judge):
    card = build_card(JudgeConfig.load(judge), "acme/judge")
    assert "was not evaluated" in card.text and not card.data.eval_results


def test_the_base_model_and_people_stand_beside_the_judge(judge, tmp_path):
    files = find_judge_files(judge)
    write_evaluation(tmp_path / "evaluation", files.config, "my-real")
    path = tmp_path / "evaluation" / "evaluation.json"
    alone = read_evaluation(path, files)
    assert "Before training" not in evaluation_table(alone) and "A person" not in evaluation_table(alone)
    content = json.loads(path.read_text())
    start = {**content["results"]["test"]["my-real"], "intervals": {}}
    start["rail"] = start["rail"] | {"pearson": 0.125}
    content["results"]["test"]["start"] = start
    content["judges"]["start"] = {"model": "acme/base-8b", "judge": {"method": None}}
    content["judges"]["my-real"]["base"] = "start"
    people = {"pearson": 0.75, "spearman": 0.7, "kendall": 0.65, "rmse": 0.5, "mae": 0.25}
    content["ceiling"] = {
        "test": {"leave_one_out": people, "between": people | {"pearson": 0.5}, "intervals": {}, "n_rows": 9}
    }
    path.write_text(json.dumps(content))
    table = evaluation_table(read_evaluation(path, files))
    header = next(line for line in table.splitlines() if line.startswith("| data"))
    assert header.startswith("| data | inference | n | Pearson's r | Spearman's ρ | Kendall's τ | RMSE |")
    for row in (
        "| Before training, RAIL | 20 | 12.5 |",
        "| A person, against the mean of the others | 9 | 75.0 | 70.0 | 65.0 | 0.500 |",
        "| A person, against another | 9 | 50.0 |",
    ):
        assert row in table
    assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) == 1
    # The metadata of the card is about the judge alone
    names = {each.metric_name for each in eval_results(read_evaluation(path, files))}
    assert names == {each.metric_name for each in eval_results(alone)}


def test_a_judge_s_base_is_the_earliest_of_its_stages_that_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raft = judge_config("acme/base-8b")
    (tmp_path / "raft").mkdir()
    raft.save(tmp_path / "raft")
    real = judge_config("./raft")
    judges = {"start": "acme/base-8b", "warm": str(tmp_path / "raft"), "other": "acme/other"}
    assert base_among(real, judges) == "start" and base_among(raft, judges) == "start"
    del judges["start"]
    assert base_among(real, judges) == "warm" and base_among(raft, judges) is None
    (tmp_path / "raft" / "judge_config.json").write_text("{")
    assert base_among(real, judges) is None


def test_what_the_intervals_resample_is_said(judge, tmp_path):
    files = find_judge_files(judge)
    write_evaluation(tmp_path / "evaluation", files.config)
    evaluation = read_evaluation(tmp_path / "evaluation", files)
    size = evaluation["datasets"]["test"]
    for groups, expected in ((size["n_rows"] // 2, "intervals, by question."), (size["n_rows"], "intervals, by row.")):
        changed = {**evaluation, "datasets": {"test": {**size, "n_groups": groups}}}
        assert expected in evaluation_table(changed)


def test_an_evaluation_of_another_judge_is_refused(judge, tmp_path):
    other = judge_config("acme/base-8b", training={"seed": 4})
    write_evaluation(tmp_path / "evaluation", other)
    with pytest.raises(ValueError, match="it is about 'my-real', none of which has this judge's scale"):
        read_evaluation(tmp_path / "evaluation", find_judge_files(judge))


def test_the_figures_are_those_of_the_same_weights(judge, tmp_path):
    files = find_judge_files(judge)
    own, other = model_fingerprint(str(judge)), f"sha256 {'0' * 64}"
    write_evaluation(tmp_path / "both", files.config, early=other, final=own)
    assert read_evaluation(tmp_path / "both", files)["name"] == "final"
    write_evaluation(tmp_path / "other", files.config, early=other)
    with pytest.raises(ValueError, match="'early' in it was trained as the judge in .* but has other weights"):
        read_evaluation(tmp_path / "other", files)
    write_evaluation(tmp_path / "unknown", files.config, "early", "final")  # predictions were deleted
    with pytest.raises(ValueError, match="'early', 'final' in it may each be the judge"):
        read_evaluation(tmp_path / "unknown", files)


def test_without_predictions_the_directory_that_was_evaluated_tells(judge, tmp_path):
    files = find_judge_files(judge)
    write_evaluation(tmp_path / "evaluation", files.config)
    path = tmp_path / "evaluation" / "evaluation.json"
    checkpoint = write_judge(tmp_path / "checkpoint-20")
    path.write_text(path.read_text().replace("outputs/my-real", str(checkpoint)))
    assert read_evaluation(path, files)["name"] == "my-real"  # a copy of the judge
    (checkpoint / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(ValueError, match="other weights"):
        read_evaluation(path, files)


@pytest.mark.parametrize(
    ("labels", "said"), [("1-5", "**1, 2, 3, 4, 5**."), ("5-1", "**5, 4, 3, 2, 1**, of which 1 is the best.")]
)
def test_the_card_says_which_end_of_the_scale_is_the_best(labels, said):
    scale = Scale.parse(labels)
    config = replace(judge_config("acme/base-8b"), score_labels=list(scale.labels), score_values=list(scale.values))
    assert f"on the scale {said}" in build_card(config, "acme/judge").text


def test_every_method_has_its_equation(judge):
    assert set(METHODS) >= {"sft", "raft", "regression", "accuracy", "log_likelihood", "log_marginal"}
    for name, method in METHODS.items():
        card = build_card(judge_config("acme/base", method=name), "acme/judge")
        assert method.equation in card.text and method.tag in card.data.tags


def test_the_base_model_is_followed_through_the_stages(tmp_path):
    raft = write_judge(tmp_path / "my-raft", "acme/base-8b", method="raft")
    real = write_judge(tmp_path / "my-real", str(raft))
    main([str(real), "--local_dir", str(tmp_path / "out")])
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.base_model == "acme/base-8b"
    assert re.search(r"1\. RAFT\n2\. REAL\n", card.text)
    assert JudgeConfig.load(tmp_path / "out").base_model == "my-raft"


def test_a_local_base_model_is_named_without_its_path(tmp_path):
    base = write_judge(tmp_path / "untrained")
    (base / "judge_config.json").unlink()
    judge = write_judge(tmp_path / "my-raft", str(base))
    card = build_card(JudgeConfig.load(judge), "acme/judge")
    assert card.data.base_model is None and "`untrained`" in card.text and str(tmp_path) not in card.content


def test_a_relative_local_base_model_is_no_model_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = mark_local("models/qwen", is_local=True)
    adapter = write_adapter(tmp_path / "my-lora", "models/qwen")
    config = JudgeConfig.load(adapter)
    config.base_model = base  # as trainers save it
    config.save(adapter)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    card = build_card(config, "acme/judge")
    assert card.data.base_model is None and "`qwen`, a local model" in card.text
    with pytest.raises(ValueError, match=r"is for '\./models/qwen', which only this machine has"):
        Publication(find_judge_files(adapter), "acme/judge").check()
    assert mark_local("acme/base-8b", is_local=False) == "acme/base-8b"


def test_an_adapter_is_merged_or_published_as_one(tmp_path, capsys):
    base = str(tmp_path / "base")
    adapter = write_adapter(tmp_path / "my-lora", base)
    before = scores(adapter)
    message = refused([str(adapter), "--local_dir", str(tmp_path / "out")], capsys)
    assert "base_model" in message and "--merge" in message and not (tmp_path / "out").exists()
    main([str(adapter), "--local_dir", str(tmp_path / "merged"), "--merge"])
    assert {path.name for path in (tmp_path / "merged").iterdir()} == PUBLISHED
    for (was, text), (now, merged) in zip(before, scores(tmp_path / "merged"), strict=True):
        assert now == pytest.approx(was, abs=1e-4) and text == merged
    main([str(adapter), "--local_dir", str(tmp_path / "adapter"), "--base_model", "acme/base-8b"])
    files = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert files == PUBLISHED - {"model.safetensors"} | {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == "acme/base-8b"
    card = ModelCard.load(tmp_path / "adapter" / "README.md")
    assert (card.data.base_model, card.data.library_name) == ("acme/base-8b", "peft")


def test_merging_a_whole_model_is_refused(judge, tmp_path, capsys):
    assert "whole model" in refused([str(judge), "--local_dir", str(tmp_path / "out"), "--merge"], capsys)


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ("judge_config.json", "no judge_config.json"),
        ("model.safetensors", "no weights"),
        ("tokenizer.json", "no tokenizer"),
        ("config.json", "no config.json"),
    ],
)
def test_a_missing_part_is_named(judge, tmp_path, capsys, removed, message):
    (judge / removed).unlink()
    assert message in refused([str(judge), "--local_dir", str(tmp_path / "out")], capsys)
    assert not (tmp_path / "out").exists()


def test_cut_weights_and_lost_shards_are_named(judge, capsys):
    weights = judge / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "model.safetensors is not whole" in refused([str(judge), "--local_dir", "unused"], capsys)
    weights.unlink()
    index = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (judge / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00001-of-00001.safetensors is missing" in refused([str(judge), "--local_dir", "unused"], capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--repo_id: not set"),
        (["--repo_id", "no-namespace"], "Write user/name"),
        (["--repo_id", "acme/bad name"], "Write user/name"),
        (["--repo_id", "a/b/c"], "Write user/name"),
        (["--local_dir", "x", "--base_model", "./here"], "--base_model: got './here'"),
        (["--local_dir", "x", "--evaluation", "nowhere"], "no evaluation.json"),
        (["--token", "hf_x"], "unrecognized arguments"),
    ],
)
def test_wrong_options_are_refused(judge, capsys, options, message):
    assert message in refused([str(judge), *options], capsys)


def test_a_folder_that_holds_something_is_left_alone(judge, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert "not empty" in refused([str(judge), "--local_dir", str(tmp_path / "out")], capsys)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_token_in_the_files_is_never_published(judge, tmp_path, monkeypatch):
    config = JudgeConfig.load(judge)
    config.prompt_template_text += f" {TOKEN}"
    config.save(judge)
    with pytest.raises(ValueError, match=r"judge_config\.json: it holds an access token") as error:
        write_folder(Publication(find_judge_files(judge), "acme/judge"), tmp_path / "out")
    assert TOKEN not in str(error.value) and not (tmp_path / "out").exists()


def test_a_token_in_large_weights_is_found(judge, tmp_path, monkeypatch):
    known = "a-token-of-no-known-form"
    monkeypatch.setenv("WANDB_API_KEY", known)
    tensors = load_file(judge / "model.safetensors")
    hidden = torch.frombuffer(bytearray(2**20) + known.encode() + bytearray(2**20), dtype=torch.uint8)
    for extra, metadata in (({"hidden": hidden}, {}), ({}, {"note": TOKEN})):
        save_file(tensors | extra, judge / "model.safetensors", metadata={"format": "pt", **metadata})
        with pytest.raises(ValueError, match=r"model\.safetensors: it holds an access token"):
            write_folder(Publication(find_judge_files(judge), "acme/judge"), tmp_path / "out")
    save_file(tensors, judge / "model.safetensors", metadata={"format": "pt"})
    assert "model.safetensors" in write_folder(Publication(find_judge_files(judge), "acme/judge"), tmp_path / "out")


def test_a_path_of_this_machine_is_never_published(judge, tmp_path):
    config = JudgeConfig.load(judge)
    config.training["vllm_server"] = str(judge)
    config.save(judge)
    with pytest.raises(ValueError, match=r"README\.md: it holds the path"):
        write_folder(Publication(find_judge_files(judge), "acme/judge"), tmp_path / "out")
