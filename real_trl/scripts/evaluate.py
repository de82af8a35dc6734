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
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset
from rich.console import Console
from tqdm import tqdm
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase, set_seed
from trl import ModelConfig, get_quantization_config

from real_trl.data import DataArguments, load_judge_dataset
from real_trl.engines import Judgment, TransformersEngine
from real_trl.engines.transformers_engine import MALFORMED_HANDLING
from real_trl.judge_config import JUDGE_CONFIG_NAME, JudgeConfig, package_versions
from real_trl.metrics import evaluate_predictions
from real_trl.report import evaluation_table
from real_trl.score_space import DEFAULT_MARKER, ScoreSpace
from real_trl.scripts.common import load_tokenizer, uses_chat
from real_trl.scripts.recipe import RecipeParser, user_errors


@dataclass
class EvaluateArguments:
    """
    Arguments of an evaluation beside data and model.

    Args:
        output_dir (`str`):
            Where the predictions and metrics go.
        eval_splits (`list[str]`, *optional*):
            Splits to evaluate on. Defaults to `dataset_test_split`.
        score_labels, score_marker, chat (*optional*):
            Scale, marker and chat template. They default to the judge's own (`judge_config.json`), and must agree with
            it; a model that was not trained here needs `score_labels`.
        do_sample, temperature, top_p, max_new_tokens:
            Decoding of the rationale. The score distribution is read at `temperature`, never truncated by `top_p`.
        batch_size (`int`, *optional*, defaults to `8`):
            Prompts per generation batch and process.
        malformed (`str`, *optional*, defaults to `"force"`):
            Completions without a score: `"force"` appends the marker and reads the distribution there, `"drop"` leaves
            them out.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the sampling.
    """

    output_dir: str = field(metadata={"help": "Where predictions and metrics go."})
    eval_splits: list[str] | None = field(default=None, metadata={"help": "Splits. Default: dataset_test_split."})
    score_labels: str | None = field(default=None, metadata={"help": "Labels. Default: the judge's own."})
    score_marker: str | None = field(default=None, metadata={"help": "Marker. Default: the judge's own."})
    chat: bool | None = field(default=None, metadata={"help": "Use the chat template. Default: the judge's own."})
    do_sample: bool = field(default=True, metadata={"help": "Sample the rationale; false decodes greedily."})
    temperature: float | None = field(default=None, metadata={"help": "Default: the judge's own, else 1."})
    top_p: float = field(default=1.0, metadata={"help": "Nucleus of the sampled rationale."})
    max_new_tokens: int = field(default=1024, metadata={"help": "Longest completion."})
    batch_size: int = field(default=8, metadata={"help": "Prompts per generation batch and process."})
    malformed: str = field(default="force", metadata={"help": "Completions without a score: `force` or `drop`."})
    seed: int = field(default=0, metadata={"help": "Seed of the sampling."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code from the model's repository."})

    def __post_init__(self) -> None:
        if self.malformed not in MALFORMED_HANDLING:
            raise ValueError(f"malformed: got {self.malformed!r}. Set it to one of: {', '.join(MALFORMED_HANDLING)}.")
        if self.batch_size < 1 or self.max_new_tokens < 1:
            raise ValueError(
                f"batch_size={self.batch_size}, max_new_tokens={self.max_new_tokens}: both must be at least 1."
            )
        if self.temperature is not None and self.temperature <= 0:
            raise ValueError(
                f"temperature: got {self.temperature}. Set it above 0; for greedy decoding set do_sample to false."
            )


def resolve_judge_config(
    args: EvaluateArguments, model_name: str, revision: str | None, tokenizer: PreTrainedTokenizerBase
) -> tuple[JudgeConfig, ScoreSpace]:
    """
    The judge's own configuration and score space; the recipe may repeat it but not contradict it.

    Raises:
        ValueError: if the recipe states another scale or marker than the judge was trained with, or states no scale for
            a model without `judge_config.json`.
    """
    try:
        config = JudgeConfig.load(model_name, revision)
    except FileNotFoundError:
        if args.score_labels is None:
            raise ValueError(
                f"score_labels: not set, and {model_name!r} has no {JUDGE_CONFIG_NAME}. Set the scale, e.g. "
                "score_labels: 1-5."
            ) from None
        space = ScoreSpace.from_labels(args.score_labels, tokenizer, marker=args.score_marker or DEFAULT_MARKER)
        chat, temperature = uses_chat(args.chat, tokenizer), args.temperature or 1.0
        return JudgeConfig.from_space(space, chat=chat, temperature=temperature), space
    space = config.score_space(tokenizer)
    stated = ScoreSpace.from_labels(
        args.score_labels or space.labels,
        tokenizer,
        marker=args.score_marker or space.marker,
        values=None if args.score_labels else space.values,
    )
    for name, own, asked in (
        ("score_labels", space.labels, stated.labels),
        ("score_marker", space.marker, stated.marker),
    ):
        if own != asked:
            raise ValueError(
                f"{name}: got {asked!r}, but the judge {model_name!r} was trained with {own!r}. Remove it from the recipe."
            )
    if args.chat not in (None, config.chat):
        raise ValueError(
            f"chat: got {args.chat}, but the judge {model_name!r} was trained with {config.chat}. Remove it from the recipe."
        )
    if args.temperature is not None:
        config.temperature = args.temperature
    return config, space


def check_kept_columns(names: Sequence[str] | None) -> None:
    """Refuses `keep_columns` that would overwrite what the evaluation itself writes."""
    own = {"row", "target", "mass", *(f.name for f in fields(Judgment))}
    taken = sorted(own.intersection(names or ()))
    if taken:
        raise ValueError(
            f"keep_columns: {taken[0]!r} is a column that the predictions have of their own. Rename it in the data, or leave "
            "it out."
        )


def judge_dataset(engine: TransformersEngine, dataset: Dataset, seed: int, desc: str) -> pd.DataFrame:
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
            split: load_judge_dataset(data_args, split, low=space.low, high=space.high, marker=space.marker)
            for split in args.eval_splits or [data_args.dataset_test_split]
        }
        if config.prompt_template and data_args.prompt_template not in (None, config.prompt_template):
            print(
                f"warning: prompt_template: {data_args.prompt_template!r} is not the one the judge was trained with, "
                f"{config.prompt_template!r}"
            )
    state = PartialState(cpu=not torch.accelerator.is_available())
    model = AutoModelForCausalLM.from_pretrained(
        model_args.model_name_or_path,
        revision=model_args.model_revision,
        dtype=model_args.dtype,
        attn_implementation=model_args.attn_implementation,
        trust_remote_code=args.trust_remote_code,
        quantization_config=get_quantization_config(model_args),
    )
    if not model_args.load_in_4bit and not model_args.load_in_8bit:  # quantised weights are placed as they load
        model = model.to(state.device)
    engine = TransformersEngine(
        model,
        tokenizer,
        space,
        chat=config.chat,
        temperature=config.temperature,
        do_sample=args.do_sample,
        top_p=args.top_p,
        max_new_tokens=args.max_new_tokens,
        batch_size=args.batch_size,
        malformed=args.malformed,
    )
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
