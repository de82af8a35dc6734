# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""LoRA's `trainable_token_indices`: embeddings of a few tokens are trained, and where the LM head is tied, its rows of them as well."""

import pytest
import torch

from real_trl import Judge
from real_trl.forward.logits import float32_logits
from real_trl.trainers.precision import check_output_layer
from tests.tiny import TOKENIZER, build_model, encode, lora_config, prompt_dataset
from tests.trainers import test_raft_trainer as raft
from tests.trainers import test_real_trainer as real

TOKENS = encode("4 2 right", eos=False)
TRAINERS = pytest.mark.parametrize(
    "make", [lambda *args, **kw: real.make_trainer(*args, real.Fixed, **kw), raft.make_trainer], ids=["real", "raft"]
)


def make_trainer(make, tmp_path, tied, **kwargs):
    base = build_model(tie_word_embeddings=tied)
    base.save_pretrained(tmp_path / "base")
    TOKENIZER.save_pretrained(tmp_path / "base")
    config = lora_config(trainable_token_indices=TOKENS, init_lora_weights=False)
    options = {"learning_rate": 1e-2, "max_steps": 2, **kwargs}
    return make(tmp_path / "run", model=str(tmp_path / "base"), peft_config=config, **options)


def deltas(trainer):
    return {
        name: p.detach().clone() for name, p in trainer.model.named_parameters() if "trainable_tokens_delta" in name
    }


@TRAINERS
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "autocast"])
def test_they_are_trained(tmp_path, make, tied, bf16):
    trainer = make_trainer(make, tmp_path, tied, bf16=bf16)
    before = deltas(trainer)
    assert len(before) == 1
    trainer.train()
    for name, start in before.items():
        moved = (deltas(trainer)[name] - start).abs().amax(1)
        # Untied, only what is read has a gradient: the last token of a completion is not
        assert (moved > 1e-3).all() if tied else (moved > 1e-3).any()


@TRAINERS
def test_scores_are_those_that_the_model_writes(tmp_path, make):
    """With trained tokens far from the base's: the labels' log-probabilities of the trainer are those of the model's own logits."""
    trainer = make_trainer(make, tmp_path, True)
    for parameter in (p for name, p in trainer.model.named_parameters() if "trainable_tokens_delta" in name):
        torch.nn.init.normal_(parameter, std=0.5)
    model = trainer.model.eval()
    labels = [path[0] for path in trainer.score_space.token_ids]
    with torch.no_grad():
        if isinstance(trainer, real.REALTrainer):
            trainer.model.train()
            inputs = trainer._prepare_inputs([row for row in trainer.train_dataset for _ in range(real.K)])
            read = trainer._forward(model, inputs).score_log_probs[0]
            ids, position = (inputs[name][0] for name in ("completion_ids", "score_positions"))
            prompt = inputs["prompt_ids"][0][inputs["prompt_mask"][0].bool()]
            ids = torch.cat([prompt, ids[:position]])
        else:
            batch, scores = trainer.data_collator([trainer.train_dataset[0]]), []
            trainer._log_scores = lambda score_log_probs, *_: scores.append(score_log_probs)
            trainer.compute_loss(model, batch)
            read, ids = scores[0][0], batch["input_ids"][0, : batch["score_positions"][0]]
        expected = model.eval()(ids.unsqueeze(0)).logits[0, -1].log_softmax(-1)[labels]
    torch.testing.assert_close(read, expected, rtol=1e-4, atol=1e-4)


@TRAINERS
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_the_engine_reads_the_saved_judge(tmp_path, make, tied):
    trainer = make_trainer(make, tmp_path, tied)
    trainer.train()
    trainer.save_model(str(tmp_path / "judge"))
    ids = torch.tensor([encode(prompt_dataset([1.0])["prompt"][0])])
    with torch.no_grad():
        expected = trainer.model.eval()(ids).logits
        judge = Judge.from_pretrained(str(tmp_path / "judge"))
        model = judge.engine.model
        torch.testing.assert_close(model(ids).logits, expected, rtol=1e-5, atol=1e-5)
    (judgment,) = judge.score(prompt=prompt_dataset([1.0])["prompt"][:])
    assert judgment.expected_score == judgment.expected_score


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_the_engine_reads_it_in_float32(tmp_path, tied):
    trainer = make_trainer(raft.make_trainer, tmp_path, tied)
    trainer.save_model(str(tmp_path / "judge"))
    model = Judge.from_pretrained(str(tmp_path / "judge"), dtype="bfloat16").engine.model
    ids = torch.tensor([encode(prompt_dataset([1.0])["prompt"][0])])
    head = model.get_output_embeddings()
    with torch.no_grad():
        hidden = model.base_model(ids).last_hidden_state
        with float32_logits(model):
            logits = model(ids).logits
        expected = hidden.double() @ head.weight.double().T
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.double(), expected, rtol=1e-5, atol=1e-5)
    assert model(ids).logits.dtype == torch.bfloat16


def test_they_are_refused_where_zero3_has_spread_the_head(tmp_path):
    trainer = make_trainer(raft.make_trainer, tmp_path, True)
    head = trainer.model.get_base_model().get_output_embeddings()
    head.original_module.weight.ds_id = 1  # as DeepSpeed marks it
    with pytest.raises(ValueError, match=r"peft_config: got trainable_token_indices .* Use ZeRO-2"):
        check_output_layer(trainer.model)
