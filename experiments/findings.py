# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What is compared: the paper's findings and the questions it leaves open, each as a difference of two readings."""

from dataclasses import dataclass

from experiments.analysis import Figure, Reading, Results

R = Reading


@dataclass(frozen=True)
class Finding:
    """
    A claim, and the difference that would show it.

    Args:
        claim (`str`):
            What is claimed, or asked.
        source (`str`):
            Where the paper claims it; empty for questions of our own.
        a, b (`Reading`):
            The claim is that `a - b` is above 0.
        factor (`float`, *optional*, defaults to `100.0`):
            Unit of the difference: 100 for correlations.
    """

    claim: str
    source: str
    a: Reading
    b: Reading
    factor: float = 100.0

    def measured(self, results: Results) -> Figure | None:
        """The difference, or `None` if its runs were not made."""
        return results.difference(self.a, self.b) if results.has(self.a.run, self.b.run) else None

    def verdict(self, figure: Figure) -> str:
        """`reproduced` or `yes` if the interval lies above 0, `opposite` or `no, the opposite` if below, else not shown."""
        if figure.low > 0:
            return "reproduced" if self.source else "yes"
        if figure.high < 0:
            return "opposite" if self.source else "no: the opposite"
        return "not shown"


PAPER = [
    Finding("REAL is above Standard RL", "Table 2", R("real"), R("standard_rl")),
    Finding("REAL is above TRACT", "Table 2", R("real"), R("tract")),
    Finding("REAL is above RAFT, its warm start", "Table 2", R("real"), R("raft")),
    Finding("REAL is above the base model", "Table 2", R("real"), R("base")),
    Finding("Standard RL is above its warm start", "Table 2", R("standard_rl"), R("raft")),
    Finding("TRACT is above RAFT", "Table 2", R("tract"), R("raft")),
    Finding("RAIL is above sampled decoding, base model", "Table 2", R("base"), R("base", "sampled")),
    Finding("Average of 10 is above N = 1, REAL", "Table 3", R("real", "average of 10"), R("real")),
    Finding("K = 8 is above K = 4, as many prompts", "Table 4", R("real"), R("real_k_4")),
    Finding("REAL with λ = 0 is above its warm start", "Table 5", R("real_lambda_0"), R("raft")),
    Finding("λ = 1 is above λ = 0", "Table 5", R("real"), R("real_lambda_0")),
    Finding("λ = 5 is above λ = 1", "Table 5", R("real_lambda_5"), R("real")),
    Finding("λ = 10 is above λ = 1", "Table 5", R("real_lambda_10"), R("real")),
    Finding("0 < acc < 1 is above no filter", "Table 6", R("real_filter"), R("real")),
    Finding("From RAFT is above from the base model", "Table 7", R("real"), R("real_from_base")),
    Finding("REAL from the base model is above it", "Table 7", R("real_from_base"), R("base")),
    Finding("β = 0.01 is above β = 0", "Table 8", R("real"), R("real_beta_0")),
    Finding("β = 0.01 is above β = 1", "Table 8", R("real"), R("real_beta_1")),
    Finding("T = 1 is above T = 0.8", "Table 9", R("real"), R("real_t_0.8")),
    Finding("REAL is above JEPO, single sample", "Table 10", R("real"), R("jepo")),
    Finding("REAL is above JEPO, multi-sample", "Table 10", R("real"), R("jepo_multi")),
    Finding(
        "Answers get longer in REAL (tokens)",
        "Fig. 4",
        R("real", "tokens", metric="mean"),
        R("raft", "tokens", metric="mean"),
        1.0,
    ),
    Finding(
        "Entropy falls in REAL (nats a token)",
        "Fig. 4",
        R("raft", "entropy", metric="mean"),
        R("real", "entropy", metric="mean"),
        1.0,
    ),
]

QUESTIONS = [
    Finding("REAL above plain SFT?", "", R("real"), R("sft")),
    Finding("REAL above Standard RL in domain?", "", R("real", split="id"), R("standard_rl", split="id")),
    Finding("REAL above Standard RL, greedy decoding?", "", R("real", "greedy"), R("standard_rl", "greedy")),
    Finding("REAL above Standard RL, sampled decoding?", "", R("real", "sampled"), R("standard_rl", "sampled")),
    Finding(
        "REAL above Standard RL, RAIL after a greedy rationale?",
        "",
        R("real", "greedy RAIL"),
        R("standard_rl", "greedy RAIL"),
    ),
    Finding(
        "REAL above Standard RL, average of 10?", "", R("real", "average of 10"), R("standard_rl", "average of 10")
    ),
    Finding("REAL above Standard RL at twice its learning rate?", "", R("real"), R("standard_rl_lr_4e-4")),
    Finding("REAL above Standard RL at half its learning rate?", "", R("real"), R("standard_rl_lr_1e-4")),
    Finding("REAL better at twice its learning rate?", "", R("real_lr_4e-4"), R("real")),
    Finding("Released variant above REAL (with twice the updates)?", "", R("real_released"), R("real")),
    Finding("Greedy rationale above a sampled one, RAFT (RAIL)?", "", R("raft", "greedy RAIL"), R("raft")),
    Finding("Average of 10 above N = 1, RAFT?", "", R("raft", "average of 10"), R("raft")),
    Finding("REAL (N = 1) above RAFT, average of 10?", "", R("real"), R("raft", "average of 10")),
    Finding("K = 16 above K = 4, as many completions a step?", "", R("real_k_16_equal"), R("real_k_4_equal")),
    Finding("K = 8 above K = 4, as many completions a step?", "", R("real"), R("real_k_4_equal")),
    Finding("From TRACT above from RAFT?", "", R("real_from_tract"), R("real")),
    Finding("Standardised advantages above plain ones?", "", R("real"), R("real_unstandardised")),
    Finding("Two thirds of the prompts useless: REAL loses?", "", R("real"), R("real_mixed")),
    Finding("… the filter 0 < acc < 1 helps REAL there?", "", R("real_mixed_filter"), R("real_mixed")),
    Finding("… REAL above Standard RL there?", "", R("real_mixed"), R("standard_rl_mixed")),
    Finding("… the filter helps Standard RL there?", "", R("standard_rl_mixed_filter"), R("standard_rl_mixed")),
    Finding("K = 16, 80 steps: REAL above Standard RL?", "", R("real_long"), R("standard_rl_long")),
    Finding("Noise 0.5: REAL above Standard RL?", "", R("real_noise_0.5"), R("standard_rl_noise_0.5")),
    Finding("Noise 0.2 above noise 0.5, REAL?", "", R("real"), R("real_noise_0.5")),
    Finding("Exact, fractional labels above noisy ones, REAL?", "", R("real_exact_labels"), R("real")),
    Finding("150 prompts: REAL above Standard RL?", "", R("real_150_prompts"), R("standard_rl_150_prompts")),
    Finding("1,200 prompts above 150, REAL?", "", R("real"), R("real_150_prompts")),
]
