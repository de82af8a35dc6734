# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`AsyncJudgeReward`: the rewards of `JudgeReward`, several of one judge in one batch, also in a real run of TRL."""

import asyncio

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from real_trl.integrations import AsyncJudgeReward, JudgeReward
from tests.integrations.judges import Watched
from tests.tiny import TOKENIZER, build_model, prompt_dataset

PROMPTS = prompt_dataset([1.0] * 4)["prompt"][:]
ANSWERS = ["right", "1) 7+4 is 12, right.", "wrong, wrong", "close"]
RUBRICS = {"strict": "wrong counts", "mild": "close counts"}


def rewards_of(kind, judge):
    return [kind(judge, rubric=rubric, name=name, malformed="force") for name, rubric in RUBRICS.items()]


async def at_once(rewards, completions=ANSWERS):
    return await asyncio.gather(*(reward(prompts=PROMPTS, completions=completions) for reward in rewards))


@pytest.mark.parametrize("do_sample", [False, True])
def test_rewards_are_those_of_the_plain_form(folder, do_sample):
    judge = Watched.from_pretrained(folder, max_new_tokens=24, do_sample=do_sample)
    plain = [reward(PROMPTS, ANSWERS) for reward in rewards_of(JudgeReward, judge)]
    judge.sizes = ()
    for got, expected in zip(asyncio.run(at_once(rewards_of(AsyncJudgeReward, judge))), plain, strict=True):
        assert got == pytest.approx(expected, abs=1e-6) and None not in got
    assert plain[0] != plain[1]
    assert judge.sizes == ((4, 4) if do_sample else (8,))  # where rationales are sampled, no call changes another's


def test_what_fails_for_one_fails_for_that_one_only(folder):
    judge = Watched.from_pretrained(folder, max_new_tokens=24, do_sample=False)
    good, bad = rewards_of(AsyncJudgeReward, judge)
    thinking = ["<think> wait"] * 4
    unfinished, others = asyncio.run(_both(bad(prompts=PROMPTS, completions=thinking), good(PROMPTS, ANSWERS)))
    assert unfinished == [None] * 4 and None not in others and judge.sizes == (4,)
    failing, whole = judge.engine.judge, []

    def fails_on_many(prompts, **options):
        whole.append(len(prompts))
        if len(prompts) > 4:
            raise RuntimeError("too many")
        return failing(prompts, **options)

    judge.engine.judge = fails_on_many
    outcomes = asyncio.run(_both(good(PROMPTS, ANSWERS), bad(PROMPTS, ANSWERS)))
    (failed,) = (each for each in outcomes if isinstance(each, RuntimeError))  # whoever had the turn
    (rewards,) = (each for each in outcomes if each is not failed)
    assert whole == [8, 4] and len(rewards) == 4 and None not in rewards


async def _both(*calls):
    return await asyncio.gather(*calls, return_exceptions=True)


def test_a_real_grpo_run(tmp_path, folder):
    judge = Watched.from_pretrained(folder, max_new_tokens=24, do_sample=False)
    args = GRPOConfig(
        output_dir=str(tmp_path),
        num_generations=4,
        per_device_train_batch_size=8,
        max_completion_length=12,
        max_steps=1,
        logging_steps=1,
        report_to="none",
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
    )
    seen = []

    class Seen(AsyncJudgeReward):
        async def __call__(self, prompts, completions, **columns):
            before = torch.get_rng_state()
            rewards = await super().__call__(prompts, completions, **columns)
            assert torch.equal(torch.get_rng_state(), before)  # the trainer's random numbers
            seen.append((self.__name__, prompts, completions, rewards))
            return rewards

    trainer = GRPOTrainer(
        model=build_model(),
        reward_funcs=rewards_of(Seen, judge),
        args=args,
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
        processing_class=TOKENIZER,
    )
    trainer.train()
    assert judge.sizes == (16,)  # both rewards of the step in one call
    (log,) = (entry for entry in trainer.state.log_history if "rewards/strict/mean" in entry)
    assert {name for name, *_ in seen} == {*RUBRICS} and len(seen) == 2
    for name, prompts, completions, rewards in seen:
        expected = [
            min(max((judgment.expected_score - 1) / 4, 0), 1)
            for judgment in judge.score(instruction=prompts, response=completions, rubric=RUBRICS[name])
        ]
        assert rewards == pytest.approx(expected, abs=1e-6)
        assert log[f"rewards/{name}/mean"] == pytest.approx(sum(rewards) / len(rewards), abs=1e-5)
