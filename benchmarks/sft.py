# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Supervised training: a step of RAFTTrainer, whose batches have no padding, against one of TRL's SFTTrainer.

    python -m benchmarks.sft --layers 8
    python -m benchmarks.sft --model path/to/model --data path/to/mt_bench_eval.json --rows 32

Both train copies of one model in one process and in turns, on the same rows in the same batches, each by its own `train()`; a
step is timed from `on_step_begin` to `on_step_end`, after a first one that is not counted. TRL's trainer has its defaults, ours
adds the regression loss. Without Triton, as on a CPU, TRL's LM head reads every position and not only those of completions;
`--baseline trl_labelled` spares it that. Prints the median times of a pass over the rows and their ratio, TRL / RAFT; `--json` ends with one
line of JSON. Without a `--model`, weights are random and rows are random words: prompts of 600 to 1,800 tokens, completions of
64 to 128.
"""

import argparse
import copy
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import transformers
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
)
from trl import SFTConfig, SFTTrainer

from benchmarks.common import Stopwatch, TokenCounter, describe_machine, in_turns, medians, release
from benchmarks.workload import (
    SHAPES,
    build_model,
    build_tokenizer,
    check_arguments,
    in_own_dtype,
    read_labelled_rows_only,
)
from real_trl import RAFTConfig, RAFTTrainer
from real_trl.data.benchmarks import BENCHMARKS
from real_trl.data.loading import load_judge_dataset
from real_trl.score_space import ScoreSpace
from real_trl.scripts.sft import training_rows
from real_trl.text.json_text import to_json

BASELINES = {"trl": "TRL", "trl_labelled": "TRL, labelled rows"}
OURS = "RAFT"
_PROMPT_TOKENS = (600, 1800)
_COMPLETION_TOKENS = (64, 128)


class TimedTrainer(TrainerCallback):
    """
    A trainer whose passes over the rows are timed.

    Args:
        way (`str`):
            One of [`BASELINES`]' values, stock [`~trl.SFTTrainer`] or the same with its LM head on labelled rows only, or `"RAFT"`.
        model ([`~transformers.PreTrainedModel`]):
            Trained in its own dtype. The trainer keeps it.
        tokenizer, rows, batch_size, output_dir:
            As they say; `rows` have the columns `prompt`, `completion` and `score`.

    Attributes:
        seen (`list[list[tuple[list[int], list[int]]]]`):
            Batches of the last pass, each with the tokens and labels of its rows.
        positions (`int`):
            Positions that the model read in the last pass, padding included.
    """

    def __init__(
        self,
        way: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        rows: Dataset,
        batch_size: int,
        output_dir: str,
    ) -> None:
        trainer_class, config_class = (RAFTTrainer, RAFTConfig) if way == OURS else (SFTTrainer, SFTConfig)
        args = config_class(
            output_dir,
            per_device_train_batch_size=batch_size,
            max_length=None,
            bf16=False,  # no autocast: the weights have the dtype that is timed
            num_train_epochs=1,
            learning_rate=1e-6,
            use_cpu=model.device.type == "cpu",
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        self.trainer = in_own_dtype(
            model, lambda: trainer_class(model, args, train_dataset=rows, processing_class=tokenizer)
        )
        if way == BASELINES["trl_labelled"]:
            read_labelled_rows_only(self.trainer.model)
        self.trainer.remove_callback(PrinterCallback)
        self.trainer.add_callback(self)
        self._collate, self.trainer.data_collator = self.trainer.data_collator, self._seen
        self._stopwatch = Stopwatch(self.trainer.accelerator.device)

    def train(self, max_steps: int = -1) -> float:
        """Seconds of all steps of one pass over the rows, or of the first `max_steps`."""
        self.seen: list[list[tuple[list[int], list[int]]]] = []
        self._seconds = 0.0
        self.trainer.args.max_steps = max_steps
        with TokenCounter(self.trainer.model) as counter:
            self.trainer.train()  # may be called again and again: the optimizer's state is kept
        self.positions = counter.count
        return self._seconds

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._stopwatch.start()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self._stopwatch.stop()
        self._seconds += self._stopwatch.value

    def _seen(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        self.seen.append([(example["input_ids"], example["labels"]) for example in examples])
        return self._collate(examples)


def random_rows(space: ScoreSpace, count: int) -> Dataset:
    """Rows of random words: `prompt`, `feedback` and `score`. A tokenizer that splits words makes them longer."""
    tokenizer, generator = space.tokenizer, torch.Generator().manual_seed(0)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    special = set(tokenizer.all_special_ids)
    order = torch.randperm(len(tokenizer), generator=generator)[:8192].tolist()
    texts = (tokenizer.decode([token]).strip() for token in order if token not in special)
    words = [text for text in texts if text.isascii() and text.isalnum() and not text.isdigit()]

    def text(length: int) -> str:
        return " ".join(words[draw(0, len(words) - 1)] for _ in range(length))

    ending = len(space.marker_ids) + 2  # with the score and EOS
    return Dataset.from_list(
        [
            {
                "prompt": text(draw(*_PROMPT_TOKENS)),
                "feedback": text(draw(*_COMPLETION_TOKENS) - ending),
                "score": score,
            }
            for score in (space.values[draw(0, len(space.values) - 1)] for _ in range(count))
        ]
    )


def load(args: argparse.Namespace) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Dataset]:
    """Model, tokenizer and rows."""
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    if args.model:
        tokenizer = AutoTokenizer.from_pretrained(args.model)
        model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype).to(device)
    else:
        tokenizer = build_tokenizer(SHAPES[args.shape][1]["vocab_size"])
        model = build_model(args.shape, tokenizer, dtype, device, args.layers)
    space = ScoreSpace.from_labels("1-5", tokenizer)
    if args.data:
        columns = BENCHMARKS["mt_bench"].data_arguments(args.data, space.marker)
        columns = replace(columns, raters="separate", feedback_column="gpt4_feedback")
        rows = load_judge_dataset(columns, scale=space.scale, marker=space.marker, require_feedback=True)
        rows = rows.select(range(0, len(rows), max(1, len(rows) // args.rows))[: args.rows])
    else:
        rows = random_rows(space, args.rows)
    return model, tokenizer, training_rows(rows, space, chat=False)


def run(args: argparse.Namespace, folder: str) -> dict[str, Any]:
    """
    Measure, and return what is reported.

    Raises:
        RuntimeError: if the trainers did not see the same tokens.
    """
    model, tokenizer, rows = load(args)
    device = model.device
    baseline = BASELINES[args.baseline]
    trainers = {
        way: TimedTrainer(way, copy.deepcopy(model), tokenizer, rows, args.batch_size, folder)
        for way in (baseline, OURS)
    }
    del model
    release(device)
    for name, trainer in trainers.items():
        print(f"{name}, first step: {trainer.train(max_steps=1):.2f} s", flush=True)
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    for name, value in in_turns({name: trainer.train for name, trainer in trainers.items()}, args.repeats):
        seconds[name].append(value)
        print(f"{name}: {value:.2f} s, {trainers[name].positions} positions", flush=True)

    batches = trainers[baseline].seen
    if trainers[OURS].seen != batches:
        raise RuntimeError("the trainers did not see the same tokens in the same batches")
    lengths = [len(ids) for batch in batches for ids, _ in batch]
    update = medians(seconds)
    return {
        "baseline": baseline,
        "update_ratio": update[baseline] / update[OURS],
        "update_seconds": update,
        "update_seconds_all": seconds,
        "tokens_per_second": {name: sum(lengths) / value for name, value in update.items()},
        "rows": len(lengths),
        "steps": len(batches),
        "tokens": sum(lengths),
        "completion_tokens": sum(label != -100 for batch in batches for _, labels in batch for label in labels),
        "shortest": min(lengths),
        "longest": max(lengths),
        "positions": {name: trainer.positions for name, trainer in trainers.items()},
        "settings": vars(args),
        **describe_machine(device),
    }


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="directory of a causal LM; default: random weights")
    parser.add_argument("--shape", choices=SHAPES, help="of the random weights (default: smollm2-135m)")
    parser.add_argument("--layers", type=int, help="of the random weights (default: 8)")
    parser.add_argument("--data", help="mt_bench_eval.json, whose rows are used; needs --model")
    parser.add_argument("--rows", type=int, default=8, help="rows of a timed pass (default: 8)")
    parser.add_argument("--batch_size", type=int, default=4, help="rows of a step (default: 4)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the weights")
    parser.add_argument(
        "--baseline",
        choices=BASELINES,
        default="trl",
        help="trl_labelled: its LM head on labelled rows only, as on a GPU (default: trl)",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=3, help="timed passes of each (default: 3)")
    parser.add_argument("--json", action="store_true", help="end with a line of JSON")
    args = parser.parse_args(argv)
    check_arguments(parser, args, "rows", "batch_size", "repeats")
    if not args.model:
        args.shape, args.layers = args.shape or "smollm2-135m", args.layers or 8
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; `argv` defaults to the command line."""
    args = parse_arguments(argv)
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        report = run(args, folder)
    update, rate, positions = report["update_seconds"], report["tokens_per_second"], report["positions"]
    baseline = report["baseline"]
    print(
        f"{report['rows']} rows of {report['shortest']} to {report['longest']} tokens in {report['steps']} steps: {baseline} "
        f"{update[baseline]:.2f} s ({rate[baseline]:.0f} tokens/s, {positions[baseline]} positions for {report['tokens']} tokens), {OURS} "
        f"{update[OURS]:.2f} s ({rate[OURS]:.0f} tokens/s, {positions[OURS]} positions); {baseline} / {OURS} = "
        f"{report['update_ratio']:.2f}"
    )
    if args.json:
        print(to_json(report))


if __name__ == "__main__":
    main()
