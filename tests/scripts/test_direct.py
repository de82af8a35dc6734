# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From a file of scores without rationales to a direct judge, by the commands."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from real_trl import Judge, JudgeConfig
from real_trl.integrations import JudgeReward
from real_trl.publishing.card import build_card
from real_trl.scripts import evaluate, init, plan, rl, score, self_generate, sft
from tests.onboarding.files import sheet, write_csv, write_model
from tests.serving.test_serve import service


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `init`, `sft` and `evaluate` have run as `init` says."""
    folder = tmp_path_factory.mktemp("direct")
    rows = [{name: row[name] for name in ("question", "answer", "score")} for row in sheet()]
    write_csv(folder / "scores.csv", rows)
    model = str(write_model(folder / "model"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        init.main(["scores.csv", "--model", model, "--output_dir", "judge", "--yes"])
        sft.main(["--config", "judge/raft.yaml", "--max_steps", "3"])
        evaluate.main(["--config", "judge/evaluate.yaml", "--num_resamples", "100"])
    return folder


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


def refused(capsys, main, *argv) -> str:
    with pytest.raises(SystemExit) as status:
        main([*argv])
    assert status.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def test_the_judge_says_that_it_is_direct(folder):
    config = json.loads((folder / "judge/outputs/raft/judge_config.json").read_text())
    assert config["rationale"] is False and config["method"] == "raft"
    assert "Write nothing but the score" in config["prompt_template_text"]
    assert not (folder / "judge/real.yaml").exists()


def test_what_is_evaluated_is_what_the_judge_says(folder):
    result = json.loads((folder / "judge/outputs/evaluation/evaluation.json").read_text())
    rows = [json.loads(line) for line in (folder / "judge/data/test.jsonl").read_text().splitlines()]
    judge = Judge.from_pretrained("judge/outputs/raft")
    said = judge.score(instruction=[row["question"] for row in rows], response=[row["answer"] for row in rows])
    errors = [(j.expected_score - float(row["score"])) ** 2 for j, row in zip(said, rows, strict=True)]
    (judged,) = result["results"]["test"].values()
    assert judged["rail"]["rmse"] == pytest.approx((sum(errors) / len(errors)) ** 0.5, rel=1e-4)
    assert judged["mean_tokens"] == 0 and "have no rationale" not in json.dumps(result)


def test_score_gives_the_same(folder):
    score.main(
        ["judge/data/test.jsonl", "--judge", "judge/outputs/raft", "--output", "scored.jsonl"]
        + ["--columns", '{"instruction": "question", "response": "answer"}']
    )
    rows = [json.loads(line) for line in (folder / "scored.jsonl").read_text().splitlines()]
    judge = Judge.from_pretrained("judge/outputs/raft")
    said = judge.score(instruction=[row["question"] for row in rows], response=[row["answer"] for row in rows])
    assert [row["expected_score"] for row in rows] == pytest.approx([j.expected_score for j in said], abs=1e-5)
    assert {row["rationale"] for row in rows} == {""}


def test_the_readme_says_how_new_answers_are_scored(folder, capsys):
    """By a command and three lines of Python, both of which run as they are written."""
    text = Path("judge/README.md").read_text(encoding="utf-8")
    command = re.search(r"^real-trl score (.*)$", text, re.MULTILINE)[1]
    half = "--dtype bfloat16 " if "dtype" in yaml.safe_load(Path("judge/evaluate.yaml").read_text()) else ""
    assert command == f"new.csv --model judge/outputs/raft {half}--columns instruction=question,response=answer"
    new = [{"question": row["question"], "answer": row["answer"]} for row in sheet(questions=2, seed=1)]
    write_csv(folder / "new.csv", new)
    score.main(shlex.split(command))
    scored = [json.loads(line) for line in Path("new.scored.jsonl").read_text().splitlines()]
    assert len(scored) == len(new) and all(0 < row["expected_score"] <= 5 for row in scored)
    assert "`instruction` and `response`, whatever the columns are called" in " ".join(text.split())
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(code.splitlines()) == 3
    capsys.readouterr()
    exec(code, {})
    assert 0 < float(capsys.readouterr().out) <= 5


def test_samples_of_it_are_refused(capsys):
    text = refused(
        capsys, evaluate.main, "--config", "judge/evaluate.yaml", "--output_dir", "other", "--num_samples", "4"
    )
    assert "num_samples: got 4, but a direct judge writes nothing that could differ. Set it to 1." in text


def test_what_it_says_is_not_taken_for_what_the_model_writes(capsys):
    """The same model, asked for its score at once and then for a rationale too."""
    options = ["--config", "judge/evaluate.yaml", "--model_name_or_path", "model", "--output_dir", "at_once"]
    options += ["--score_labels", "1-5", "--max_new_tokens", "8", "--num_resamples", "100"]
    evaluate.main([*options, "--rationale", "false"])
    text = refused(capsys, evaluate.main, *options)
    assert "holds what was made differently: judge.rationale was False, now it is None" in text


def test_it_has_nothing_to_explore(folder, capsys):
    recipe = yaml.safe_load((folder / "judge/raft.yaml").read_text())
    kept = ("dataset_name", "prompt_template", "columns", "score_column", "score_labels")
    recipe = {name: recipe[name] for name in kept} | {"model_name_or_path": "judge/outputs/raft", "output_dir": "rl"}
    Path("rl.yaml").write_text(yaml.safe_dump(recipe))
    text = refused(capsys, rl.main, "--config", "rl.yaml")
    assert "model: got the direct judge 'judge/outputs/raft'" in text and "nothing to explore" in text
    recipe["output_dir"] = "written"
    Path("write.yaml").write_text(yaml.safe_dump(recipe))
    text = refused(capsys, self_generate.main, "--config", "write.yaml")
    assert "which writes no rationales" in text


def test_rationales_can_be_left_out(folder, capsys):
    rows = [{name: row[name] for name in ("question", "answer", "score", "comment")} for row in sheet()]
    write_csv(folder / "explained.csv", rows)
    recipe = yaml.safe_load((folder / "judge/raft.yaml").read_text())
    recipe |= {"dataset_name": "explained.csv", "feedback_column": "comment", "output_dir": "left_out"}
    for key in ("group_column", *(key for key in [*recipe] if key.startswith("judge_eval"))):  # of the written splits
        del recipe[key]
    Path("left_out.yaml").write_text(yaml.safe_dump(recipe))
    sft.main(["--config", "left_out.yaml", "--max_steps", "1"])
    assert json.loads(Path("left_out/judge_config.json").read_text())["rationale"] is False
    del recipe["rationale"]
    Path("with.yaml").write_text(yaml.safe_dump(recipe | {"output_dir": "with"}))
    sft.main(["--config", "with.yaml", "--max_steps", "1"])
    assert json.loads(Path("with/judge_config.json").read_text())["rationale"] is True


def test_a_recipe_that_says_nothing_trains_what_the_data_have(folder, capsys):
    recipe = yaml.safe_load((folder / "judge/raft.yaml").read_text())
    recipe |= {"output_dir": "as_the_data", "prompt_template": "feedback_collection", "max_length": 512}
    recipe["columns"] |= {"criteria": "question"}
    del recipe["rationale"]
    Path("as_the_data.yaml").write_text(yaml.safe_dump(recipe))
    sft.main(["--config", "as_the_data.yaml", "--max_steps", "1"])
    assert json.loads(Path("as_the_data/judge_config.json").read_text())["rationale"] is False
    assert "a direct judge is trained" in capsys.readouterr().out


def test_it_is_planned(capsys):
    plan.main(["--config", "judge/raft.yaml", "--gpus", "1xA100-80GB"])
    assert "raft.yaml" in capsys.readouterr().out


def test_its_card_promises_no_rationale(folder):
    text = str(build_card(JudgeConfig.load("judge/outputs/raft"), "me/judge"))
    assert "writes no rationale" in text and "judgment.probabilities" in text and "c^*" not in text
    assert r"\lambda \log \pi_\theta(y^* \mid x)" in text and r"\pi_\theta(k \mid x)" in text


def test_it_rewards_and_serves(folder):
    rows = [json.loads(line) for line in (folder / "judge/data/test.jsonl").read_text().splitlines()][:3]
    questions, answers = ([row[name] for row in rows] for name in ("question", "answer"))
    judge = Judge.from_pretrained("judge/outputs/raft")
    said = judge.score(instruction=questions, response=answers)
    reward = JudgeReward("judge/outputs/raft")
    span = judge.values[-1] - judge.values[0]
    wanted = [min(max((each.expected_score - judge.values[0]) / span, 0.0), 1.0) for each in said]
    assert reward(questions, answers) == pytest.approx(wanted, abs=1e-5)
    with pytest.raises(ValueError, match="num_samples: got 3, but a direct judge"):
        JudgeReward("judge/outputs/raft", num_samples=3)
    with service(folder / "judge/outputs/raft") as (_, client):
        answer = client.post("/score", json={"instruction": questions[0], "response": answers[0]}).json()
    assert answer["expected_score"] == pytest.approx(said[0].expected_score, abs=1e-5)
    assert (answer["rationale"], answer["tokens"]["completion"]) == ("", 0)
