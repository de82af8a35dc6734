# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`judge_scorer` in real evaluations of Inspect AI, on a local model."""

import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from real_trl import Judge
from tests.integrations.judges import RUBRIC, save_judge
from tests.tiny import LINES, PROMPT, build_model, chat_tokenizer

pytestmark = pytest.mark.integrations

SETTINGS = {"max_new_tokens": 24}
ROWS = [
    (f"{PROMPT} {LINES[i % 3]}" + " right" * i, f"{RUBRIC} {word}")
    for i, word in enumerate(["right", "the", "is", "close"])
]

TASK = f"""
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.solver import generate
from real_trl.integrations import judge_scorer

ROWS = {ROWS!r}

@task
def grading(judge: str):
    samples = [Sample(input=text, metadata={{"criteria_text": rubric}}) for text, rubric in ROWS]
    scorer = judge_scorer(judge, columns={{"rubric": "criteria_text"}}, max_new_tokens=24)
    return Task(dataset=samples, solver=generate(), scorer=scorer)
"""


@pytest.fixture(scope="module")
def judge(tmp_path_factory) -> Path:
    return save_judge(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def subject(tmp_path_factory) -> Path:
    """The model that is evaluated."""
    path = tmp_path_factory.mktemp("subject")
    build_model(seed=3).save_pretrained(path)
    chat_tokenizer().save_pretrained(path)
    return path


@pytest.fixture(autouse=True)
def quiet(tmp_path, monkeypatch):
    monkeypatch.setenv("INSPECT_LOG_DIR", str(tmp_path / "logs"))
    monkeypatch.setenv("INSPECT_DISPLAY", "none")


def evaluate(scorer, subject: Path, samples: list | None = None, **options):
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import get_model
    from inspect_ai.solver import generate

    samples = samples or [Sample(input=text, metadata={"rubric": rubric}) for text, rubric in ROWS]
    task = Task(dataset=samples, solver=generate(), scorer=scorer)
    model = get_model("hf/subject", model_path=str(subject), device="cpu", memoize=False)
    (log,) = eval(task, model=model, max_tokens=12, **options)
    return log


def recite(*texts: str):
    """A model that says these texts, one after the other, and draws no random numbers."""
    from inspect_ai.model import ModelAPI, ModelOutput, get_model, modelapi

    @modelapi(name="recite")
    class Reciter(ModelAPI):
        async def generate(self, input, tools, tool_choice, config):
            return ModelOutput.from_content(self.model_name, next(left))

    left = iter(texts)
    return get_model("recite/model", memoize=False)


def check(samples: list[tuple[str, str, str, dict]], judge: Path, metrics: dict[str, float]) -> list[float]:
    """`(input, rubric, output, score)` of each sample, against the judge's own judgments."""
    own = Judge.from_pretrained(judge, do_sample=False, **SETTINGS)
    values = []
    for text, rubric, output, score in samples:
        judgment = own.score(instruction=text, response=output, rubric=rubric)
        values.append(judgment.expected_score)
        assert score["value"] == pytest.approx(judgment.expected_score, abs=1e-4)
        assert (score["answer"], score["explanation"]) == (output, judgment.rationale)
        expected = dict(zip("12345", judgment.probabilities.values(), strict=True))
        assert score["metadata"]["probabilities"] == pytest.approx(expected, abs=1e-4)
        assert score["metadata"]["status"] == judgment.status
        assert score["metadata"]["sampled_score"] == judgment.sampled_score
        assert score["metadata"]["spread"] == pytest.approx(judgment.spread, abs=1e-4)
    assert metrics["mean"] == pytest.approx(sum(values) / len(values), abs=1e-4)
    centred = [(value - metrics["mean"]) ** 2 for value in values]
    error = math.sqrt(sum(centred) / (len(values) - 1) / len(values))
    assert metrics["stderr"] == pytest.approx(error, abs=1e-4)
    return values


def test_a_real_evaluation(judge, subject):
    from real_trl.integrations import judge_scorer

    log = evaluate(judge_scorer(str(judge), **SETTINGS), subject)
    assert log.status == "success", log.error
    samples = [
        (s.input, s.metadata["rubric"], s.output.completion, s.scores["judge_scorer"].model_dump())
        for s in log.samples
    ]
    (result,) = log.results.scores
    values = check(samples, judge, {name: metric.value for name, metric in result.metrics.items()})
    assert len({output for _, _, output, _ in samples}) > 1 and len(set(values)) > 1


def test_from_the_command_line(judge, subject, tmp_path):
    (tmp_path / "grading.py").write_text(TASK)
    command = [str(Path(sys.executable).with_name("inspect")), "eval", "grading.py", "--model", f"hf/{subject}"]
    command += ["-T", f"judge={judge}", "--log-format", "json", "--max-tokens", "12"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (tmp_path / "logs").glob("*.json")
    log = json.loads(path.read_text())
    assert log["status"] == "success", log.get("error")
    assert log["eval"]["scorers"][0]["options"]["judge"] == str(judge)
    samples = [
        (
            s["input"],
            s["metadata"]["criteria_text"],
            s["output"]["choices"][0]["message"]["content"],
            s["scores"]["judge_scorer"],
        )
        for s in log["samples"]
    ]
    assert len(samples) == len(ROWS)
    (result,) = log["results"]["scores"]
    check(samples, judge, {name: metric["value"] for name, metric in result["metrics"].items()})


def test_what_waits_is_judged_together_and_one_call_at_a_time(judge, subject, monkeypatch):
    from inspect_ai.dataset import Sample

    from real_trl.integrations import judge_scorer

    loaded = Judge.from_pretrained(judge, do_sample=False, **SETTINGS)
    sizes, running, first = [], threading.Lock(), threading.Event()
    judge_prompts = loaded.judge

    def watched(prompts, **options):
        assert running.acquire(blocking=False), "two calls at a time"
        sizes.append(len(prompts))
        if not first.is_set():  # while the first is judged, the others arrive
            first.wait(1.0)
            first.set()
        judgments = judge_prompts(prompts, **options)
        running.release()
        return judgments

    monkeypatch.setattr(loaded, "judge", watched)
    samples = [Sample(input=text) for text, _ in ROWS * 5]
    log = evaluate(judge_scorer(loaded, rubric=RUBRIC), subject, samples)
    assert log.status == "success", log.error
    assert sum(sizes) == 20 and len(sizes) <= 10
    monkeypatch.undo()
    for sample in log.samples:
        judgment = loaded.score(instruction=sample.input, response=sample.output.completion, rubric=RUBRIC)
        assert sample.scores["judge_scorer"].value == pytest.approx(judgment.expected_score, abs=1e-4)


def test_a_judge_that_samples_depends_on_the_seed_only(judge):
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser

    from real_trl.integrations import judge_scorer

    messages = [ChatMessageSystem(content="close"), ChatMessageUser(content=PROMPT)]
    samples = [Sample(input=messages if i else PROMPT, target="right") for i in range(6)]
    loaded = Judge.from_pretrained(judge, **SETTINGS)
    for seed in (0, 1):
        model = recite(*["right", "close wrong", "wrong"] * 2)
        scorer = judge_scorer(loaded, columns={"rubric": "target"}, num_samples=3, seed=seed)
        (log,) = eval(Task(dataset=samples, scorer=scorer), model=model)
        assert log.status == "success", log.error
        for sample in log.samples:
            own = loaded.score(
                instruction=PROMPT if isinstance(sample.input, str) else f"System: close\n\nUser: {PROMPT}",
                response=sample.output.completion,
                rubric="right",
                num_samples=3,
                seed=seed,
            )
            assert sample.scores["judge_scorer"].value == own.expected_score
            assert sample.scores["judge_scorer"].metadata["sampled_score"] == own.sampled_score


def test_outputs_without_a_score_are_left_out(judge):
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample

    from real_trl.integrations import judge_scorer

    model = recite("right", "right " * 400)
    task = Task(
        dataset=[Sample(input=PROMPT), Sample(input=PROMPT)], scorer=judge_scorer(judge, rubric=RUBRIC, **SETTINGS)
    )
    (log,) = eval(task, model=model, max_samples=1)
    scores = [sample.scores["judge_scorer"] for sample in log.samples]
    assert log.status == "success" and math.isnan(scores[1].value) and "tokens" in scores[1].explanation
    assert log.results.scores[0].metrics["mean"].value == pytest.approx(scores[0].value)
    assert (log.results.scores[0].scored_samples, log.results.scores[0].unscored_samples) == (1, 1)

    dropped = judge_scorer(judge, rubric=RUBRIC, malformed="drop", max_new_tokens=2)
    (log,) = eval(Task(dataset=[Sample(input=PROMPT)], scorer=dropped), model=recite("right"))
    score = log.samples[0].scores["judge_scorer"]
    assert (
        math.isnan(score.value) and score.metadata["status"] == "missing" and score.metadata["probabilities"] is None
    )


def test_the_judge_is_shown_what_follows_the_thinking(judge):
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ContentReasoning, ContentText, ModelAPI, ModelOutput, get_model, modelapi

    from real_trl.integrations import judge_scorer

    answer, thought = "right close", "wrong wrong wrong"
    apart = [ContentReasoning(reasoning=thought), ContentText(text=answer)]
    outputs = [
        (f"<think>\n{thought}\n</think>\n\n{answer}", "stop"),
        (f"{thought}\n</think>\n\n{answer}", "stop"),
        (apart, "stop"),
        (answer, "stop"),
        (f"<think>\n{thought}", "max_tokens"),
        (apart[:1], "max_tokens"),
    ]

    @modelapi(name="thinks")
    class Thinker(ModelAPI):
        async def generate(self, input, tools, tool_choice, config):
            content, reason = next(left)
            return ModelOutput.from_content(self.model_name, content, stop_reason=reason)

    def scores(**options):
        nonlocal left
        left = iter(outputs)
        task = Task(
            dataset=[Sample(input=PROMPT) for _ in outputs],
            scorer=judge_scorer(judge, rubric=RUBRIC, **SETTINGS, **options),
        )
        (log,) = eval(task, model=get_model("thinks/model", memoize=False), max_samples=1)
        assert log.status == "success", log.error
        return [sample.scores["judge_scorer"] for sample in log.samples]

    left = iter(())
    own = Judge.from_pretrained(judge, do_sample=False, **SETTINGS)
    expected = own.score(instruction=PROMPT, response=answer, rubric=RUBRIC).expected_score
    judged = scores()
    for score in judged[:4]:
        assert score.value == pytest.approx(expected, abs=1e-4) and score.answer == answer
    for score in judged[4:]:
        assert math.isnan(score.value) and "ends within its thinking" in score.explanation
        assert score.metadata == {"status": "unanswered"}
    shown = scores(strip_thinking=False)
    assert shown[0].value != pytest.approx(expected, abs=1e-4) and thought in shown[0].answer


def test_what_is_missing_is_named(judge):
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample

    from real_trl.integrations import judge_scorer

    for keys, message in [
        ({"columns": {"rubrik": "x"}}, "no column variable 'rubrik'"),
        ({"reference": "x"}, "reference: the judge's prompt"),
        ({"num_samples": 2, "do_sample": False}, "num_samples: got 2 with do_sample false"),
    ]:
        with pytest.raises(ValueError, match=message):
            judge_scorer(judge, **keys)
    with pytest.raises(ValueError, match="dtype: the judge is loaded already"):
        judge_scorer(Judge.from_pretrained(judge), dtype="float32")
    task = Task(dataset=[Sample(input=PROMPT)], scorer=judge_scorer(judge))
    (log,) = eval(task, model=recite("right"))
    assert log.status == "error" and "the variable 'rubric' is undefined" in log.error.message
