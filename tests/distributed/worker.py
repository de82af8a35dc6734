# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Training stages one after the other in the same processes, since most of a short launch is its start:

    accelerate launch --config_file recipes/accelerate_configs/zero3_cpu.yaml -m tests.distributed.worker sft a.yaml rl b.yaml

The stages are the library's own. `rl` trains on completions that are a function of the prompt, so that what it learns
from depends neither on a seed nor on the number of processes; `rl-sampled` samples them, as always.
"""

import gc
import os
import sys

from accelerate import DistributedType, PartialState
from accelerate.state import AcceleratorState, GradientState
from transformers import training_args

from real_trl.scripts import rl, sft
from real_trl.trainers import REALTrainer
from tests.tiny import encode

MARKER = "So the overall score is"
VERDICTS = ("right", "close", "wrong")


def fixed_completion(row: int, index: int, target: int) -> list[int]:
    """
    Completion `index` of the group whose prompt has `row` lines: one to three verdicts and a score. A third of the
    groups are always right, a third always wrong; in the others scores vary and some completions show none.
    """
    verdicts = [
        f"{i + 1}) 7+4 is {10 + (row + i) % 3}, {VERDICTS[(index + i) % 3]}."
        for i in range(1 + (row // 3 + index) % 3)
    ]
    score = (target, target % 5 + 1, (target + index - 1) % 5 + 1)[row % 3]
    shows_none = row % 3 == 2 and (row + index) % 4 == 3
    return encode(" ".join(verdicts) + ("" if shows_none else f" {MARKER} {score}"))


class FixedCompletionsTrainer(REALTrainer):
    """`REALTrainer` that looks its completions up instead of sampling them."""

    def _generate(self, prompts: list[str]) -> tuple[list[list[int]], list[list[int]], list[str]]:
        targets = dict(zip(self.train_dataset["prompt"], self.train_dataset["score"], strict=True))
        completion_ids = [
            fixed_completion(prompt.count("\n"), number % self.num_generations, int(targets[prompt]))
            for number, prompt in enumerate(prompts)
        ]
        completions = self._tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
        return self._tokenize_prompts(prompts)[0], completion_ids, completions


def main(argv: list[str]) -> None:
    # DeepSpeed computes in bfloat16 on a CPU; Transformers lets it only with `use_cpu`, which turns DeepSpeed off
    training_args.is_torch_bf16_gpu_available = lambda: True
    fsdp = os.environ.get("ACCELERATE_USE_FSDP") == "true"
    if fsdp:  # which accelerate does on GPUs only; PyTorch's part runs on a CPU too
        PartialState._prepare_backend = lambda self, *args: ("gloo", DistributedType.MULTI_GPU)
    for stage, recipe in zip(argv[::2], argv[1::2], strict=True):
        rl.REALTrainer = FixedCompletionsTrainer if stage == "rl" else REALTrainer
        (sft if stage == "sft" else rl).main(["--config", recipe])
        assert (AcceleratorState().distributed_type == DistributedType.FSDP) == fsdp
        # The next stage configures accelerate, and DeepSpeed under it, anew
        AcceleratorState._reset_state()
        GradientState._reset_state()
        gc.collect()


if __name__ == "__main__":
    main(sys.argv[1:])
