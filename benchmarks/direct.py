# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Direct scoring, which reads prompt and marker in one prefill, against the same judge with a rationale of some length, and against a
regression head on the same backbone.

    python -m benchmarks.direct                      # random weights of SmolLM2-135M's shape
    python -m benchmarks.direct --model DIR --dtype bfloat16

The prompts are those of `--questions` questions with `--answers` answers each. All ways score the same rows, in turns, in one process:
`direct` in the engine; `alone`, the same with prompts that share nothing; `rationale`, the engine's generation of exactly `--rationale`
tokens and the reading behind it; `head`, `AutoModelForSequenceClassification` with one output, in batches of rows of similar length;
`head, alone`, that of the prompts that share nothing. Prints rows a second and ratios; `--json` ends with one line of JSON.
"""

import argparse
from collections.abc import Callable, Sequence

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from trl.trainer.utils import pad

from benchmarks.common import Stopwatch, describe_machine, in_turns, medians
from benchmarks.workload import SHAPES, build_model, build_tokenizer, build_workload, check_arguments
from real_trl.engines import Decoding, TransformersEngine
from real_trl.score_space import ScoreSpace
from real_trl.text.json_text import to_json
from real_trl.weights.pretrained import load_tokenizer


def make_prompts(
    space: ScoreSpace, questions: int, answers: int, shared: int, own: int
) -> tuple[list[str], list[str]]:
    """Prompts of `shared` tokens that all answers to a question begin with and `own` tokens of each; and as many that share nothing."""
    begins = build_workload(space, shared, 16, 1, groups=questions).prompts
    ends = build_workload(space, own, 16, 1, groups=questions * answers).prompts
    alike = [f"{begins[row // answers]} {ends[row]}" for row in range(questions * answers)]
    return alike, build_workload(space, shared + own, 16, 1, groups=questions * answers + 1).prompts[1:]


def regression_head(backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A model with one output on a copy of the backbone's weights, as users train it with Transformers."""
    config = backbone.config.__class__.from_dict(backbone.config.to_dict())
    config.num_labels, config.pad_token_id = 1, tokenizer.pad_token_id or 0
    head = AutoModelForSequenceClassification.from_config(config).to(backbone.device, backbone.dtype).eval()
    head.base_model.load_state_dict(backbone.base_model.state_dict())
    return head


@torch.no_grad()
def score_with_head(
    head: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], batch_size: int
) -> None:
    """Scores of all prompts, in batches of similar length."""
    ids = sorted((torch.tensor(tokenizer(prompt)["input_ids"]) for prompt in prompts), key=len)
    for start in range(0, len(ids), batch_size):
        batch = ids[start : start + batch_size]
        mask = pad([torch.ones_like(row) for row in batch], 0, "right").to(head.device)
        head(input_ids=pad(batch, head.config.pad_token_id, "right").to(head.device), attention_mask=mask)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="directory of a causal LM; default: random weights")
    parser.add_argument("--shape", choices=SHAPES, help="of random weights (default: smollm2-135m)")
    parser.add_argument("--layers", type=int, help="of random weights")
    parser.add_argument("--questions", type=int, default=4)
    parser.add_argument("--answers", type=int, default=8, help="to each question")
    parser.add_argument("--shared", type=int, default=120, help="tokens that the prompts of a question begin with")
    parser.add_argument("--own", type=int, default=50, help="tokens of each answer")
    parser.add_argument("--rationale", type=int, default=100, help="tokens")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    args.data = None
    check_arguments(parser, args, "questions", "answers", "shared", "own", "rationale", "batch_size", "repeats")

    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    if args.model:
        tokenizer = load_tokenizer(args.model, None, False)
        model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype).to(device).eval()
    else:
        shape = args.shape or "smollm2-135m"
        tokenizer = build_tokenizer(SHAPES[shape][1]["vocab_size"])
        model = build_model(shape, tokenizer, dtype, device, args.layers)
    space = ScoreSpace.from_labels("1-5", tokenizer)
    alike, alone = make_prompts(space, args.questions, args.answers, args.shared, args.own)

    def engine(**options: object) -> TransformersEngine:
        return TransformersEngine(
            model, tokenizer, space, Decoding(do_sample=False, **options), batch_size=args.batch_size
        )

    direct, reasoning = engine(rationale=False), engine(max_new_tokens=args.rationale)
    reasoning.generation_config.min_new_tokens = args.rationale
    head = regression_head(model, tokenizer)
    ways: dict[str, Callable[[], object]] = {
        "direct": lambda: list(direct.judge(alike)),
        "direct, alone": lambda: list(direct.judge(alone)),
        "rationale": lambda: list(reasoning.judge(alike)),
        "head": lambda: score_with_head(head, tokenizer, alike, args.batch_size),
        "head, alone": lambda: score_with_head(head, tokenizer, alone, args.batch_size),
    }

    def timed(way: Callable[[], object]) -> float:
        stopwatch = Stopwatch(device)
        stopwatch.start()
        way()
        stopwatch.stop()
        return stopwatch.value

    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for name, taken in in_turns({n: lambda way=way: timed(way) for n, way in ways.items()}, args.repeats + 1):
        seconds[name].append(taken)
    median = medians({name: taken[1:] for name, taken in seconds.items()})  # the first warms up
    rows = {name: len(alike) / value for name, value in median.items()}
    for name, value in rows.items():
        print(f"{name}: {value:.1f} rows a second")
    report = {
        "rows_a_second": rows,
        "direct_to_rationale": rows["direct"] / rows["rationale"],
        "direct_to_head": rows["direct"] / rows["head"],
        "direct_to_head_alone": rows["direct, alone"] / rows["head, alone"],
        "seconds": seconds,
        "settings": vars(args),
        **describe_machine(device),
    }
    print(
        f"direct scoring is {report['direct_to_rationale']:.1f} times as fast as with a rationale of {args.rationale} tokens, and has "
        f"{report['direct_to_head']:.2f} of the regression head's throughput ({report['direct_to_head_alone']:.2f} where prompts share nothing)"
    )
    if args.json:
        print(to_json(report))


if __name__ == "__main__":
    main()
