# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The shared forward against a model run the plain way, one completion at a time."""

import copy

import pytest
import torch
from peft import get_peft_model
from trl.trainer.utils import add_fused_lm_head

from real_trl.policy_forward import backbone, policy_forward, select_hidden_rows
from real_trl.score_space import ScoreSpace
from real_trl.trainers.rollout import collate_rollouts, make_rollout
from tests.tiny import ARCHITECTURES, TOKENIZER, build_model, encode, lora_config
from tests.trainers.test_real_gradient import COMPLETIONS, SCORES, K, make_trainer

SPACE = ScoreSpace.from_labels("1-5", TOKENIZER)
LABEL_IDS = torch.tensor(SPACE.token_ids)
PROMPTS = ["7+4 is 12, right.", "7+4 is 11, wrong. So the overall score is 3"]
TEXTS = ["7+4 is 11, close. So the overall score is 4", "So the overall score is 2"]
INPUTS = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "score_positions")


@pytest.fixture
def rollouts():
    return [
        make_rollout(
            SPACE, p, t, encode(p, eos=False), encode(t), 3.0, score_in_policy=False, force=False, stop_ids=[]
        )
        for p, t in zip(PROMPTS, TEXTS, strict=True)
    ]


def forward(model, rollouts):
    batch = collate_rollouts(rollouts, TOKENIZER.pad_token_id, torch.device("cpu"))
    return policy_forward(model, **{name: batch[name] for name in INPUTS}, label_ids=LABEL_IDS)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equals_the_plain_forward(rollouts, architecture, temperature):
    plain = build_model(architecture).eval()
    model = copy.deepcopy(plain)
    add_fused_lm_head(model, temperature=temperature, outputs=("log_probs", "entropy"))
    output = forward(model, rollouts)
    for row, rollout in enumerate(rollouts):
        ids = torch.tensor([rollout.prompt_ids + rollout.completion_ids])
        log_p = (plain(ids).logits[0, len(rollout.prompt_ids) - 1 : -1] / temperature).log_softmax(-1)
        length = len(rollout.completion_ids)
        expected = log_p[torch.arange(length), torch.tensor(rollout.completion_ids)]
        torch.testing.assert_close(output.log_probs[row, :length], expected, atol=1e-5, rtol=1e-5)
        entropy = -(log_p.exp() * log_p).sum(-1)
        torch.testing.assert_close(output.entropy[row, :length], entropy, atol=1e-5, rtol=1e-5)
        scores = log_p[rollout.score_position, LABEL_IDS]
        torch.testing.assert_close(output.score_log_probs[row], scores, atol=1e-5, rtol=1e-5)


def test_a_row_does_not_depend_on_the_others(rollouts):
    model = build_model().eval()
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    together, alone = forward(model, rollouts), forward(model, rollouts[1:])
    length = len(rollouts[1].completion_ids)
    torch.testing.assert_close(together.log_probs[1, :length], alone.log_probs[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together.score_log_probs[1], alone.score_log_probs[0], atol=1e-5, rtol=1e-5)


def test_backbone_is_found_through_wrappers():
    model = build_model()
    expected = model.model
    model = get_peft_model(model, lora_config())
    assert backbone(torch.nn.parallel.DataParallel(model)) is expected


def test_the_selection_ends_with_its_context():
    model = build_model()
    ids = torch.tensor([encode(PROMPTS[0])])
    with pytest.raises(RuntimeError, match="inside"), select_hidden_rows(model, torch.tensor([[0]])):
        assert model.model(ids).last_hidden_state.size(1) == 1
        raise RuntimeError("inside")
    assert model.model(ids).last_hidden_state.size(1) == ids.size(1)


def test_an_on_policy_step_is_one_forward_over_whole_groups(tmp_path):
    trainer = make_trainer(tmp_path)
    calls = []
    handle = trainer.model.model.register_forward_hook(lambda module, args, output: calls.append(output))
    batch = [row for row in trainer.train_dataset for _ in range(K)]
    trainer.model.train()
    trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch))
    handle.remove()
    assert len(calls) == 1
    assert calls[0].last_hidden_state.size(0) == len(COMPLETIONS) == K * len(SCORES)
