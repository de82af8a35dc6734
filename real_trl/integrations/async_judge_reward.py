# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A judge as an asynchronous reward of a policy that TRL trains."""

from collections.abc import Sequence
from typing import Any

from real_trl.integrations.judge_reward import JudgeReward
from real_trl.integrations.judged_together import judge_together
from real_trl.integrations.prompt_fields import Prompt


class AsyncJudgeReward(JudgeReward):
    """
    [`JudgeReward`] as a coroutine. TRL's `GRPOTrainer` and `RLOOTrainer` run asynchronous rewards at the same time: several of one
    judge that decodes greedily are judged in one batch, and a judge behind a server keeps no other reward waiting.

    ```python
    from real_trl import Judge
    from real_trl.integrations import AsyncJudgeReward

    judge = Judge.from_pretrained("outputs/my-real", do_sample=False)
    rewards = [AsyncJudgeReward(judge, rubric=rubric, name=name) for name, rubric in rubrics.items()]
    trainer = GRPOTrainer(model="Qwen/Qwen3-0.6B", reward_funcs=rewards, train_dataset=dataset)
    ```

    Arguments, logs, rewards and errors are those of [`JudgeReward`]. To be judged together, rewards have to be given the same loaded
    [`Judge`]. A judge that samples (`do_sample=True`, the default) judges their calls one after the other.
    """

    async def __call__(  # type: ignore[override]
        self, prompts: Sequence[Prompt], completions: Sequence[Prompt], **columns: Any
    ) -> list[float | None]:
        """Rewards of completions, see [`JudgeReward.__call__`]."""
        batch = self._batch(prompts, completions, columns)
        if not batch.readable:
            return self._rewards(batch, [])
        asked = list(batch.readable.values())
        return self._rewards(
            batch, await judge_together(self.judge, asked, num_samples=self.num_samples, seed=self.seed)
        )
