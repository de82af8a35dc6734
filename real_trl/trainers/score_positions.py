# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Where the score of every tokenized row stands, and what `max_length` takes from the row: nothing is cut without being counted."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from accelerate.logging import get_logger
from datasets import Dataset, IterableDataset
from torch import Tensor

from real_trl import objectives
from real_trl.option_values import FieldError
from real_trl.score_space import MALFORMED_STATUSES, ScoreSpace

logger = get_logger(__name__)

NO_SCORE = -1
# What a cut takes from a row, and what that means; "" in the column `cut` is a row that was not cut
_LOSSES = {
    "score": "lost their score; they train the next-token loss only",
    "prompt": "lost the beginning of their prompt, which a judge reads",
    "end": "lost what follows their score",
    "row": "were left out, since no token of their completion was left",
}


class ScoreRows:
    """
    Finds scores in tokenized rows and cuts them to `max_length`, as TRL would do it without looking.

    Args:
        name (`str`):
            The dataset, as an error calls it: `"train"`.
        max_length (`int`, *optional*):
            Tokens that a row may have.
        truncation_mode (`str`):
            TRL's: `"keep_start"` cuts the end, `"keep_end"` the beginning.
        tokenizer:
            To show what a completion ends with.
    """

    def __init__(self, space: ScoreSpace, name: str, max_length: int | None, truncation_mode: str) -> None:
        if truncation_mode not in ("keep_start", "keep_end"):
            raise FieldError("truncation_mode", truncation_mode, "Set it to keep_start or keep_end.")
        self.space, self.name, self.max_length, self.truncation_mode = space, name, max_length, truncation_mode
        self.losses: Counter[str] = Counter()

    def prepare(self, dataset: Dataset | IterableDataset) -> Dataset | IterableDataset:
        """
        The rows of `dataset` (`input_ids` and `labels`, -100 in the prompt), cut, with `score_position` ([`NO_SCORE`] where it was cut
        off), `written_label` (the score's, in the order of the labels) and `cut`. Rows of which no label is left are left out.

        Raises:
            `ValueError`: if a completion holds no score, or if no row keeps its score; of a stream, when such a row is read.
        """
        if not isinstance(dataset, Dataset):
            return dataset.map(self._in_a_stream, with_indices=True).filter(lambda row: row["cut"] != "row")
        found = dataset.map(self._row, with_indices=True)
        counts = self._look_at_all(found, dataset)
        return found.filter(lambda row: row["cut"] != "row") if counts["row"] else found

    def _row(self, row: dict[str, Any], index: int) -> dict[str, Any]:
        ids, labels = row["input_ids"], row["labels"]
        start = next((i for i, label in enumerate(labels) if label != -100), None)
        if start is None:
            raise ValueError(
                f"{self.name} dataset: row {index} has no token to learn: its completion is empty, or all of it is masked. Correct or "
                "remove the row."
            )
        opened = self.space.opened_by(ids[:start])
        location = self.space.locate(ids[start:], opened=opened)
        if not location.ok:
            return {"score_position": NO_SCORE, "written_label": 0, "cut": location.status}
        first, stop, cut = 0, len(ids), ""
        if self.max_length is not None and len(ids) > self.max_length:
            if self.truncation_mode == "keep_start":
                stop = self.max_length
                whole = stop > start and self.space.locate(ids[start:stop], opened=opened) == location
            else:
                first = stop - self.max_length
                whole = start + location.position - len(self.space.marker_ids) >= first
            cut = "row" if stop <= start else "score" if not whole else "prompt" if first else "end"
        return {
            "input_ids": ids[first:stop],
            "labels": labels[first:stop],
            "score_position": NO_SCORE if cut in ("row", "score") else start + location.position - first,
            "written_label": 0 if cut in ("row", "score") else location.label_index,
            "cut": cut,
        }

    def _in_a_stream(self, row: dict[str, Any], index: int) -> dict[str, Any]:
        if index == 0:  # once more from the beginning
            self.losses.clear()
        found = self._row(row, index)
        if found["cut"] in MALFORMED_STATUSES:
            raise ValueError(self._unscored(row, found["cut"], f"row {index} of the stream"))
        if found["cut"]:
            self.losses[found["cut"]] += 1
            count = self.losses[found["cut"]]
            if str(count).strip("0") == "1":  # 1, 10, 100, …
                logger.warning(
                    f"{count} of {index + 1} rows of the {self.name} stream so far, the last of them row {index}, "
                    f"{_LOSSES[found['cut']]} (max_length={self.max_length})."
                )
        return found

    def _look_at_all(self, dataset: Dataset, before: Dataset) -> Counter:
        cuts = dataset["cut"][:]
        counts = Counter(cuts)
        if bad := [row for row, cut in enumerate(cuts) if cut in MALFORMED_STATUSES]:
            where = f"{len(bad)} of {len(cuts)} completions, e.g. row {bad[0]}"
            raise ValueError(self._unscored(before[bad[0]], cuts[bad[0]], where))
        if cuts and counts["score"] + counts["row"] == len(cuts):
            raise ValueError(
                f"{self.name} dataset: none of the {len(cuts)} rows has its score within max_length={self.max_length}. Raise it."
            )
        for cut, meaning in _LOSSES.items():
            if counts[cut]:
                logger.warning(
                    f"{counts[cut]} of {len(cuts)} rows of the {self.name} dataset, the first of them row {cuts.index(cut)}, {meaning}. "
                    f"Raise max_length={self.max_length} to use them whole."
                )
        return counts

    def _unscored(self, row: dict[str, Any], status: str, where: str) -> str:
        tail = self.space.tokenizer.decode(row["input_ids"][-40:])
        unclosed = " Its thinking does not end, and only what follows it can hold the score: close it."
        return (
            f"{self.name} dataset: no score after the marker {self.space.marker!r} in {where}, which ends {tail!r}."
            f"{unclosed if status == 'unclosed' else ''} Set `score_marker` to the text that precedes the score in the completions, or "
            "build them with `real_trl.data.loading.build_completion`."
        )


class ScoreCollator:
    """
    TRL's collator, with `score_positions`, `written_labels` and `targets` (and of pairs `preferences`) `(N,)` and `label_weights` `(N, L)` beside
    `input_ids`, `labels` and `attention_mask` `(N, T)`.
    """

    def __init__(self, collator: Any, values: Sequence[float]) -> None:
        self.collator, self.values = collator, torch.tensor(values, dtype=torch.float32)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch = self.collator(examples)
        batch["score_positions"] = torch.tensor([example["score_position"] for example in examples])
        batch["written_labels"] = torch.tensor([example["written_label"] for example in examples])
        batch["targets"] = torch.tensor([example["score"] for example in examples], dtype=torch.float32)
        histograms = [example.get("score_histogram") for example in examples]
        batch["label_weights"] = objectives.label_weights(batch["targets"], self.values, histograms)
        if "preference" in examples[0]:
            batch["preferences"] = torch.tensor([example["preference"] for example in examples], dtype=torch.float32)
        return batch
