# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Evaluate a judge: generate, read the score distribution, report standard decoding and RAIL (Alg. 1).

    accelerate launch -m real_trl.scripts.evaluate --config recipes/quickstart/evaluate.yaml

Writes to `output_dir`: `<split>.parquet` (a row per prompt: rationale, sampled score, expected score, distribution),
and `metrics.json`. With several processes, each judges its share of the prompts.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset
from rich.console import Console
from tqdm import tqdm
from transformers import set_seed
from trl import ModelConfig

from real_trl.data import DataArguments, load_judge_dataset
from real_trl.engines import MALFORMED_HANDLING, Engine, Judgment
from real_trl.judge_config import package_versions
from real_trl.metrics import evaluate_predictions
from real_trl.report import evaluation_table
from real_trl.scripts.common import load_tokenizer
from real_trl.scripts.judging import (
    JudgingArguments,
    distributed_state,
    load_engine,
    resolve_judge_config,
    warn_of_other_template,
)
from real_trl.scripts.recipe import RecipeParser, user_errors


@dataclass
class EvaluateArguments(JudgingArguments):
    """
    Arguments of an evaluation beside data and model: those of [`JudgingArguments`], and

    Args:
        eval_splits (`list[str]`, *optional*):
            Splits to evaluate on. Defaults to `dataset_test_split`.
        malformed (`str`, *optional*, defaults to `"force"`):
            Completions without a score: `"force"` appends the marker and reads the distribution there, `"drop"` leaves
            them out.
    """

    eval_splits: list[str] | None = field(default=None, metadata={"help": "Splits. Default: dataset_test_split."})
    malformed: str = field(default="force", metadata={"help": "Completions without a score: `force` or `drop`."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.malformed not in MALFORMED_HANDLING:
            raise ValueError(f"malformed: got {self.malformed!r}. Set it to one of: {', '.join(MALFORMED_HANDLING)}.")


def check_kept_columns(names: Sequence[str] | None) -> None:
    """Refuses `keep_columns` that would overwrite what the evaluation itself writes."""
    own = {"row", "target", "mass", *(f.name for f in fields(Judgment))}
    taken = sorted(own.intersection(names or ()))
    if taken:
        raise ValueError(
            f"keep_columns: {taken[0]!r} is a column that the predictions have of their own. Rename it in the data, or leave "
            "it out."
        )


def judge_dataset(engine: Engine, dataset: Dataset, seed: int, desc: str) -> pd.DataFrame:
    """Judge every row; with several processes, each takes a share, and all get the whole. Columns: see `evaluate_predictions`."""
    state = PartialState()
    set_seed(seed + state.process_index)
    rows: list[dict[str, Any]] = []
    with state.split_between_processes(list(range(len(dataset)))) as share:
        part = dataset.select(share)
        judgments = engine.judge(part["prompt"])
        for index, judgment in tqdm(judgments, total=len(part), desc=desc, disable=not state.is_main_process):
            columns = part[index]
            columns.pop("feedback", None)
            rows.append(
                {
                    "row": share[index],
                    "target": columns.pop("score"),
                    **asdict(judgment),
                    "mass": judgment.mass,
                    **columns,
                }
            )
    rows = gather_object(rows)
    return pd.DataFrame(rows).sort_values("row", ignore_index=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stage; `argv` defaults to the command line."""
    with user_errors():
        parser = RecipeParser((EvaluateArguments, DataArguments, ModelConfig))
        args, data_args, model_args = parser.parse_args_and_config(argv)
        check_kept_columns(data_args.keep_columns)
        tokenizer = load_tokenizer(model_args, args.trust_remote_code)
        config, space = resolve_judge_config(args, model_args.model_name_or_path, model_args.model_revision, tokenizer)
        datasets = {
            split: load_judge_dataset(data_args, split, scale=space.scale, marker=space.marker)
            for split in args.eval_splits or [data_args.dataset_test_split]
        }
        warn_of_other_template(config, data_args.prompt_template)
    state = distributed_state()
    engine = load_engine(args, model_args, tokenizer, config, space, malformed=args.malformed)
    output = Path(args.output_dir)
    results = {}
    for split, dataset in datasets.items():
        predictions = judge_dataset(engine, dataset, args.seed, f"Judging {split}")
        results[split] = evaluate_predictions(predictions, malformed=args.malformed)
        if state.is_main_process:
            output.mkdir(parents=True, exist_ok=True)
            predictions.to_parquet(output / f"{split}.parquet")
    if state.is_main_process:
        report = {
            "model": model_args.model_name_or_path,
            "results": results,
            "arguments": asdict(args),
            "data": asdict(data_args),
            "judge": {k: v for k, v in asdict(config).items() if k not in ("training", "versions")},
            "versions": package_versions(),
        }
        (output / "metrics.json").write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")
        Console().print(evaluation_table(results))
        print(f"Predictions and metrics saved to {args.output_dir}")


if __name__ == "__main__":
    main()
