# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What the adapters of evaluation tools have in common, without any tool; and what is said where a tool is missing."""

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from real_trl import Judge, integrations
from real_trl.integrations import judged_together
from real_trl.integrations.row_judge import UNANSWERED, Asked, RowJudge
from tests.integrations.judges import (
    INSTRUCTIONS,
    RESPONSES,
    RUBRIC,
    SETTINGS,
    TOO_LONG,
    Watched,
    own_judgments,
)
from tests.tiny import PROMPT

ROWS = [Asked({"rubric": RUBRIC}, response, text) for text, response in zip(INSTRUCTIONS, RESPONSES, strict=True)]
# Name in real_trl.integrations → module of the tool, extra
TOOLS = {
    "DeepEvalJudge": ("deepeval", "deepeval"),
    "LMEvalJudge": ("lm_eval", "lm-eval"),
    "RagasJudge": ("ragas", "ragas"),
    "VerifiersJudge": ("verifiers", "verifiers"),
    "judge_scorer": ("inspect_ai", "inspect"),
    "mlflow_judge": ("mlflow", "mlflow"),
}


@pytest.fixture
def watched(folder):
    return Watched.from_pretrained(folder, do_sample=False, **SETTINGS)


def check(scores, judgments):
    for score, own in zip(scores, judgments, strict=True):
        assert score.value == pytest.approx(own.expected_score, abs=1e-4)
        assert score.reward == pytest.approx(min(max((own.expected_score - 1) / 4, 0), 1), abs=1e-4)
        assert score.explanation == own.rationale
        assert score.details["probabilities"] == pytest.approx(own.probabilities, abs=1e-4)
        record = score.record()
        assert (record["expected_score"], record["status"]) == (score.value, own.status)


def test_scores_are_the_judges_own_in_one_batch(folder, watched):
    judgments, rows = own_judgments(folder), RowJudge(watched)
    check(rows.score(ROWS), judgments)

    async def at_once():
        return await asyncio.gather(*(rows.ascore(each.row, each.response, each.instruction) for each in ROWS))

    check(asyncio.run(at_once()), judgments)
    assert watched.sizes == (10, 10)


def test_what_threads_ask_meanwhile_is_one_batch(folder, watched):
    rows, pool, others = RowJudge(watched), ThreadPoolExecutor(10), []
    judge_prompts = watched.judge

    def slow(prompts, **options):
        if not others:  # the first is judged until the other nine wait
            others.extend(pool.submit(rows.score, [row]) for row in ROWS[1:])
            line = judged_together._LINES[watched]
            for _ in range(1000):
                if len(line.waiting) == 9:
                    break
                threading.Event().wait(0.01)
        return judge_prompts(prompts, **options)

    watched.judge = slow
    scores = rows.score(ROWS[:1]) + [other.result()[0] for other in others]
    check(scores, own_judgments(folder))
    assert watched.sizes == (1, 9)


def test_rows_without_a_score_say_why(folder):
    rows = RowJudge(folder, rubric=RUBRIC, malformed="drop", max_new_tokens=2)
    asked = [Asked({}, text, PROMPT) for text in ("<think> wait", None, TOO_LONG, "right")]
    scores = rows.score(asked)
    assert [score.value for score in scores] == [score.reward for score in scores] == [None] * 4
    assert [score.details["status"] for score in scores] == ["unanswered", "unanswered", "too_long", "missing"]
    assert scores[0].explanation == UNANSWERED and "tokens" in scores[2].explanation
    assert scores[3].explanation.startswith("The judgment shows no score (missing): ")
    assert asyncio.run(rows.ascore({}, None, PROMPT)).value is None


def test_fields_come_from_the_row_and_wrong_ones_are_named(folder):
    judge = Judge.from_pretrained(folder, do_sample=False, **SETTINGS)
    row = {"question": PROMPT, "criteria_text": RUBRIC}
    (score,) = RowJudge(judge, columns={"instruction": "question", "rubric": "criteria_text"}).score(
        [Asked(row, "right")]
    )
    own = judge.score(instruction=PROMPT, response="right", rubric=RUBRIC)
    assert score.value == pytest.approx(own.expected_score, abs=1e-4)
    with pytest.raises(ValueError, match="the variable 'rubric' is undefined"):
        RowJudge(judge).score([Asked({}, "right", PROMPT)])
    with pytest.raises(ValueError, match="dtype: the judge is loaded already"):
        RowJudge(judge, dtype="float32")
    with pytest.raises(ValueError, match="reference: the judge's prompt"):
        RowJudge(judge, reference="x")


def test_a_tool_is_imported_on_first_use_and_a_missing_one_names_its_extra():
    assert set(integrations.__all__) == {"AsyncJudgeReward", "JudgeReward", *TOOLS}
    code = (
        "import sys; from real_trl import integrations; integrations.JudgeReward\n"
        f"tools = {TOOLS}\n"
        "assert not sys.modules.keys() & {module for module, _ in tools.values()}\n"
        "for name, (module, _) in tools.items():\n"
        "    sys.modules[module] = None\n"
        "    try: getattr(integrations, name)\n"
        "    except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    for said, (name, (_, extra)) in zip(done.stdout.splitlines(), TOOLS.items(), strict=True):
        assert said.startswith(f"{name} needs ") and said.endswith(f'pip install "real_trl[{extra}]"')
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        integrations.nothing  # noqa: B018
