# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
One pass against two: rationale and score distribution from one generation, or, as TRACT reads them, from a generation and
then a forward over prompt, rationale and marker.

    python -m benchmarks.evaluate --model outputs/smollm2-135m/raft --mt_bench path/to/mt_bench_eval.json

Both ways judge the same prompts greedily in the same batches, in turns, in one process. The tokens that the model reads
are counted by a hook and compared with what one pass has to read; both ways have to give the same scores. Prints the median
times and their ratio; `--json` ends with one line of JSON.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from trl.trainer.utils import pad

from benchmarks.common import Stopwatch, TokenCounter, describe_machine, in_turns, medians
from real_trl.data.benchmarks import load_benchmark
from real_trl.engines import Judgment, TransformersEngine
from real_trl.forward.logits import float32_logits
from real_trl.judge_source import find_judge
from real_trl.objectives import expected_score
from real_trl.text.json_text import to_json


def one_pass(engine: TransformersEngine, prompts: Sequence[str]) -> tuple[list[Judgment], list[float]]:
    """Judgments and expected scores, as the engine makes them."""
    judgments = [judgment for _, judgment in sorted(engine.judge(prompts), key=lambda pair: pair[0])]
    return judgments, [judgment.expected_score for judgment in judgments]


@torch.no_grad()
def two_passes(engine: TransformersEngine, prompts: Sequence[str]) -> tuple[list[Judgment], list[float]]:
    """The same completions, then a forward over prompt, rationale and marker, in the same batches."""
    prompt_ids = engine.encode(prompts)
    generating = TransformersEngine(
        engine.model, engine.tokenizer, engine.score_space, engine.decoding, batch_size=engine.batch_size
    )
    tree = engine.score_space.tree
    generating._read = lambda cache, ids, places: torch.full(  # its own reading is what is compared with
        (len(places), sum(tree.num_log_probs)), torch.nan, dtype=torch.float64
    )
    judged = dict(generating.judge(prompts))
    scores: dict[int, float] = {}
    space = engine.score_space
    labels = [path[0] for path in space.token_ids]
    for batch in engine.batches(prompt_ids):
        ids = []
        for row in batch:
            completion = engine.tokenizer(judged[row].completion, add_special_tokens=False)["input_ids"]
            location = space.locate(completion)
            marked = completion[: location.position] if location.ok else [*completion, *space.marker_ids]
            ids.append(torch.tensor(prompt_ids[row] + marked))
        device = engine.model.device
        mask = pad([torch.ones_like(row) for row in ids], 0, "left").to(device)
        with float32_logits(engine.model):
            logits = engine.model(
                input_ids=pad(ids, engine.pad_id, "left").to(device),
                attention_mask=mask,
                position_ids=(mask.cumsum(1) - 1).clamp(min=0),
                logits_to_keep=1,
            ).logits[:, -1]
        log_probs = logits.float().log_softmax(-1)[:, labels]
        expected = expected_score(log_probs, log_probs.new_tensor(space.values), engine.decoding.normalize_expectation)
        scores |= dict(zip(batch, expected.tolist(), strict=True))
    return [judged[row] for row in range(len(prompts))], [scores[row] for row in range(len(prompts))]


def tokens_of_one_pass(engine: TransformersEngine, prompts: Sequence[str], judgments: Sequence[Judgment]) -> int:
    """What one pass reads: prompts, all but the last token of each completion, and the marker where it was forced."""
    prompt_ids = engine.encode(prompts)
    total = sum(judgment.num_tokens - 1 for judgment in judgments)
    for batch in engine.batches(prompt_ids):
        total += sum(map(len, {tuple(prompt_ids[row]) for row in batch}))
        forced = [row for row in batch if judgments[row].status in ("missing", "truncated")]
        # The last token of a completion that was cut has not been read yet
        unread = any(judgments[row].num_tokens == engine.decoding.max_new_tokens for row in forced)
        total += len(forced) * (len(engine.score_space.marker_ids) + unread)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="directory of a judge, or of a causal LM")
    parser.add_argument("--mt_bench", required=True, help="path of mt_bench_eval.json")
    parser.add_argument("--rows", type=int, default=320, help="prompts, evenly spread over the benchmark")
    parser.add_argument("--max_new_tokens", type=int, default=128)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    try:
        source = find_judge(args.model)
    except ValueError:
        source = find_judge(args.model, preset="feedback_collection")
    dataset = load_benchmark("mt_bench", args.mt_bench, scale=source.space.scale, marker=source.space.marker)
    prompts = dataset["prompt"][:: max(1, len(dataset) // args.rows)][: args.rows]
    engine = source.load_engine(
        do_sample=False, max_new_tokens=args.max_new_tokens, batch_size=args.batch_size, dtype=args.dtype
    )
    device = torch.device(args.device)
    engine.model.to(device)
    seconds: dict[str, list[float]] = {"one pass": [], "two passes": []}
    tokens, results = {}, {}

    def timed(way: Callable[..., Any]) -> tuple[Any, int, float]:
        stopwatch = Stopwatch(device)
        with TokenCounter(engine.model) as counter:
            stopwatch.start()
            result = way(engine, prompts)
            stopwatch.stop()
        return result, counter.count, stopwatch.value

    ways = {"one pass": lambda: timed(one_pass), "two passes": lambda: timed(two_passes)}
    for name, (result, count, taken) in in_turns(ways, args.repeats):
        results[name], tokens[name] = result, count
        seconds[name].append(taken)
        print(f"{name}: {taken:.1f} s, {count} tokens read", flush=True)

    judgments, scores = results["one pass"]
    expected = tokens_of_one_pass(engine, prompts, judgments)
    if tokens["one pass"] != expected:
        raise SystemExit(f"one pass read {tokens['one pass']} tokens, not {expected}: a sequence was read twice")
    gap = max(abs(a - b) for a, b in zip(scores, results["two passes"][1], strict=True))
    median = medians(seconds)
    report = {
        "prompts": len(prompts),
        "prompt_tokens": sum(judgment.prompt_tokens for judgment in judgments),
        "generated_tokens": sum(judgment.num_tokens for judgment in judgments),
        "tokens_one_pass": tokens["one pass"],
        "tokens_two_passes": tokens["two passes"],
        "seconds_one_pass": median["one pass"],
        "seconds_two_passes": median["two passes"],
        "ratio": median["one pass"] / median["two passes"],
        "repeats": args.repeats,
        "largest_score_difference": gap,
        "settings": vars(args),
        **describe_machine(device),
    }
    print(
        f"{len(prompts)} prompts of {report['prompt_tokens'] / len(prompts):.0f} tokens: one pass / two passes = "
        f"{report['ratio']:.2f} in time, {tokens['one pass'] / tokens['two passes']:.2f} in tokens read; expected scores "
        f"differ by at most {gap:.1e}"
    )
    if args.json:
        print(to_json(report))


if __name__ == "__main__":
    main()
