# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Training data of direct judges that are trained on preferences between two responses: each pair is two rows, one behind the other."""

from collections.abc import Iterator, Mapping, Sequence, Sized
from typing import Any

from datasets import Dataset
from torch import Tensor
from torch.utils.data import Sampler

from real_trl import objectives
from real_trl.option_values import FieldError
from real_trl.prompts.answer import answer_text, answer_to
from real_trl.score_space import ScoreSpace
from real_trl.trainers.data_checks import RowsCheck


def check_pair_options(args: Any, dataset: Any) -> None:
    """`FieldError` for arguments, or a stream, whose pairs would not stay together or write something before their score."""
    if not isinstance(dataset, Dataset):
        said = f": got a {type(dataset).__name__} of preferences between two responses"
        raise FieldError("train_dataset", dataset, "Load it whole, as a `datasets.Dataset`.", said)
    if args.rationale:
        said = ": got true with preferences between two responses, which have no rationales to learn"
        fix = "Set it to false for a direct judge, or use rl with reward: preference, which samples rationales."
        raise FieldError("rationale", True, fix, said)
    if not args.regression_weight:
        said = ": got 0 with preferences between two responses, of which nothing else would be learned"
        raise FieldError("regression_weight", 0, "Set it above 0: it weighs the loss of the preference.", said)
    for name in ("per_device_train_batch_size", "per_device_eval_batch_size"):
        if getattr(args, name) % 2:
            said = f": got {getattr(args, name)}, but the two responses of a pair are two rows of one batch"
            raise FieldError(name, getattr(args, name), "Set it to an even number.", said)


def answers(row: Mapping[str, Any], space: ScoreSpace, column: str = "prompt") -> dict[str, Any]:
    """`prompt`, of a column of a pair, and `completion`: marker and a label, any of them, since the loss is that of all."""
    prompt = row[column]
    written = answer_text("", space.labels[0], space.marker)
    return {"prompt": prompt, "completion": answer_to(prompt, written, isinstance(prompt, list))}


def of_both_answers(check: RowsCheck, space: ScoreSpace) -> RowsCheck:
    """A check of rows with prompt and completion, made of both rows of a pair."""

    def check_both(rows: Sequence[Mapping[str, Any]], places: Sequence[str], name: str) -> None:
        for column, where in {"prompt": "", "other_prompt": " (other_prompt)"}.items():
            check([answers(row, space, column) for row in rows], [f"{place}{where}" for place in places], name)

    return check_both


def rows_of_pairs(pairs: Dataset, space: ScoreSpace) -> Dataset:
    """Two rows for each pair: `prompt` and `completion` about the first response and about the second, `score` (any) and `preference`."""

    def both(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {name: [] for name in ("prompt", "completion", "score", "preference")}
        for *prompts, preference in zip(batch["prompt"], batch["other_prompt"], batch["preference"], strict=True):
            for prompt in prompts:
                made = answers({"prompt": prompt}, space)
                for name, value in {**made, "score": space.values[0], "preference": preference}.items():
                    found[name].append(value)
        return found

    return pairs.map(both, batched=True, remove_columns=pairs.column_names, desc="Building both rows of each pair")


class PairSampler(Sampler[int]):
    """
    The rows of pairs in the order in which another sampler draws their first rows.

    Args:
        sampler (`Iterable[int]`):
            Draws every row once.
    """

    def __init__(self, sampler: Any) -> None:
        self.sampler: Any = sampler

    def __iter__(self) -> Iterator[int]:
        for row in self.sampler:
            if row % 2 == 0:
                yield from (row, row + 1)

    def __len__(self) -> int:
        return len(self.sampler) if isinstance(self.sampler, Sized) else 0


def preference_loss(score_log_probs: Tensor, values: Tensor, preferences: Tensor, scored: Tensor) -> Tensor:
    """
    `−Σ [w log P(A ≻ B) + (1 − w) log P(B ≻ A)]` over the pairs of which both rows are `scored`, see
    [`~real_trl.objectives.preference_reward`].

    Args:
        score_log_probs (`torch.Tensor` of shape `(N, L)`):
            Of rows of which each two are a pair.
        preferences, scored (`torch.Tensor` of shape `(N,)`):
            `w`, the same in both rows, and whether a row has a score.
    """
    both = scored.view(-1, 2).all(1).repeat_interleave(2)
    if not both.any():
        return score_log_probs.new_zeros(())
    return -objectives.preference_reward(score_log_probs[both], values, preferences[both], 2).sum() / 2


def check_whole_pairs(rows: Dataset, pairs: int, name: str, max_length: int | None) -> None:
    """`ValueError` if rows of pairs were left out, since `max_length` tokens do not hold their completion."""
    if len(rows) != 2 * pairs:
        raise ValueError(
            f"{name} dataset: {2 * pairs - len(rows)} of the {2 * pairs} prompts of pairs leave no room for a score within max_length={max_length}. "
            "Raise it."
        )
