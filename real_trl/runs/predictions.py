# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A judge's predictions on a dataset, kept in a folder: complete ones are read, interrupted ones go on, others are refused."""

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
from accelerate import PartialState
from datasets import Dataset

from real_trl.engines import Engine, Judgment
from real_trl.engines.averaging import average_judgments
from real_trl.runs.batches import plan_batches
from real_trl.runs.fingerprints import data_fingerprint
from real_trl.runs.folder import GeneratedFolder
from real_trl.runs.resumable import Resumable

RESULT = "predictions.parquet"
# What a judgment has, of which the samples of an average are kept in no column, and no calibration, which may change, is in it
_NOT_KEPT = ("samples", "interval", "raw")
JUDGMENT_COLUMNS = tuple(field.name for field in fields(Judgment) if field.name not in _NOT_KEPT)
OWN_COLUMNS = frozenset({"row", "id", "group", "target", "prompt", "ratings", *JUDGMENT_COLUMNS})


@dataclass
class PredictionRun:
    """
    One judge on one dataset.

    Args:
        folder (`Path`):
            Where the predictions are kept.
        dataset ([`~datasets.Dataset`]):
            In the canonical schema, with `id` and `group`; other columns are passed through.
        made_with (`Mapping`):
            The judge and everything that it decodes with, as JSON, by section.
        num_samples (`int`):
            Completions for each prompt, which are averaged.
        batch_size (`int`):
            Completions that the engine is given at once.
        values (`Sequence[float]`):
            Values of the judge's labels.

    Raises:
        `ValueError`: if the folder holds predictions that were made with something else.
    """

    folder: Path
    dataset: Dataset
    made_with: Mapping[str, Mapping[str, Any]]
    num_samples: int
    batch_size: int
    seed: int
    values: Sequence[float]

    def __post_init__(self) -> None:
        # What is judged; labels, groups and other columns may change afterwards
        prompts = self.dataset.select_columns("prompt")
        data = {"rows": len(prompts), "fingerprint": f"sha256 {data_fingerprint(prompts)}"}
        sampling = {"num_samples": self.num_samples, "batch_size": self.batch_size, "seed": self.seed}
        self.output = GeneratedFolder(
            self.folder, {**self.made_with, "data": data, "sampling": sampling}, result=RESULT
        )
        self.complete = self.output.check()

    def read(self) -> pd.DataFrame:
        """
        The predictions of a complete run: a row a prompt, with the columns of `OWN_COLUMNS` and the dataset's own, as the
        dataset has them now.
        """
        stored = pd.read_parquet(self.folder / RESULT)
        stored = stored.assign(**{name: value for name, value in self._later_columns().items() if name not in stored})
        frame = pd.concat([self._columns_of_the_data(), stored[list(JUDGMENT_COLUMNS)]], axis=1)
        content = _parquet(frame)
        if content != (self.folder / RESULT).read_bytes():
            self.output.replace(RESULT, content)
        return frame

    def run(self, load_engine: Callable[[], Engine], state: PartialState, desc: str) -> None:
        """
        Judge what is still missing; with several processes, each takes a share of the batches.

        Args:
            load_engine (`Callable`):
                Gives the engine. Called only if something is missing.
            state ([`~accelerate.PartialState`]):
                This process among the others.
            desc (`str`):
                What the progress bar says.

        Raises:
            `ValueError`: if a prompt is too long for the model.
        """
        if self.complete:
            if state.is_main_process:
                self.output.discard_parts()
            return
        prompts = self.dataset["prompt"][:]
        work = Resumable(
            self.output,
            prompts,
            plan_batches(prompts, self.num_samples, self.batch_size, direct=self._is_direct),
            ask=lambda engine, units, seed: engine.judge([prompts[row] for row, _ in units], seed=seed),
            as_row=lambda unit, judgment: {"row": unit[0], "sample": unit[1], **_columns(judgment)},
            merge=self._merge,
            seed=self.seed,
            desc=desc,
        )
        work.run(load_engine, state)

    @property
    def _is_direct(self) -> bool:
        return self.made_with.get("judge", {}).get("rationale") is False

    def _merge(self, judged: Iterable[Mapping[str, Any]]) -> tuple[dict[str, bytes], dict[str, int]]:
        frame = self._frame(judged)
        return {RESULT: _parquet(frame)}, {"rows": len(frame)}

    def _frame(self, judged: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
        samples: dict[int, list[Judgment]] = {}
        for row in sorted(judged, key=lambda row: (row["row"], row["sample"])):
            known = self._later_columns() | {name: row[name] for name in JUDGMENT_COLUMNS if name in row}
            if known["probabilities"] is not None:  # in the order of the labels; JSON has null in place of NaN
                shares = [math.nan if p is None else p for p in known["probabilities"]]
                known["probabilities"] = dict(zip(map(str, self.values), shares, strict=True))
            samples.setdefault(row["row"], []).append(Judgment(**known))
        rows = [_columns(average_judgments(samples[row], self.values)) for row in range(len(self.dataset))]
        return pd.concat([self._columns_of_the_data(), pd.DataFrame(rows)], axis=1)

    def _later_columns(self) -> dict[str, Any]:
        """What predictions hold that were made before judgments had these fields."""
        later = {field.name: field.default for field in fields(Judgment) if field.name in JUDGMENT_COLUMNS}
        later = {name: value for name, value in later.items() if value is not MISSING}
        return later | {"normalized": bool(self.made_with.get("judge", {}).get("normalize_expectation"))}

    def _columns_of_the_data(self) -> pd.DataFrame:
        rows = []
        for index, source in enumerate(self.dataset):
            source = {name: value for name, value in source.items() if name != "feedback"}
            own = {"row": index, "id": source.pop("id"), "group": source.pop("group"), "target": source.pop("score")}
            rows.append({**own, **source})
        return pd.DataFrame(rows)


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


def _columns(judgment: Judgment) -> dict[str, Any]:
    """What is stored of a judgment; probabilities as a list in the order of the labels."""
    columns = {name: value for name, value in asdict(judgment).items() if name not in _NOT_KEPT}
    shares = judgment.probabilities
    return columns | {"probabilities": None if shares is None else list(shares.values())}
