# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
A step of REALTrainer against one of TRL's RLOOTrainer: generation, update, memory, and how far from the limit.

    python -m benchmarks.step --workload judge
    python -m benchmarks.step --workload short --baseline dense --layers 8 --dtype bfloat16

Both train copies of one model in one process and in turns, on the same prompts and completions, with the same optimizer. An
update is everything between generated text and new weights; it is timed on given completions, and generation on its own,
with completions as long as those. TRL's reward costs nothing. Without Triton, as on a CPU, TRL's LM head reads every position and not
only those of completions; `--baseline trl_labelled` spares it that. Prints medians, and ratios as TRL / REAL (for memory
REAL / TRL); `--json` ends with one line of JSON.

The limit is that of `benchmarks.limit`: operations of the unique tokens over the measured rate of matrix products. Without a
`--model`, weights are random and prompts are random words.
"""

import argparse
import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from benchmarks.common import PeakMemory, Stopwatch, describe_machine, in_turns, medians, release
from benchmarks.limit import count_operations, head_rows, measure_matmul_rate, unique_tokens
from benchmarks.update import TimedTrainer, build_trainer
from benchmarks.workload import SHAPES, Workload, build_model, build_tokenizer, build_workload, check_arguments
from real_trl.data.benchmarks import load_benchmark
from real_trl.score_space import ScoreSpace
from real_trl.text.json_text import to_json

WORKLOADS = {
    "judge": {"prompt_tokens": 1200, "completion_tokens": 128, "num_generations": 16},
    "short": {"prompt_tokens": 100, "completion_tokens": 128, "num_generations": 4},
}
BASELINES = {"trl": "TRL", "trl_labelled": "TRL, labelled rows", "dense": "dense"}
OURS = "REAL"
_WARM_UP_TOKENS = 2


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; `argv` defaults to the command line."""
    args = parse_arguments(argv)
    transformers.logging.set_verbosity_error()
    console = Console()
    model, workload, tokenizer = load(args)
    with tempfile.TemporaryDirectory() as folder:
        report = run(model, workload, tokenizer, args, folder, console)
    console.print(results_table(report))
    if args.json:
        print(to_json(report))


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with the workload's numbers filled in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=WORKLOADS, default="judge", help="default: judge")
    parser.add_argument("--prompt_tokens", type=int, help="mean length of the prompts, instead of the workload's")
    parser.add_argument("--completion_tokens", type=int, help="longest completion; the others have half of it or more")
    parser.add_argument("--num_generations", type=int, help="K, completions of each prompt")
    parser.add_argument("--groups", type=int, default=1, help="prompts in a step, all in one micro-batch (default: 1)")
    parser.add_argument("--data", type=Path, help="mt_bench_eval.json, whose prompts are used; needs --model")
    parser.add_argument("--model", help="directory of a causal LM; default: random weights")
    parser.add_argument("--shape", choices=SHAPES, help="of the random weights (default: smollm2-135m)")
    parser.add_argument("--layers", type=int, help="of the random weights, instead of the shape's")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the weights")
    parser.add_argument(
        "--gradient_checkpointing", action=argparse.BooleanOptionalAction, default=True, help="for both; default: on"
    )
    parser.add_argument(
        "--baseline",
        choices=BASELINES,
        default="trl",
        help="trl_labelled: its LM head on labelled rows only, as on a GPU; dense: REAL without shared prefixes",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each, after a warm-up (default: 3)")
    parser.add_argument("--json", action="store_true", help="end with a line of JSON")
    args = parser.parse_args(argv)
    for name, value in WORKLOADS[args.workload].items():
        setattr(args, name, value if getattr(args, name) is None else getattr(args, name))
    check_arguments(parser, args, "prompt_tokens", "groups", "repeats")
    if args.num_generations < 2:
        parser.error(f"--num_generations {args.num_generations}: must be at least 2")
    args.shape = None if args.model else args.shape or "smollm2-135m"
    return args


def load(args: argparse.Namespace) -> tuple[PreTrainedModel, Workload, Any]:
    """Model, workload and tokenizer."""
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    if args.model:
        tokenizer = AutoTokenizer.from_pretrained(args.model, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype).to(device)
    else:
        tokenizer = build_tokenizer(SHAPES[args.shape][1]["vocab_size"])
        model = build_model(args.shape, tokenizer, dtype, device, args.layers)
    space = ScoreSpace.from_labels("1-5", tokenizer)
    texts = args.data and load_benchmark("mt_bench", args.data, scale=space.scale, marker=space.marker)["prompt"]
    sizes = (args.prompt_tokens, args.completion_tokens, args.num_generations, args.groups)
    return model, build_workload(space, *sizes, texts=texts or None), tokenizer


def run(
    model: PreTrainedModel, workload: Workload, tokenizer: Any, args: argparse.Namespace, folder: str, console: Console
) -> dict[str, Any]:
    """Measure, and return what is reported."""
    device = torch.device(args.device)
    lengths = workload.prompt_lengths, workload.read_lengths
    operations = count_operations(model, *lengths, recompute=args.gradient_checkpointing)
    tokens = unique_tokens(*lengths)
    rate = measure_matmul_rate(model, tokens, head_rows(lengths[1]), device)
    console.print(
        f"{tokens} unique tokens of {workload.sequence_tokens}; {operations.total / 1e12:.3g} TFLOP; matrix products at "
        f"{rate.workload / 1e9:.0f} GFLOP/s in the model's shapes, {rate.square / 1e9:.0f} squared"
    )

    baseline = BASELINES[args.baseline]
    trainers = {
        name: build_trainer(name, copy.deepcopy(model), tokenizer, workload, folder, args.gradient_checkpointing)
        for name in (baseline, OURS)
    }
    del model
    release(device)
    if not trainers[OURS].shares_prefixes:
        console.print("[yellow]REALTrainer does not share prefixes with this model; see the log for the reason")
    peaks = measure_memory(trainers, device)
    console.print(
        f"memory of an update: {', '.join(f'{name} {size / 2**20:.0f} MiB' for name, size in peaks.items())}"
    )
    updates = measure_updates(trainers, device, args.repeats, console)
    # Again: a moment in which the machine was slow would make the limit look near
    rates = rate, measure_matmul_rate(trainers[OURS].trainer.model, tokens, head_rows(lengths[1]), device)
    rate = max(rates, key=lambda rate: rate.best)
    generations = measure_generations(trainers, workload, args.repeats, console)

    update, generation = medians(updates), medians(generations)
    step = {name: update[name] + generation[name] for name in trainers}
    limit = operations.total / rate.best
    return {
        "update_ratio": update[baseline] / update[OURS],
        "generation_ratio": generation[baseline] / generation[OURS],
        "step_ratio": step[baseline] / step[OURS],
        "memory_ratio": peaks[OURS] / peaks[baseline],
        "limit_share": limit / update[OURS],
        "limit_share_without_recomputation": operations.needed / rate.best / update[OURS],
        "limit_share_of_shapes": operations.total / rate.workload / update[OURS],
        "limit_seconds": limit,
        "baseline": baseline,
        "shared_prefix": trainers[OURS].shares_prefixes,
        "update_seconds": update,
        "generation_seconds": generation,
        "step_seconds": step,
        "update_seconds_all": updates,
        "generation_seconds_all": generations,
        "completion_tokens_per_second": {name: workload.completion_tokens / step[name] for name in trainers},
        "sequence_tokens_per_second": {name: workload.sequence_tokens / step[name] for name in trainers},
        "update_peak_bytes": peaks,
        "operations": {
            "linear": operations.linear,
            "attention": operations.attention,
            "head": operations.head,
            "recomputation": operations.recomputation,
        },
        "matmul_rate": {"workload": rate.workload, "square": rate.square},
        "prompt_lengths": lengths[0],
        "completion_lengths": workload.completion_lengths,
        "unique_tokens": tokens,
        "sequence_tokens": workload.sequence_tokens,
        "settings": {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()},
        **describe_machine(device),
    }


def measure_memory(trainers: dict[str, TimedTrainer], device: torch.device) -> dict[str, float]:
    """
    Bytes that an update of each trainer takes beyond weights and optimizer state. It warms up too: call it first.

    Raises:
        RuntimeError: if the trainers did not read the same tokens.
    """
    peaks = {}
    for name, trainer in trainers.items():
        trainer.make_optimizer_state()
        peaks[name] = trainer.update(PeakMemory(device))
    if any(sorted(trainer.seen) != sorted(next(iter(trainers.values())).seen) for trainer in trainers.values()):
        raise RuntimeError("the trainers were not given the same prompts and completions")
    return peaks


def measure_updates(
    trainers: dict[str, TimedTrainer], device: torch.device, repeats: int, console: Console | None = None
) -> dict[str, list[float]]:
    """Seconds of every update of each trainer, in turns."""
    seconds_of: dict[str, list[float]] = {name: [] for name in trainers}
    ways = {name: lambda trainer=trainer: trainer.update(Stopwatch(device)) for name, trainer in trainers.items()}
    for name, seconds in in_turns(ways, repeats):
        seconds_of[name].append(seconds)
        if console:
            console.print(f"update, {name}: {seconds:.2f} s")
    return seconds_of


def measure_generations(
    trainers: dict[str, TimedTrainer], workload: Workload, repeats: int, console: Console
) -> dict[str, list[float]]:
    """Seconds of every generation of each trainer, after one of a few tokens that is not counted."""
    seconds_of: dict[str, list[float]] = {name: [] for name in trainers}
    for trainer in trainers.values():
        trainer.generate([[_WARM_UP_TOKENS] * len(group) for group in workload.completion_lengths])
    ways = {
        name: lambda trainer=trainer: trainer.generate(workload.completion_lengths)
        for name, trainer in trainers.items()
    }
    for name, seconds in in_turns(ways, repeats):
        seconds_of[name].append(seconds)
        console.print(f"generation, {name}: {seconds:.2f} s")
    return seconds_of


def results_table(report: dict[str, Any]) -> Table:
    """What [`run`] returned, for the terminal."""
    baseline = report["baseline"]
    table = Table(title=f"A step of {OURS} and of {baseline}: medians of {report['settings']['repeats']}")
    for column in ("", baseline, OURS, "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    for title, key, ratio in (
        ("generation, s", "generation_seconds", report["generation_ratio"]),
        ("update, s", "update_seconds", report["update_ratio"]),
        ("whole step, s", "step_seconds", report["step_ratio"]),
        ("completion tokens/s", "completion_tokens_per_second", report["step_ratio"]),
        ("tokens/s, each completion with a prompt", "sequence_tokens_per_second", report["step_ratio"]),
    ):
        values = report[key]
        table.add_row(title, f"{values[baseline]:.4g}", f"{values[OURS]:.4g}", f"{ratio:.2f} x")
    peaks = {name: f"{size / 2**20:.0f}" for name, size in report["update_peak_bytes"].items()}
    table.add_row("memory of the update, MiB", peaks[baseline], peaks[OURS], f"{report['memory_ratio']:.2f}")
    needed = report["limit_share_without_recomputation"] * report["update_seconds"][OURS]
    for title, seconds in (
        ("limit / update", report["limit_seconds"]),
        ("limit / update, nothing recomputed", needed),
    ):
        shares = [f"{seconds / report['update_seconds'][name]:.0%}" for name in (baseline, OURS)]
        table.add_row(title, *shares, f"{seconds:.3g} s")
    return table


if __name__ == "__main__":
    main()
