# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
When shared prefixes pay: REALTrainer's update, dense and shared, against prompt length P, group size K, completion length C
and number of layers, each varied alone around a base point; and the memory of both against K.

    python -m benchmarks.scaling --output_dir outputs/scaling

Updates are timed in turns, as in `benchmarks.step`. Writes `scaling.json`, `scaling.png` (seconds and their ratio; where the
ratio crosses 1 a line marks it) and `scaling_memory.png`.
"""

import argparse
import copy
import math
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console

from benchmarks.common import describe_machine, medians, release
from benchmarks.step import measure_memory, measure_updates
from benchmarks.update import TimedTrainer, build_trainer
from benchmarks.workload import SHAPES, build_model, build_tokenizer, build_workload
from real_trl.score_space import ScoreSpace
from real_trl.text.json_text import to_json

WAYS = {"dense": "dense", "shared": "REAL"}
TITLES = {
    "prompt_tokens": "prompt tokens P",
    "num_generations": "completions of a prompt K",
    "completion_tokens": "longest completion C",
    "layers": "layers",
}
Point = dict[str, int]
AXES: dict[str, tuple[int, ...]] = {
    "prompt_tokens": (100, 300, 600, 1200, 2400),
    "num_generations": (2, 4, 8, 16, 32),
    "completion_tokens": (32, 64, 128, 256),
    "layers": (2, 4, 8, 16),
}
BASE: Point = {"prompt_tokens": 600, "num_generations": 8, "completion_tokens": 128, "layers": 2}
MEMORY = {"prompt_tokens": 1200, "num_generations": (16, 64)}
# Seconds instead of minutes, to see that all of it runs
QUICK_AXES: dict[str, tuple[int, ...]] = {
    "prompt_tokens": (16, 64),
    "num_generations": (2, 4),
    "completion_tokens": (16, 32),
    "layers": (1, 2),
}
QUICK_BASE: Point = {"prompt_tokens": 16, "num_generations": 2, "completion_tokens": 16, "layers": 1}
QUICK_MEMORY = {"prompt_tokens": 64, "num_generations": (2, 4)}


class Bench:
    """
    Builds both trainers for a point, and measures them.

    Args:
        shape (`str`):
            One of [`~benchmarks.workload.SHAPES`].
        dtype (`torch.dtype`), device (`torch.device`):
            Of the weights.
        gradient_checkpointing (`bool`):
            For both.
        repeats (`int`):
            Timed updates of each, after one that is not counted.
    """

    def __init__(
        self, shape: str, dtype: torch.dtype, device: torch.device, gradient_checkpointing: bool, repeats: int
    ) -> None:
        self.shape, self.dtype, self.device = shape, dtype, device
        self.gradient_checkpointing, self.repeats = gradient_checkpointing, repeats
        self._tokenizer = build_tokenizer(SHAPES[shape][1]["vocab_size"])
        self._space = ScoreSpace.from_labels("1-5", self._tokenizer)
        self._seconds: dict[tuple[int, ...], dict[str, Any]] = {}

    def seconds(self, point: Point) -> dict[str, Any]:
        """Point, medians, all single times, dense / shared, and bytes. A point that was measured before is not again."""
        key = tuple(point[name] for name in TITLES)
        if key not in self._seconds:
            with tempfile.TemporaryDirectory() as folder:
                trainers = self._trainers(point, folder)
                peaks = measure_memory(trainers, self.device)
                times = measure_updates(trainers, self.device, self.repeats)
            del trainers
            release(self.device)
            middle = medians(times)
            ratio = middle["dense"] / middle["shared"]
            measured = {"seconds": middle, "seconds_all": times, "ratio": ratio, "update_peak_bytes": peaks}
            self._seconds[key] = {**point, **measured}
        return self._seconds[key]

    def memory(self, point: Point) -> dict[str, Any]:
        """Point, and the bytes that an update of each takes."""
        with tempfile.TemporaryDirectory() as folder:
            peaks = measure_memory(self._trainers(point, folder), self.device)
        release(self.device)
        return {**point, "update_peak_bytes": peaks}

    def _trainers(self, point: Point, folder: str) -> dict[str, TimedTrainer]:
        sizes = {name: value for name, value in point.items() if name != "layers"}
        workload = build_workload(self._space, **sizes)
        model = build_model(self.shape, self._tokenizer, self.dtype, self.device, point["layers"])
        checkpointing = self.gradient_checkpointing
        return {
            name: build_trainer(way, copy.deepcopy(model), self._tokenizer, workload, folder, checkpointing)
            for name, way in WAYS.items()
        }


def crossover(values: Sequence[float], ratios: Sequence[float]) -> float | None:
    """
    The value at which dense / shared first crosses 1, between two measured ones by interpolation of logarithms; `None` if
    it does not.

    Args:
        values (`Sequence[float]`):
            Rising, above 0.
        ratios (`Sequence[float]`):
            Dense / shared at each.
    """
    logs = [(math.log(value), math.log(ratio)) for value, ratio in zip(values, ratios, strict=True)]
    for (left, low), (right, high) in pairwise(logs):
        if low == 0:
            return math.exp(left)
        if low * high < 0:
            return math.exp(left + (right - left) * low / (low - high))
    return math.exp(logs[-1][0]) if logs[-1][1] == 0 else None


def plot_seconds(report: dict[str, Any], path: Path) -> None:
    """A panel for each axis: seconds of both, and their ratio on the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    for axes, (name, points) in zip(figure.subplots(2, 2).flat, report["axes"].items(), strict=True):
        values = [point[name] for point in points]
        lines = [
            axes.plot(values, [point["seconds"][way] for point in points], style, color="tab:blue", label=way)[0]
            for way, style in zip(WAYS, ("o--", "o-"), strict=True)
        ]
        axes.set(xscale="log", xlabel=TITLES[name], ylabel="update, seconds")
        axes.set_ylim(bottom=0)
        axes.minorticks_off()
        axes.set_xticks(values, [str(value) for value in values])
        ratio = axes.twinx()
        ratios = [point["ratio"] for point in points]
        lines += ratio.plot(values, ratios, "s:", color="tab:red", label="dense / shared")
        ratio.axhline(1.0, color="tab:red", linewidth=0.5)
        ratio.set_ylabel("dense / shared", color="tab:red")
        ratio.set_ylim(0, 1.1 * max(1.0, *ratios))
        where = report["crossovers"][name]
        if where is not None:
            axes.axvline(where, color="gray", linestyle="--")
            axes.set_title(f"sharing breaks even at {where:.0f}", fontsize="medium")
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines))
    base = ", ".join(f"{TITLES[name]} {value}" for name, value in report["base"].items())
    figure.suptitle(f"Update of REALTrainer around {base}", fontsize="medium")
    figure.savefig(path, dpi=150)


def plot_memory(report: dict[str, Any], path: Path) -> None:
    """Memory of both against K."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes, points = figure.subplots(), report["memory"]
    values = [point["num_generations"] for point in points]
    for way, style in zip(WAYS, ("o--", "o-"), strict=True):
        axes.plot(values, [point["update_peak_bytes"][way] / 2**20 for point in points], style, label=way)
    axes.set(xlabel=TITLES["num_generations"], ylabel="memory of the update, MiB", xticks=values)
    axes.set_ylim(bottom=0)
    axes.legend()
    axes.set_title(f"{points[0]['prompt_tokens']} prompt tokens, {points[0]['layers']} layers", fontsize="medium")
    figure.savefig(path, dpi=150)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; `argv` defaults to the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/scaling"), help="where everything goes")
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m", help="of the random weights")
    for name, value in BASE.items():
        parser.add_argument(f"--{name}", type=int, help=f"of the base point (default: {value})")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the weights")
    parser.add_argument(
        "--gradient_checkpointing", action=argparse.BooleanOptionalAction, default=True, help="for both; default: on"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=3, help="timed updates at each point (default: 3)")
    parser.add_argument("--quick", action="store_true", help="small points, to see that it runs")
    args = parser.parse_args(argv)
    if args.repeats < 1:
        parser.error(f"--repeats {args.repeats}: must be at least 1")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch sees no GPU here")
    transformers.logging.set_verbosity_error()
    axes, base, memory = (QUICK_AXES, QUICK_BASE, QUICK_MEMORY) if args.quick else (AXES, BASE, MEMORY)
    base = {name: value if getattr(args, name) is None else getattr(args, name) for name, value in base.items()}

    device, console = torch.device(args.device), Console()
    bench = Bench(args.shape, getattr(torch, args.dtype), device, args.gradient_checkpointing, args.repeats)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[dict[str, Any]]] = {}
    for name, values in axes.items():
        results[name] = []
        for value in values:
            results[name].append(bench.seconds({**base, name: value}))
            seconds, ratio = results[name][-1]["seconds"], results[name][-1]["ratio"]
            console.print(
                f"{name} {value}: dense {seconds['dense']:.2f} s, shared {seconds['shared']:.2f} s, ratio {ratio:.2f}"
            )
    peaks = []
    for value in memory["num_generations"]:
        point = {**base, "prompt_tokens": memory["prompt_tokens"], "num_generations": value}
        peaks.append(bench.memory(point))
        sizes = {name: f"{size / 2**20:.0f} MiB" for name, size in peaks[-1]["update_peak_bytes"].items()}
        console.print(f"memory, num_generations {value}: dense {sizes['dense']}, shared {sizes['shared']}")
    report = {
        "base": base,
        "axes": results,
        "crossovers": {
            name: crossover(axes[name], [point["ratio"] for point in points]) for name, points in results.items()
        },
        "memory": peaks,
        "memory_growth": {
            name: peaks[-1]["update_peak_bytes"][name] / peaks[0]["update_peak_bytes"][name] for name in WAYS
        },
        "settings": {**vars(args), "output_dir": str(args.output_dir)},
        **describe_machine(device),
    }
    (args.output_dir / "scaling.json").write_text(to_json(report, indent=1) + "\n", encoding="utf-8")
    plot_seconds(report, args.output_dir / "scaling.png")
    plot_memory(report, args.output_dir / "scaling_memory.png")
    console.print(f"Figures: {args.output_dir / 'scaling.json'}")


if __name__ == "__main__":
    main()
