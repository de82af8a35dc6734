# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`JudgeReward`: by itself, and as the reward of a real GRPO run of TRL."""

import json
import logging
import math
import pickle
import shutil

import pandas as pd
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict
from trl import GRPOConfig, GRPOTrainer

from real_trl import Judge
from real_trl.integrations import JudgeReward
from real_trl.prompts.template import PromptTemplate
from tests.integrations.judges import RUBRIC, save_judge
from tests.tiny import PROMPT, TOKENIZER, build_model, chat_tokenizer, prompt_dataset

SETTINGS = {"max_new_tokens": 24}
PROMPTS = prompt_dataset([1.0] * 4)["prompt"][:]
ANSWERS = ["right", "1) 7+4 is 12, right.", "wrong, wrong", "close"]


@pytest.fixture(scope="module")
def judge(folder):
    return Judge.from_pretrained(folder, **SETTINGS)


def scaled(judgments, low=1.0, high=5.0):
    """What rewards must be, from the judge's own judgments."""
    return [
        min(max((j.expected_score - low) / (high - low), 0.0), 1.0) if j.status == "ok" else None for j in judgments
    ]


# --- in a trainer ----------------------------------------------------------------------------------------------------


class Watched(JudgeReward):
    """Keeps what TRL asked and got."""

    calls: list

    def __call__(self, prompts, completions, **columns):
        before = torch.get_rng_state()
        rewards = super().__call__(prompts, completions, **columns)
        assert torch.equal(torch.get_rng_state(), before)  # the trainer's random numbers
        self.calls.append((prompts, completions, columns, rewards))
        return rewards


@pytest.mark.parametrize("conversational", [False, True])
def test_a_real_grpo_run(tmp_path, folder, judge, conversational):
    rows = {"prompt": PROMPTS, "criteria_text": [f"{RUBRIC} {word}" for word in ("right", "close", "wrong", "the")]}
    if conversational:
        rows["prompt"] = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    dataset = Dataset.from_dict(rows)
    reward = Watched(folder, columns={"rubric": "criteria_text"}, name="quality", **SETTINGS)
    reward.calls = []
    reward.check(dataset)
    args = GRPOConfig(
        output_dir=str(tmp_path),
        num_generations=4,
        per_device_train_batch_size=8,
        max_completion_length=12,
        max_steps=2,
        learning_rate=1e-2,
        logging_steps=1,
        report_to="none",
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
    )
    policy = build_model()
    before = {name: weight.clone() for name, weight in policy.named_parameters()}
    trainer = GRPOTrainer(
        model=policy,
        reward_funcs=[reward],
        args=args,
        train_dataset=dataset,
        processing_class=chat_tokenizer() if conversational else TOKENIZER,
    )
    trainer.train()

    assert any(not torch.equal(weight, before[name]) for name, weight in policy.named_parameters())
    assert len(reward.calls) == 2
    logs = [entry for entry in trainer.state.log_history if "rewards/quality/mean" in entry]
    for (prompts, completions, columns, rewards), log in zip(reward.calls, logs, strict=True):
        texts = [prompt[0]["content"] if conversational else prompt for prompt in prompts]
        answers = [completion[0]["content"] if conversational else completion for completion in completions]
        own = judge.score(instruction=texts, response=answers, rubric=columns["criteria_text"])
        assert rewards == pytest.approx(scaled(own), abs=1e-6)
        assert len(set(rewards)) > 2
        given = [reward for reward in rewards if reward is not None]
        assert log["rewards/quality/mean"] == pytest.approx(sum(given) / len(given), abs=1e-5)
        assert log["quality/malformed"] == pytest.approx(rewards.count(None) / len(rewards))


# --- by itself -------------------------------------------------------------------------------------------------------


def test_rewards_are_the_judges_scores(folder, judge):
    own = judge.score(instruction=PROMPTS, response=ANSWERS, rubric=RUBRIC)
    assert {j.status for j in own} >= {"ok"}
    reward = JudgeReward(judge, rubric=RUBRIC)
    assert reward(prompts=PROMPTS, completions=ANSWERS) == scaled(own)
    assert reward(prompts=PROMPTS, completions=ANSWERS) == scaled(own)  # again
    assert JudgeReward(folder, rubric=RUBRIC, **SETTINGS)(PROMPTS, ANSWERS) == pytest.approx(scaled(own))
    plain = JudgeReward(judge, rubric=RUBRIC, normalize=False, malformed="force")
    assert plain(PROMPTS, ANSWERS) == [j.expected_score for j in own]
    other = JudgeReward(judge, rubric=RUBRIC, seed=1, normalize=False, malformed="force")(PROMPTS, ANSWERS)
    assert other != plain(PROMPTS, ANSWERS)
    seeded = judge.score(instruction=PROMPTS, response=ANSWERS, rubric=RUBRIC, seed=1)
    assert other == [j.expected_score for j in seeded]


def test_where_the_lowest_score_is_the_best_a_lower_one_is_a_higher_reward(tmp_path, folder):
    shutil.copytree(folder, tmp_path / "falling")
    file = tmp_path / "falling" / "judge_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {name: config[name][::-1] for name in ("score_labels", "score_values")}))
    options = {"rubric": RUBRIC, "malformed": "force", **SETTINGS}
    raw = JudgeReward(folder, normalize=False, **options)(PROMPTS, ANSWERS)
    mirrored = JudgeReward(tmp_path / "falling", normalize=False, **options)(PROMPTS, ANSWERS)
    assert mirrored == pytest.approx([6 - score for score in raw], abs=1e-5)
    assert JudgeReward(tmp_path / "falling", **options)(PROMPTS, ANSWERS) == pytest.approx([(5 - s) / 4 for s in raw])


def test_several_samples_are_averaged(judge):
    own = judge.score(instruction=PROMPTS, response=ANSWERS, rubric=RUBRIC, num_samples=3)
    rewards = JudgeReward(judge, rubric=RUBRIC, num_samples=3)(PROMPTS, ANSWERS)
    for judgment, reward in zip(own, rewards, strict=True):
        scores = [sample.expected_score for sample in judgment.samples if sample.status == "ok"]
        assert reward == pytest.approx((sum(scores) / len(scores) - 1) / 4)


def test_malformed_judgments_give_no_reward(tmp_path, folder):
    short = {"max_new_tokens": 2}  # no room for a score
    assert JudgeReward(folder, rubric=RUBRIC, **short)(PROMPTS, ANSWERS) == [None] * 4
    forced = JudgeReward(folder, rubric=RUBRIC, malformed="force", **short)(PROMPTS, ANSWERS)
    assert all(0 <= reward <= 1 for reward in forced) and len(set(forced)) > 1
    loaded = Judge.from_pretrained(folder, malformed="drop", **short)
    assert JudgeReward(loaded, rubric=RUBRIC)(PROMPTS, ANSWERS) == [None] * 4
    with pytest.raises(ValueError, match="malformed: got 'force', but the judge was loaded with"):
        JudgeReward(loaded, rubric=RUBRIC, malformed="force")


def test_a_score_off_the_scale_counts_as_its_end(folder):
    reward = JudgeReward(folder, rubric=RUBRIC, malformed="force", **SETTINGS)
    reward.judge.engine.model = build_model(seed=5)  # writes anything, so that little mass is on the labels
    raw = JudgeReward(reward.judge, rubric=RUBRIC, malformed="force", normalize=False)(PROMPTS, ANSWERS)
    assert min(raw) < 1
    assert reward(PROMPTS, ANSWERS) == [max((score - 1) / 4, 0) for score in raw]


def test_conversations(judge):
    plain = JudgeReward(judge, rubric=RUBRIC)(PROMPTS, ANSWERS)
    prompts = [[{"role": "user", "content": [{"type": "text", "text": prompt}]}] for prompt in PROMPTS]
    said = [[{"role": "assistant", "content": "1) 7+4"}, {"role": "tool", "content": "12"}] for _ in ANSWERS]
    said = [[*turns, {"role": "assistant", "content": answer}] for turns, answer in zip(said, ANSWERS, strict=True)]
    assert JudgeReward(judge, rubric=RUBRIC)(prompts=prompts, completions=said) == plain
    system = [[{"role": "system", "content": "close"}, {"role": "user", "content": PROMPT}]]
    joined = JudgeReward(judge, rubric=RUBRIC)([f"System: close\n\nUser: {PROMPT}"], ["right"])
    assert JudgeReward(judge, rubric=RUBRIC)(system, [[{"role": "assistant", "content": "right"}]]) == joined
    image = [[{"role": "user", "content": [{"type": "image"}]}]]
    with pytest.raises(ValueError, match="row 0: user message: its content holds .*image.* which the judge cannot"):
        JudgeReward(judge, rubric=RUBRIC)(image, ["right"])
    mapped = JudgeReward(judge, rubric=RUBRIC, columns={"instruction": "question"})
    assert mapped(image, ["right"], question=[PROMPTS[0]]) == JudgeReward(judge, rubric=RUBRIC)(PROMPTS[:1], ["right"])
    with pytest.raises(ValueError, match="completion: no message of the assistant in it, only of \\['user'\\]"):
        JudgeReward(judge, rubric=RUBRIC)([PROMPT], [[{"role": "user", "content": "x"}]])
    with pytest.raises(ValueError, match="completion: got a int, 5. Give text, or a list of messages"):
        JudgeReward(judge, rubric=RUBRIC)([PROMPT], [5])


def test_columns_of_the_dataset_do_not_replace_the_completion(judge):
    expected = JudgeReward(judge, rubric=RUBRIC)(PROMPTS, ANSWERS)
    columns = {name: ["x"] * 4 for name in ("response", "orig_response", "orig_instruction", "instruction", "prompt")}
    assert JudgeReward(judge)(PROMPTS, ANSWERS, rubric=[RUBRIC] * 4, **columns) == expected
    assert JudgeReward(judge, rubric=RUBRIC)(PROMPTS, ANSWERS, orig_criteria=["x"] * 4, rubric=["y"] * 4) == expected
    criteria = JudgeReward(judge)(PROMPTS, ANSWERS, orig_criteria=[RUBRIC] * 4, orig_score1_description=["bad"] * 4)
    rubric = f"[{RUBRIC}]\nScore 1: bad"
    assert criteria == JudgeReward(judge, rubric=rubric)(PROMPTS, ANSWERS)


def test_classes_and_splits_are_refused_before_the_training(judge):
    classes = Dataset.from_dict({"prompt": PROMPTS, "rubric": [0] * 4}).cast_column(
        "rubric", ClassLabel(names=[RUBRIC])
    )
    for rows in (classes, classes.to_iterable_dataset()):
        with pytest.raises(
            ValueError, match="rubric: the column 'rubric' is a ClassLabel of the names .* passes the codes"
        ):
            JudgeReward(judge).check(rows)
    JudgeReward(judge, rubric=RUBRIC).check(classes)  # not read
    JudgeReward(judge).check(pd.DataFrame({"prompt": PROMPTS, "rubric": [RUBRIC] * 4}))
    with pytest.raises(ValueError, match="'judge': rows: got a DatasetDict of the splits 'train'. Choose one"):
        JudgeReward(judge).check(DatasetDict(train=classes))


def test_gaps_of_all_kinds_are_missing(judge):
    for gap in (None, math.nan, pd.NA, pd.NaT):
        with pytest.raises(ValueError, match="row 0: .*'rubric' is undefined \\(column 'rubric' is empty\\)"):
            JudgeReward(judge)(PROMPTS, ANSWERS, rubric=[gap] * 4)


def test_what_is_missing_is_named(judge, folder, tmp_path):
    rows = Dataset.from_dict({"prompt": PROMPTS, "rubric": [RUBRIC, None, RUBRIC, RUBRIC]})
    with pytest.raises(ValueError, match="'judge', row 1: .*'rubric' is undefined \\(column 'rubric' is empty\\)"):
        JudgeReward(judge).check(rows)
    with pytest.raises(
        ValueError, match="row 0: .*'rubric' is undefined \\(no column gives it\\).*Map it with `columns"
    ):
        JudgeReward(judge).check(rows.select_columns("prompt"))
    with pytest.raises(ValueError, match="row 0: .*'rubric' is undefined"):
        JudgeReward(judge)(PROMPTS, ANSWERS)
    with pytest.raises(ValueError, match="row 0: columns: 'rubric' is read from 'criteria', which does not exist"):
        JudgeReward(judge, columns={"rubric": "criteria"}).check(rows)
    with pytest.raises(ValueError, match="row 2: rubric: the column 'rubric' holds 3 \\(a int\\). Turn it into text"):
        JudgeReward(judge)(PROMPTS, ANSWERS, rubric=[RUBRIC, RUBRIC, 3, RUBRIC])
    with pytest.raises(ValueError, match="row 0: rubric: the column 'rubric' is empty"):
        JudgeReward(judge)(PROMPTS, ANSWERS, rubric=[" "] * 4)
    with pytest.raises(ValueError, match="prompt: row 0 has no such column, only \\['rubric'\\]"):
        JudgeReward(judge).check(rows.select_columns("rubric"))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"columns": {"rubrik": "x"}}, "no column variable 'rubrik'"),
        ({"columns": "rubric"}, "columns: got 'rubric'. Give a mapping"),
        ({"columns": {"rubric": 3}}, "columns: got 'rubric' → 3"),
        ({"rubric": ["a"]}, "rubric: got \\['a'\\]. Give a text"),
        ({"rubric": "a", "columns": {"rubric": "b"}}, "rubric: given as a text, and in columns as 'b'"),
        ({"reference": "a"}, "reference: the judge's prompt \\(homework.jinja\\) has no such field"),
        ({"malformed": "strict"}, "malformed: got 'strict'. Set it to one of: force, drop"),
        ({"num_samples": 0}, "num_samples: got 0"),
        ({"num_samples": 2, "do_sample": False}, "num_samples: got 2 with do_sample false"),
        ({"score_labels": "1-4"}, "score_labels: got \\['1', '2', '3', '4'\\], but the judge"),
    ],
)
def test_wrong_settings_are_refused_at_once(folder, keys, message):
    with pytest.raises(ValueError, match=message):
        JudgeReward(folder, **keys)


def test_judges_that_cannot_be_used(tmp_path, judge):
    complete = save_judge(tmp_path / "complete", template=None)
    with pytest.raises(ValueError, match="prompt_template: the judge was trained on complete prompts"):
        JudgeReward(complete)
    JudgeReward(complete, prompt_template="feedback_collection")
    blind = save_judge(tmp_path / "blind", PromptTemplate("{{ instruction }}", "blind.jinja"))
    with pytest.raises(ValueError, match="'blind.jinja' does not show the response"):
        JudgeReward(blind)
    with pytest.raises(ValueError, match="'/nowhere/at/all' does not exist"):
        JudgeReward("/nowhere/at/all")
    with pytest.raises(ValueError, match="batch_size: the judge is loaded already"):
        JudgeReward(judge, batch_size=4)


def test_a_response_that_is_too_long_for_the_judge_ends_no_training(judge, caplog):
    reward = JudgeReward(judge, rubric=RUBRIC)
    with caplog.at_level(logging.WARNING):
        rewards = reward(PROMPTS, [*ANSWERS[:3], "right " * 400])
    assert rewards[3] is None
    assert rewards[:3] == reward(PROMPTS[:3], ANSWERS[:3])
    assert "1 of 4 responses are too long" in caplog.text


def test_a_call_of_which_every_response_is_too_long_ends_no_training(judge, caplog):
    reward, extra = JudgeReward(judge, rubric=RUBRIC), {}
    logs = {"log_extra": extra.__setitem__, "log_metric": extra.__setitem__}
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            rewards = reward(PROMPTS[:2], ["right " * 400] * 2, **logs)
    assert rewards == [None, None] and extra == {"judge_rationale": [None, None]}
    assert caplog.text.count("2 of 2 responses are too long") == 1
    rows = [{"prompt": PROMPTS[0]}, {"prompt": "right " * 400}]
    with pytest.raises(ValueError, match=r"'judge', without any response: prompt 1 \(counted from 0\) has"):
        reward.check(rows)


def test_pickled(folder, judge):
    expected = JudgeReward(judge, rubric=RUBRIC)(PROMPTS, ANSWERS)
    for reward in (JudgeReward(judge, rubric=RUBRIC), JudgeReward(folder, rubric=RUBRIC, **SETTINGS)):
        again = pickle.loads(pickle.dumps(reward))
        assert again.__name__ == "judge" and again(PROMPTS, ANSWERS) == expected
        assert repr(again.judge) == repr(judge)
