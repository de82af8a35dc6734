# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
What the mixins of the trainers are mixed into, and what they expect of it. Only a type checker is told: at run time a mixin has no base, so
that methods are looked up in the order in which the trainers name their bases.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer
    from trl import RLOOTrainer

    from real_trl.forward.dense import PolicyOutput
    from real_trl.judge_config import JudgeConfig
    from real_trl.score_space import ScoreSpace
    from real_trl.trainers.config_defaults import JudgeTrainingArguments
    from real_trl.trainers.group_filter import GroupSampler
    from real_trl.trainers.real_config import REALConfig
    from real_trl.trainers.rewards import Rewards

    class JudgeTrainer(Trainer):
        """A trainer of judges."""

        args: JudgeTrainingArguments
        model: PreTrainedModel
        score_space: ScoreSpace
        judge_config: JudgeConfig
        recipe: dict[str, Any] | None
        _tokenizer: PreTrainedTokenizerBase
        _metrics: Any
        ref_model: Any
        check_learned: Callable[[], None]
        check_weights: Callable[[], None]
        diverged: Callable[[], bool]
        load_sampling_state: Callable[[dict[str, Any]], None]

    class OnlineJudgeTrainer(JudgeTrainer, RLOOTrainer):
        """One whose completions the judge writes itself."""

        args: REALConfig
        num_generations: int
        num_generations_eval: int
        generation_config: Any
        _buffered_inputs: Any
        _score_pairs: dict[str, list[Tensor]]
        _shares_prefixes: bool
        _checks_sharing: bool
        _scores_first: bool
        _reuses_batches: bool
        _group_sampler: GroupSampler | None
        _group_signal: Any
        _label_values: Tensor
        _label_merits: Tensor
        _generate_and_score_completions: Any
        _forward: Callable[..., PolicyOutput]
        _kl: Callable[..., Tensor | None]
        _rewards: Callable[..., Rewards]
        _advantages: Callable[..., Tensor]
        _freeze_advantages: Callable[[dict[str, Any]], None]
        prompt_encoding: Any
        check_sampled: Callable[[bool], None]
        signal_state: Callable[[], dict[str, Any]]
        load_signal_state: Callable[[dict[str, Any]], None]

        @property
        def _mode(self) -> str: ...

        @property
        def _has_pairs(self) -> bool: ...

        @property
        def _group_size(self) -> int: ...

else:
    JudgeTrainer = OnlineJudgeTrainer = object
