# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What half precision may not do to a trainer: round its scores, or stand still."""

import pytest
import torch

from tests.tiny import build_model
from tests.trainers import test_raft_trainer as raft
from tests.trainers import test_real_trainer as real


def large_logits():
    """Distributions of the tiny model, with all logits near 34."""
    model = build_model()
    bias = torch.full((model.config.vocab_size,), 34.0)
    model.lm_head.bias = torch.nn.Parameter(bias)
    return model


def read_and_exact(trainer, forward):
    """
    Log-probabilities of the labels as `forward` has them, and those of a float64 head at every position that the backbone read.
    """
    seen = []
    backbone = trainer.accelerator.unwrap_model(trainer.model).base_model
    # The first of the hooks: before rows are selected
    hook = backbone.register_forward_hook(lambda m, args, output: seen.append(output.last_hidden_state.detach()))
    score_log_probs = forward()
    hook.remove()
    head = trainer.accelerator.unwrap_model(trainer.model).lm_head
    logits = seen[0].double() @ head.weight.detach().double().T + head.bias.detach().double()
    labels = [path[0] for path in trainer.score_space.token_ids]
    return score_log_probs.detach(), logits.log_softmax(-1)[..., labels].flatten(0, 1)


def error(read, exact):
    """The largest distance to the nearest position; a wrong one is nowhere near."""
    return (read.double().unsqueeze(1) - exact).abs().amax(-1).amin(-1).max()


@pytest.mark.parametrize("shared_prefix", [True, False])
def test_real_reads_its_scores_from_float32_logits(tmp_path, shared_prefix):
    trainer = real.make_trainer(
        tmp_path,
        real.Fixed,
        model=large_logits(),
        bf16=True,
        shared_prefix=shared_prefix,
        gradient_checkpointing=False,
    )
    assert trainer._shares_prefixes is shared_prefix
    inputs = trainer._prepare_inputs([row for row in trainer.train_dataset for _ in range(real.K)])
    assert error(*read_and_exact(trainer, lambda: trainer._forward(trainer.model, inputs).score_log_probs)) < 1e-4


@pytest.mark.parametrize("padding_free", [True, False])
def test_raft_reads_its_scores_from_float32_logits(tmp_path, padding_free):
    trainer = raft.make_trainer(tmp_path, model=large_logits(), bf16=True)
    trainer._padding_free = padding_free
    trainer.model.train()
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(4)])
    read = []
    trainer._log_scores = lambda score_log_probs, *_: read.append(score_log_probs)

    def forward():
        with trainer.accelerator.autocast():
            trainer.compute_loss(trainer.model, batch)
        return read[0]

    assert error(*read_and_exact(trainer, forward)) < 1e-4
