# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Dynamic sampling (Table 6; Yu et al., 2025): train only on groups whose accuracy `acc(x) = 1/K Σ_k 1[y⁽ᵏ⁾ = y*]` lies
within bounds, and sample other prompts in place of the rest.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset

from real_trl.option_values import FieldError
from real_trl.trainers.checkpoints import StopWithCheckpoint
from real_trl.trainers.rollout import Rollout

_BOUND = r"(\d+(?:\.\d*)?|\.\d+)"
_PREDICATE = re.compile(rf"\s*(?:{_BOUND}\s*(<=?)\s*)?acc\s*(?:(<=?)\s*{_BOUND})?\s*")

Group = list[Rollout]


class GroupFilterError(StopWithCheckpoint):
    """Too few groups passed `group_filter` within `group_filter_rounds`."""


@dataclass(frozen=True)
class GroupFilter:
    """
    Bounds on a group's accuracy. Build it with [`GroupFilter.parse`].

    Attributes:
        text (`str`):
            As written in the recipe.
        low_included, high_included (`bool`):
            Whether a group whose accuracy is the bound passes.
    """

    text: str
    low: float = 0.0
    high: float = 1.0
    low_included: bool = True
    high_included: bool = True

    @classmethod
    def parse(cls, text: str, group_size: int) -> "GroupFilter":
        """
        Read `"0 < acc < 1"`, `"acc <= 0.9"`, `"acc > 0.25"` and the like.

        Raises:
            ValueError: if the text is no such predicate, or no group of `group_size` completions can fulfil it.
        """
        parts = re.split(r"\s*([<>]=?)\s*", str(text).strip())
        if ">" in str(text):  # "1 > acc" is "acc < 1"
            parts = [{"<": ">", "<=": ">=", ">": "<", ">=": "<="}.get(part, part) for part in reversed(parts)]
        match = _PREDICATE.fullmatch(" ".join(parts))
        if match is None or not (match[1] or match[4]):
            fix = "Write bounds on the group's accuracy, such as '0 < acc < 1', 'acc < 1' or '0.25 <= acc <= 0.75'; leave it out to train on every group."
            raise FieldError("group_filter", text, fix)
        low, low_sign, high_sign, high = match.groups()
        parsed = cls(
            str(text),
            low=float(low) if low else 0.0,
            high=float(high) if high else 1.0,
            low_included=low_sign != "<",
            high_included=high_sign != "<",
        )
        possible = [correct / group_size for correct in range(group_size + 1)]
        if not any(parsed.too_low(acc) + parsed.too_high(acc) == 0 for acc in possible):
            said = f": got {text!r}, which no group can pass: with num_generations={group_size} the accuracy is one of {', '.join(f'{acc:.3g}' for acc in possible)}"
            raise FieldError("group_filter", text, "Widen the bounds, or raise `num_generations`.", said)
        return parsed

    def too_low(self, accuracy: float) -> bool:
        """Whether a group is rejected since too few of its scores are right."""
        return accuracy < self.low or (accuracy == self.low and not self.low_included)

    def too_high(self, accuracy: float) -> bool:
        """Whether a group is rejected since too many of its scores are right."""
        return accuracy > self.high or (accuracy == self.high and not self.high_included)


def group_accuracy(group: Group) -> float:
    """Share of completions that give the right score; a malformed one does not."""
    return sum(rollout.is_right for rollout in group) / len(group)


class GroupSampler:
    """
    Fills generation batches with groups that pass a filter.

    All decisions are made on the groups of all processes together, in the order of the processes, so that every process
    takes part in the same number of generations, gets as many groups as the others, and holds the same surplus.

    Args:
        rounds (`int`):
            Generations per batch before [`GroupFilterError`], the first one included.
        dataset ([`~datasets.Dataset`]):
            Where replacements are drawn from: shuffled, each row once before any comes again, independent of the
            dataloader.

    Attributes:
        surplus (`list[Group]`):
            Groups that passed and were not needed, the same on every process; the next batch begins with them. They
            were sampled by the policy of one generation batch before, which only `vllm_importance_sampling_correction` corrects for; the
            count `stale` says how many of a batch's groups that is.
        drawn (`int`):
            Replacements drawn so far.
    """

    def __init__(self, group_filter: GroupFilter, rounds: int, dataset: Dataset, seed: int) -> None:
        self.filter, self.rounds, self.dataset, self.seed = group_filter, rounds, dataset, seed
        self.surplus: list[Group] = []
        self.drawn = 0

    def fill(
        self, groups: list[Group], sample: Callable[[list[dict[str, Any]]], list[Group]], accelerator: Accelerator
    ) -> tuple[list[Group], dict[str, int]]:
        """
        Keep the groups that pass, and sample others in place of the rest.

        Args:
            groups (`list[Group]`):
                This process's groups of the first round.
            sample (`Callable`):
                Samples a group for each dataset row it is given. Every process calls it equally often.

        Returns:
            As many groups as were given, all of which pass, and counts over all processes for the log.

        Raises:
            GroupFilterError: on every process, if there are too few after the last round.
        """
        share, rank = len(groups), accelerator.process_index
        needed = share * accelerator.num_processes
        counts = dict.fromkeys(("prompts_drawn", "too_low", "too_high"), 0)
        counts["stale"] = min(len(self.surplus), needed)
        statuses: list[str] = []
        for used in range(1, self.rounds + 1):
            groups = gather_object(groups)
            statuses += [rollout.status for group in groups for rollout in group]
            accuracies = [group_accuracy(group) for group in groups]
            too_low, too_high = map(self.filter.too_low, accuracies), map(self.filter.too_high, accuracies)
            verdicts = list(zip(groups, too_low, too_high, strict=True))
            self.surplus += [group for group, low, high in verdicts if not (low or high)]
            counts["prompts_drawn"] += len(groups)
            counts["too_low"] += sum(low for _, low, _ in verdicts)
            counts["too_high"] += sum(high for _, _, high in verdicts)
            if len(self.surplus) >= needed:
                batch, self.surplus = self.surplus[:needed], self.surplus[needed:]
                counts["prompts_kept"] = counts["prompts_drawn"] - counts["too_low"] - counts["too_high"]
                counts |= {"rounds": used, "surplus": len(self.surplus)}
                return batch[rank * share : (rank + 1) * share], counts
            if used < self.rounds:
                rows = self._draw(needed)[rank * share : (rank + 1) * share]
                groups = sample(rows)
        unscored = sum(status != "ok" for status in statuses)
        mute = f" {unscored} of their {len(statuses)} completions show no score." if unscored else ""
        raise GroupFilterError(
            f"group_filter: {len(self.surplus)} of the {needed} groups of a step passed {self.filter.text!r} within "
            f"group_filter_rounds={self.rounds} rounds: of {counts['prompts_drawn']} prompts, {counts['too_low']} had an accuracy "
            f"too low and {counts['too_high']} too high.{mute} Widen group_filter, raise group_filter_rounds, or use "
            "prompts that the judge scores neither always right nor always wrong."
        )

    def _draw(self, count: int) -> list[dict[str, Any]]:
        rows = []
        for number in range(self.drawn, self.drawn + count):
            epoch, index = divmod(number, len(self.dataset))
            rows.append(self.dataset[_order(self.seed, epoch, len(self.dataset))[index]])
        self.drawn += count
        return rows


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, size: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed + 7919 * (epoch + 1))
    return torch.randperm(size, generator=generator).tolist()
