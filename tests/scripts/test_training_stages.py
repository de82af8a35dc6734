# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The stages, called as their command lines call them: sft → rl → evaluate on the embedded task, and what each refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from real_trl import JudgeConfig
from real_trl.data.homework import build_model, build_tokenizer, make_dataset
from real_trl.data.loading import build_completion
from real_trl.evaluation.conformal import Intervals
from real_trl.evaluation.judge_calibration import Calibration
from real_trl.evaluation.recalibration import Recalibration
from real_trl.prompts.format import PromptFormat
from real_trl.scripts import evaluate, rl, sft
from tests.tiny import TOKENIZER, chat_tokenizer, prompt_dataset, warm_model

TRAINING = {
    "dataset_name": "synthetic",
    "dataset_options": {"size": 24},
    "score_labels": "1-5",
    "gradient_checkpointing": False,
    "bf16": False,
    "use_cpu": True,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "logging_steps": 1,
}
SFT = {**TRAINING, "dataset_train_split": "sft", "per_device_train_batch_size": 8, "max_steps": 2}
RL = {
    **TRAINING,
    "dataset_train_split": "rl",
    "num_generations": 4,
    "per_device_train_batch_size": 8,
    "max_completion_length": 16,
    "max_steps": 2,
    # Models that have hardly been trained show no scores
    "preflight_scored_rate": 0.0,
    "max_steps_without_signal": 0,
}
EVALUATE = {
    "dataset_name": "synthetic",
    "dataset_options": {"size": 6},
    "eval_splits": ["id", "ood"],
    "max_new_tokens": 16,
}
STAGES = {"sft": (sft, SFT), "rl": (rl, RL), "evaluate": (evaluate, EVALUATE)}


@pytest.fixture(scope="module")
def untrained(tmp_path_factory) -> Path:
    """The embedded task's model and tokenizer."""
    path = tmp_path_factory.mktemp("untrained")
    build_model(hidden_size=32).save_pretrained(path)
    build_tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def no_weights(tmp_path_factory) -> Path:
    """A model folder without weights: whoever loads the model fails on it, whoever needs only its tokenizer does not."""
    path = tmp_path_factory.mktemp("no-weights")
    TOKENIZER.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def judge(tmp_path_factory, no_weights) -> Path:
    """A folder that says it is a judge on 1-5, without weights."""
    path = tmp_path_factory.mktemp("judge")
    shutil.copytree(no_weights, path, dirs_exist_ok=True)
    JudgeConfig(list("12345"), [1.0, 2.0, 3.0, 4.0, 5.0]).save(path)
    return path


def run(stage, tmp_path, model, *options, **keys):
    """Runs a stage with its recipe, changed by `keys` (`None` removes one) and the command-line `options`."""
    script, recipe = STAGES[stage]
    recipe = {"model_name_or_path": str(model), "output_dir": str(tmp_path / stage), **recipe, **keys}
    path = tmp_path / f"{stage}.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in recipe.items() if value is not None}))
    script.main(["--config", str(path), *map(str, options)])
    return tmp_path / stage


def refusal(capsys, stage, tmp_path, model, *options, **keys):
    """What a stage writes to standard error when it refuses: status 2, no traceback."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        run(stage, tmp_path, model, *options, **keys)
    assert error.value.code == 2
    message = capsys.readouterr().err
    lines = [line for line in message.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in message
    return message[message.index("error: ") :]


def write_rows(path: Path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def evaluation_of(output: Path) -> dict:
    return json.loads((output / "evaluation.json").read_text())


def predictions_of(output: Path, judge: Path, dataset: str) -> pd.DataFrame:
    return pd.read_parquet(output / "predictions" / judge.name / dataset / "predictions.parquet")


# --- the way through ---------------------------------------------------------------------------------------------------


def test_sft_rl_evaluate_end_to_end(tmp_path, untrained, capsys):
    warm = run("sft", tmp_path, untrained, "--learning_rate", "1e-3", regression_weight=0.5)
    config = JudgeConfig.load(warm)
    assert (config.method, config.base_model, config.chat) == ("raft", str(untrained), False)
    assert config.score_labels == list("12345")
    assert config.training["learning_rate"] == 1e-3 and config.training["regression_weight"] == 0.5
    state = json.loads((warm / "trainer_state.json").read_text())
    assert state["global_step"] == 2 and "score/squared_error" in state["log_history"][0]
    start, end = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (untrained, warm))
    assert all(not (end[name] == value).all() for name, value in start.items())

    trained = run("rl", tmp_path, warm, malformed="force", reward="log_likelihood")
    config = JudgeConfig.load(trained)
    assert (config.method, config.base_model) == ("log_likelihood", str(warm))
    state = json.loads((trained / "trainer_state.json").read_text())
    assert state["global_step"] == 2 and "malformed/rate" in state["log_history"][0]
    assert f"Judge saved to {trained}" in capsys.readouterr().out

    output = run("evaluate", tmp_path, trained)
    report = evaluation_of(output)
    assert report["judges"]["rl"]["model"] == str(trained)
    assert report["judges"]["rl"]["judge"]["method"] == "log_likelihood"
    assert report["results"].keys() == {"id", "ood"}
    for split, judges in report["results"].items():
        result = judges["rl"]
        assert 0 <= result["malformed_rate"] <= 1 and result["malformed_handling"] == "force"
        rows = predictions_of(output, trained, split)
        columns = (
            "row id group prompt completion rationale status target sampled_score most_likely_score expected_score "
            "probabilities spread mass missing_mass prompt_tokens num_tokens entropy normalized error thinking"
        )
        assert set(columns.split()) == set(rows.columns)
        dataset = make_dataset(split, 6)
        assert rows["row"].tolist() == list(range(6)) and rows["prompt"].tolist() == dataset["prompt"][:]
        assert rows["target"].tolist() == dataset["score"][:]
        probabilities = np.stack(rows["probabilities"])
        np.testing.assert_allclose(rows["expected_score"], probabilities @ np.arange(1, 6), rtol=1e-4)
        np.testing.assert_allclose(rows["mass"], probabilities.sum(1), rtol=1e-4)
        errors = rows["expected_score"] - rows["target"]
        assert result["rail"]["rmse"] == pytest.approx(np.sqrt((errors**2).mean()))
    assert str(output) in capsys.readouterr().out
    assert report["settings"]["arguments"]["seed"] == 0 and "torch" in report["versions"]
    for name in ("report.html", "report.md", "table.tex", "plots/id-predicted-against-true.png"):
        assert (output / name).stat().st_size > 100


def test_a_local_file_through_evaluate(tmp_path):
    """A model that was not trained here: the recipe states the scale; kept columns pass through; greedy runs agree."""
    model = tmp_path / "model"
    warm_model().save_pretrained(model)
    TOKENIZER.save_pretrained(model)
    rows = [{**row, "question": f"q{index}"} for index, row in enumerate(prompt_dataset([4.0, 2.5, 1.0]))]
    options = {
        "dataset_name": write_rows(tmp_path / "test.jsonl", rows),
        "dataset_options": None,
        "eval_splits": ["all"],
        "keep_columns": ["question"],
        "score_labels": "1-5",
        "do_sample": False,
        "max_new_tokens": 24,
    }
    tables = []
    for size in (1, 8):
        output = tmp_path / f"by-{size}"
        run("evaluate", tmp_path, model, batch_size=size, output_dir=str(output), **options)
        tables.append(predictions_of(output, model, "all"))
    pd.testing.assert_frame_equal(*tables, rtol=1e-3)
    assert tables[0]["question"].tolist() == ["q0", "q1", "q2"]
    assert (tables[0]["status"] == "ok").all() and (tables[0]["mass"] > 0.9).all()
    report = evaluation_of(output)["results"]["all"]["model"]
    assert report["malformed_rate"] == 0 and report["rail"]["mae"] != report["standard"]["mae"]


def test_evaluate_counts_malformed_completions_as_asked(tmp_path, untrained):
    results = {}
    for malformed in ("force", "drop", "strict"):
        output = run(
            "evaluate",
            tmp_path,
            untrained,
            score_labels="1-5",
            malformed=malformed,
            eval_splits=["id"],
            dataset_options={"size": 20},
        )  # the predictions of the first run are used again
        results[malformed] = evaluation_of(output)
    rows = predictions_of(output, untrained, "id")
    bad = rows["status"] != "ok"
    assert bad.any() and rows["expected_score"].notna().all()
    for malformed, evaluation in results.items():
        result = evaluation["results"]["id"][untrained.name]
        assert result["malformed_handling"] == malformed and result["malformed_rate"] == bad.mean()
        assert result["rail"]["n"] == (20 if malformed != "drop" else 20 - bad.sum())
        for convention, figures in evaluation["malformed_conventions"]["id"][untrained.name].items():
            figure = results[convention]["results"]["id"][untrained.name]["rail"]["mae"]
            assert figures["rail"]["mae"] == pytest.approx(figure, nan_ok=True)
    worst = np.maximum(rows["target"] - 1, 5 - rows["target"])
    mae = np.where(bad, worst, (rows["expected_score"] - rows["target"]).abs()).mean()
    assert results["strict"]["results"]["id"][untrained.name]["rail"]["mae"] == pytest.approx(mae)


@pytest.mark.parametrize("use_peft", [True, False])
def test_lora_judge_is_trained_on_and_evaluated_from_its_adapter(tmp_path, untrained, use_peft):
    warm = run("sft", tmp_path, untrained, use_peft=True, lora_r=4, lora_target_modules=["all-linear"], max_steps=1)
    assert (warm / "adapter_model.safetensors").is_file() and JudgeConfig.load(warm).method == "raft"
    trained = run("rl", tmp_path, warm, use_peft=use_peft, lora_r=4, max_steps=1)
    assert (trained / "adapter_model.safetensors").is_file() == use_peft
    for judge in (warm, trained):
        output = tmp_path / f"evaluation-{judge.name}"
        run("evaluate", tmp_path, judge, eval_splits=["id"], output_dir=str(output))
        assert len(predictions_of(output, judge, "id")) == 6


@pytest.mark.parametrize("use_peft", [True, False])
def test_training_goes_on_from_the_adapter_and_loses_nothing(tmp_path, untrained, use_peft):
    """RL at a learning rate of 0 must leave the warm start's distribution as it was, in the judge that evaluate loads."""
    lora = {"lora_r": 4, "lora_target_modules": ["all-linear"], "max_steps": 2}
    warm = run("sft", tmp_path, untrained, use_peft=True, learning_rate=0.05, **lora)
    trained = run("rl", tmp_path, warm, use_peft=use_peft, learning_rate=0.0, **lora)
    ids = torch.arange(3, 23).unsqueeze(0)
    start, before, after = (
        AutoModelForCausalLM.from_pretrained(p).eval()(ids).logits for p in (untrained, warm, trained)
    )
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)
    assert (before - start).abs().max() > 1e-2


def test_held_out_data_are_judged_during_training(tmp_path, untrained, capsys):
    held_out = {"judge_eval_steps": 1, "judge_eval_splits": ["id", "ood"], "judge_eval_rows": 5}
    for stage in ("sft", "rl"):
        output = run(stage, tmp_path, untrained, **held_out)
        history = json.loads((output / "trainer_state.json").read_text())["log_history"]
        for split in ("id", "ood"):
            logged = [entry["step"] for entry in history if f"judge_eval/{split}/rail/rmse" in entry]
            assert logged == [0, 1, 2]
        assert (output / "training_curves.png").read_bytes().startswith(b"\x89PNG")
    for keys, message in (
        ({"judge_eval_steps": 0}, "judge_eval_steps: got 0"),
        (
            {"metric_for_best_model": "judge_eval/id/rail/rmse"},
            "nothing is judged while training. Set judge_eval_steps.",
        ),
        ({"judge_eval_rows": 3}, "judge_eval_rows: got 3 without judge_eval_steps"),
        ({"judge_eval_steps": 1, "judge_eval_splits": ["nothing"]}, "nothing"),
        ({"judge_eval_steps": 1, "judge_eval_benchmarks": ["arena"]}, "benchmarks: 'arena' is unknown"),
    ):
        assert message in refusal(capsys, "sft", tmp_path, untrained, **keys)


def test_the_command_line_overrides_the_recipe(tmp_path, untrained):
    output = run("sft", tmp_path, untrained, "--max_steps", 1, "--regression_weight", 0, max_steps=7)
    assert json.loads((output / "trainer_state.json").read_text())["global_step"] == 1
    assert JudgeConfig.load(output).method == "sft"


def test_chat_models_get_messages(tmp_path):
    model = tmp_path / "model"
    warm_model().save_pretrained(model)
    chat_tokenizer().save_pretrained(model)
    rows = [{**row, "feedback": "7+4 is 12, right."} for row in prompt_dataset([4.0, 2.0, 5.0, 1.0])]
    data = {"dataset_name": write_rows(tmp_path / "train.jsonl", rows), "dataset_options": None}
    warm = run("sft", tmp_path, model, **data, dataset_train_split="train", max_steps=1)
    assert JudgeConfig.load(warm).chat
    assert AutoTokenizer.from_pretrained(warm).chat_template
    trained = run("rl", tmp_path, warm, **data, dataset_train_split="train", max_steps=1)
    assert JudgeConfig.load(trained).chat
    output = run("evaluate", tmp_path, trained, **data, eval_splits=["all"])
    assert evaluation_of(output)["judges"]["rl"]["judge"]["chat"]


def test_recipes_say_what_stands_around_prompts(tmp_path, capsys):
    """All stages ask in the same way, which the judge brings along from the first that says it."""
    model = tmp_path / "model"
    warm_model().save_pretrained(model)
    chat_tokenizer().save_pretrained(model)
    rows = [{**row, "feedback": "7+4 is 12, right."} for row in prompt_dataset([4.0, 2.0, 5.0, 1.0])]
    data = {"dataset_name": write_rows(tmp_path / "train.jsonl", rows), "dataset_options": None, "max_steps": 1}
    data |= {"dataset_train_split": "train", "preflight_scored_rate": None}
    settings = {"system_prompt": "Grade.", "chat_template_kwargs": {"enable_thinking": False}}
    warm = run("sft", tmp_path, model, **data, **settings)
    prompt = PromptFormat(chat=True, **settings)
    assert JudgeConfig.load(warm).prompt_format() == prompt
    trained = run("rl", tmp_path, warm, **{**data, "preflight_scored_rate": 0})
    assert JudgeConfig.load(trained).prompt_format() == prompt
    for name, value in [("system_prompt", "Be kind."), ("chat_template_kwargs", {"enable_thinking": True})]:
        message = refusal(capsys, "rl", tmp_path, warm, **{**data, name: value})
        assert message.startswith(f"error: {name}: got {value!r}, but the judge") and "was trained with" in message
    message = refusal(capsys, "sft", tmp_path, model, **data, **settings, chat=False)
    assert message.startswith("error: system_prompt: got 'Grade.', but prompts do not go through a chat template")


@pytest.mark.parametrize("prompt", ["Grade this.", "Grade this. ", "Grade this.\n"])
def test_sft_rows_are_what_the_judge_must_write(prompt):
    space = JudgeConfig(list("12345"), [1.0, 2.0, 3.0, 4.0, 5.0]).score_space(TOKENIZER)
    rows = prompt_dataset([4.0]).map(lambda _: {"prompt": prompt, "feedback": "right. So the overall score is 2"})
    [row] = sft.training_rows(rows, space, chat=False)
    assert row["completion"].lstrip() == build_completion("right.", "4") == "right. So the overall score is 4"
    # A blank at the end of the prompt moves to the completion: that is how the judge meets the prompt in rl and evaluate
    assert row["prompt"] == prompt.rstrip(" ") == rl.training_rows(rows, chat=False)[0]["prompt"]
    assert row["completion"].startswith(" ") != prompt.endswith("\n")
    [row] = sft.training_rows(rows, space, chat=True)
    assert row["prompt"] == [{"role": "user", "content": prompt}]
    assert row["completion"] == [{"role": "assistant", "content": "right. So the overall score is 4"}]


def test_a_score_between_labels_is_written_as_the_nearest():
    space = JudgeConfig(list("12345"), [1.0, 2.0, 3.0, 4.0, 5.0]).score_space(TOKENIZER)
    rows = prompt_dataset([3.7, 3.5]).map(lambda _: {"feedback": "right.", "score_histogram": [0, 0, 0.3, 0.7, 0]})
    rows = sft.training_rows(rows, space, chat=False)
    assert [text[-2:] for text in rows["completion"]] == [" 4", " 3"]
    assert rows["score"] == [3.7, 3.5] and rows[0]["score_histogram"] == [0, 0, 0.3, 0.7, 0]


@pytest.mark.parametrize("stage", ["sft", "rl"])
def test_checkpoints_are_resumed_and_not_overwritten(tmp_path, untrained, capsys, stage):
    saving = {"save_strategy": "steps", "save_steps": 1}
    output = run(stage, tmp_path, untrained, max_steps=1, **saving)
    assert (output / "checkpoint-1" / "judge_config.json").is_file()
    before = (output / "model.safetensors").read_bytes()
    again = {"max_steps": 2, **saving}
    message = refusal(capsys, stage, tmp_path, untrained, "--resume_from_checkpoint", "false", **again)
    assert "output_dir" in message and "checkpoint-1" in message and "Leave it out to go on" in message
    message = refusal(capsys, stage, tmp_path, untrained, **again)
    assert "max_steps: 1 in the checkpoint, 2 now" in message and "--allow_changed_recipe true" in message
    assert (output / "model.safetensors").read_bytes() == before
    # The command that was finished, given again, leaves the judge as it is, its calibration included
    config = JudgeConfig.load(output)
    config.calibration = Calibration(Recalibration(), Intervals("absolute", 0.9, 1.0)).stored()
    config.save(output)
    capsys.readouterr()
    run(stage, tmp_path, untrained, max_steps=1, **saving)
    assert "Nothing was left to train" in capsys.readouterr().out
    assert (output / "model.safetensors").read_bytes() == before
    assert JudgeConfig.load(output).calibration == config.calibration
    run(stage, tmp_path, untrained, "--allow_changed_recipe", "true", **again)
    assert "run `real-trl calibrate` again" in " ".join(capsys.readouterr().out.split())
    assert JudgeConfig.load(output).calibration is None
    state = json.loads((output / "trainer_state.json").read_text())
    assert [log["step"] for log in state["log_history"] if "loss" in log] == [1, 2]
    message = refusal(capsys, stage, tmp_path, untrained, "--resume_from_checkpoint", tmp_path / "nowhere")
    assert "resume_from_checkpoint" in message and "nowhere" in message


# --- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_unknown_recipe_keys_are_refused_with_a_suggestion(tmp_path, no_weights, capsys, stage):
    message = refusal(capsys, stage, tmp_path, no_weights, output_dirr="x")
    assert f"{stage}.yaml: unknown key 'output_dirr'. Did you mean 'output_dir'?" in message
    message = refusal(capsys, stage, tmp_path, no_weights, zzzzzz=1)
    assert "unknown key 'zzzzzz'" in message and "Did you mean" not in message


@pytest.mark.parametrize("stage", STAGES)
def test_a_recipe_that_is_none_is_refused(tmp_path, capsys, stage):
    script, _ = STAGES[stage]
    for text, expected in (
        (None, "no such file"),
        ("- a\n- b\n", "a recipe is a mapping"),
        ("a: [1", "recipe.yaml: not valid YAML"),
    ):
        path = tmp_path / "recipe.yaml"
        if text is not None:
            path.write_text(text)
        with pytest.raises(SystemExit) as error:
            script.main(["--config", str(path)])
        message = capsys.readouterr().err
        assert error.value.code == 2 and message.startswith("error: ") and expected in message
        assert message.count("\n") == 1


@pytest.mark.parametrize("stage", STAGES)
def test_a_corrupt_line_is_named_by_number(tmp_path, judge, capsys, stage):
    path = tmp_path / "rows.jsonl"
    good = json.dumps({"prompt": "Grade this.", "score": 3, "feedback": "right."})
    path.write_text(f"{good}\n{good}\n{good[:-9]}\n{good}\n")
    split = {"eval_splits": ["all"]} if stage == "evaluate" else {"dataset_train_split": "train"}
    message = refusal(capsys, stage, tmp_path, judge, dataset_name=str(path), dataset_options=None, **split)
    assert "line 3" in message and "rows.jsonl" in message


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"score": 7}, ["7", "1", "5"]),
        ({"score": "high"}, ["high"]),
        ({"score": None}, ["score"]),
        ({"prompt": " "}, ["prompt"]),
        ({"prompt": None}, ["prompt"]),
    ],
)
@pytest.mark.parametrize("stage", STAGES)
def test_bad_rows_are_refused_before_the_model_is_loaded(tmp_path, judge, capsys, stage, row, expected):
    good = {"prompt": "Grade this.", "score": 3, "feedback": "right."}
    data = write_rows(tmp_path / "rows.jsonl", [good, {**good, **row}])
    split = {"eval_splits": ["all"]} if stage == "evaluate" else {"dataset_train_split": "train"}
    message = refusal(capsys, stage, tmp_path, judge, dataset_name=data, dataset_options=None, **split)
    assert "row 1" in message and "line 2" in message
    assert all(part in message for part in expected)


@pytest.mark.parametrize(
    ("stage", "keys", "expected"),
    [
        ("sft", {"dataset_name": "nowhere.jsonl", "dataset_options": None}, "dataset_name='nowhere.jsonl'"),
        ("sft", {"score_column": "grade"}, "grade"),
        ("sft", {"regression_weight": -1}, "regression_weight: got -1"),
        ("sft", {"packing": True}, "packing"),
        ("rl", {"reward": "mse"}, "reward: got 'mse'"),
        ("rl", {"num_generations": 1}, "num_generations: got 1"),
        ("rl", {"per_device_train_batch_size": 6}, "per_device_train_batch_size: got 6"),
        ("rl", {"score_labels": "10-300"}, "score_labels"),
        ("rl", {"chat": True}, "chat: got true, but the tokenizer has no chat template"),
        ("rl", {"dataset_options": {"sizes": 3}}, "dataset_options"),
        ("evaluate", {"score_labels": None}, "score_labels: not set"),
        ("evaluate", {"score_labels": "1-5", "malformed": "ignore"}, "malformed: got 'ignore'"),
        ("evaluate", {"score_labels": "1-5", "temperature": 0}, "temperature: got 0"),
        ("evaluate", {"score_labels": "1-5", "batch_size": 0}, "batch_size: got 0"),
    ],
)
def test_bad_settings_are_refused_before_the_model_is_loaded(tmp_path, no_weights, capsys, stage, keys, expected):
    assert expected in refusal(capsys, stage, tmp_path, no_weights, **keys)


@pytest.mark.parametrize("stage", STAGES)
def test_a_model_that_does_not_exist_is_named(tmp_path, capsys, stage):
    keys = {"score_labels": "1-5"}
    message = refusal(capsys, stage, tmp_path, tmp_path / "no-such-model", **keys)
    assert "model: " in message and "no-such-model" in message


@pytest.mark.parametrize(
    ("keys", "expected"),
    [({"score_labels": "0-5"}, "score_labels"), ({"score_marker": "the score is "}, "score_marker")],
)
def test_a_judge_is_not_evaluated_on_another_scale(tmp_path, judge, capsys, keys, expected):
    message = refusal(capsys, "evaluate", tmp_path, judge, **keys)
    assert message.startswith(f"error: {expected}: got") and "was trained with" in message and str(judge) in message


def test_a_stage_that_is_to_have_rationales_is_refused_without(tmp_path, no_weights, capsys):
    data = write_rows(tmp_path / "rows.jsonl", prompt_dataset([4.0, 2.0]))
    keys = {"dataset_name": data, "dataset_options": None, "dataset_train_split": "train", "rationale": True}
    assert "feedback_column" in refusal(capsys, "sft", tmp_path, no_weights, **keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"score_labels": "0-5"}, "score_labels: got ['0', '1', '2', '3', '4', '5'], but the judge"),
        ({"score_marker": "score is "}, "score_marker: got 'score is ', but the judge"),
        ({"chat": True}, "chat: got True, but the judge"),
    ],
)
@pytest.mark.parametrize("stage", ["sft", "rl"])
def test_training_does_not_contradict_the_judge_it_starts_from(
    tmp_path, tmp_path_factory, capsys, stage, keys, message
):
    start = tmp_path_factory.mktemp("judge")
    TOKENIZER.save_pretrained(start)
    JudgeConfig(list("12345"), [1.0, 2.0, 3.0, 4.0, 5.0]).save(start)
    if "score_labels" in keys:
        assert TOKENIZER.unk_token_id not in TOKENIZER("0 1 2 3 4 5")["input_ids"]
    assert message in refusal(capsys, stage, tmp_path, start, **keys)


def test_kept_columns_do_not_overwrite_the_predictions(tmp_path, capsys, judge):
    message = refusal(capsys, "evaluate", tmp_path, judge, keep_columns=["rubric", "status"])
    assert "keep_columns: 'status'" in message


def test_fewer_prompts_than_one_step_takes(tmp_path, capsys, no_weights):
    message = refusal(capsys, "rl", tmp_path, no_weights, max_rows=1, gradient_accumulation_steps=4)
    assert "train_dataset: 1 rows, but one generation batch takes" in message


def test_a_judge_that_could_not_learn_is_not_saved(tmp_path, untrained, capsys):
    looks = {"preflight_scored_rate": None, "max_steps_without_signal": None}
    message = refusal(capsys, "rl", tmp_path, untrained, **looks)
    assert "0 of 64 answers that were sampled before the first step show a score" in message
    assert "The model wrote, for example:" in message and "real-trl sft" in message
    options = {"preflight_scored_rate": 0.0, "save_strategy": "steps", "save_steps": 1}
    message = refusal(capsys, "rl", tmp_path, untrained, **options, max_steps_without_signal=2)
    assert "max_steps_without_signal=2: nothing was learned from the last 2 steps, up to step 2" in message
    for _ in range(2):  # the second time there is no step left to do
        capsys.readouterr()
        again = {"output_dir": str(tmp_path / "short"), "max_steps_without_signal": None}
        message = refusal(capsys, "rl", tmp_path, untrained, **options, **again)
        assert "nothing was learned from the last 2 steps, up to step 2" in message
        assert "none of its 8 completions shows a score" in message
    assert "Judge saved" not in capsys.readouterr().out
    for output in (tmp_path / "rl", tmp_path / "short"):
        assert not (output / "judge_config.json").exists() and not (output / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"max_completion_length": 300}, "max_completion_length: got 300. The model reads 64 tokens"),
        ({"max_completion_length": 20}, "train_dataset: row 0 has "),
    ],
)
def test_what_does_not_fit_is_refused_before_the_model_is_loaded(tmp_path, no_weights, capsys, keys, expected):
    folder = tmp_path / "no-weights"
    shutil.copytree(no_weights, folder)
    config = build_model().config
    config.max_position_embeddings = 64
    config.save_pretrained(folder)
    rows = [{"prompt": "Grade this homework from 1 to 5. " * 8, "score": 3, "feedback": "right."}] * 4
    data = {
        "dataset_name": write_rows(tmp_path / "train.jsonl", rows),
        "dataset_options": None,
        "dataset_train_split": "train",
    }
    assert expected in refusal(capsys, "rl", tmp_path, folder, **data, **keys)
    assert "The model reads 64 tokens" in refusal(capsys, "sft", tmp_path, folder, **data, max_length=None)
    held_out = {"judge_eval_steps": 1, "judge_eval_splits": ["train"]}
    message = refusal(capsys, "sft", tmp_path, folder, **data, **held_out, max_length=48)
    assert "judge_eval: dataset 'train': prompt 0 (counted from 0) has " in message and "(now 32)" in message
    message = refusal(capsys, "sft", tmp_path, folder, **data, **held_out, judge_eval_max_new_tokens=60)
    assert "judge_eval_max_new_tokens: got 60. The model reads 64 tokens" in message


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--lerning_rate", "1"], "unknown option '--lerning_rate'. Did you mean '--learning_rate'?"),
        (["--max_steps", "abc"], "--max_steps/--max-steps: invalid int value: 'abc'"),
        (["--temperature", "0"], "temperature: got 0.0"),
        (["--beta", "-1"], "beta: got -1.0"),
        (["--score_labels", "15"], "score_labels='15' is not a scale"),
    ],
)
def test_command_line_mistakes(tmp_path, capsys, no_weights, option, message):
    assert message in refusal(capsys, "rl", tmp_path, no_weights, *option)


def test_config_with_an_equals_sign(tmp_path, untrained):
    run("sft", tmp_path, untrained, max_steps=1)
    script, _ = STAGES["sft"]
    script.main([f"--config={tmp_path / 'sft.yaml'}", "--output_dir", str(tmp_path / "again")])
    assert (tmp_path / "again" / "judge_config.json").is_file()
