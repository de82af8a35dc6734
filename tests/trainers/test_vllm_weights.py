# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What vLLM receives of a model with adapters, and what that does to the model: TRL's weight sync with another receiver at its end."""

import logging
from types import SimpleNamespace

import pytest
import torch
from peft import get_peft_model
from trl.generation.vllm_generation import VLLMGeneration

from real_trl.weights.merged import MergeShare, merge_whole, merged_parameters
from tests.tiny import build_model, lora_config
from tests.trainers import test_real_trainer as real


class Receiver:
    """Stands for vLLM: keeps the weights that it is sent."""

    def __init__(self):
        self.syncs, self.weights = 0, {}
        runner = SimpleNamespace(model=self)
        executor = SimpleNamespace(driver_worker=SimpleNamespace(model_runner=runner))
        self.llm_engine = SimpleNamespace(model_executor=executor)

    def load_weights(self, weights):
        for name, weight in weights:
            assert name not in self.weights
            self.weights[name] = weight.detach().clone()

    def reset_prefix_cache(self):
        self.syncs += 1


@pytest.fixture
def receiver(monkeypatch):
    receiver = Receiver()
    monkeypatch.setattr(VLLMGeneration, "_init_vllm", lambda self: setattr(self, "llm", receiver))
    return receiver


def make_trainer(tmp_path, model, **kwargs):
    return real.make_trainer(tmp_path, real.Fixed, model=model, use_vllm=True, vllm_mode="colocate", **kwargs)


def adapted(dtype=torch.bfloat16, tied=False, **options):
    """A model with adapters that are not zero."""
    base = build_model(tie_word_embeddings=tied).to(dtype)
    torch.manual_seed(0)
    model = get_peft_model(base, lora_config(init_lora_weights=False, **options))
    for name, parameter in model.named_parameters():
        if "modules_to_save" in name or "trainable_tokens_delta" in name:
            torch.nn.init.normal_(parameter)
    return model


def state(model):
    return {name: x.detach().clone() for name, x in model.state_dict().items() if ".ref." not in name}


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(actual[name], weight) and actual[name].dtype == weight.dtype, name


def test_the_base_is_the_same_bit_for_bit_after_many_syncs(tmp_path, receiver):
    trainer = make_trainer(tmp_path, adapted())
    before = state(trainer.model)
    plain = build_model().to(torch.bfloat16).state_dict()
    for _ in range(50):
        receiver.weights.clear()
        trainer.vllm_generation.sync_weights()
    assert receiver.syncs == 50
    assert_same(state(trainer.model), before)
    assert not any(getattr(module, "merged_adapters", []) for module in trainer.model.modules())
    # What was sent is base + B·A · α/r, rounded once, under the names of the base
    layers = dict(trainer.model.base_model.model.named_modules())
    for name, weight in receiver.weights.items():
        layer = layers[name.rpartition(".")[0]]
        expected = plain[name].float()
        if hasattr(layer, "lora_A"):
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            expected = expected + (b.float() @ a.float()) * (8 / 4)
            assert not torch.equal(weight, plain[name])
        assert torch.equal(weight, expected.bfloat16())
    assert receiver.weights.keys() == plain.keys()


KINDS = {
    "lora": {},
    "float32": {"dtype": torch.float32},
    "dora": {"use_dora": True, "dtype": torch.float32},
    "rank-stabilised, some modules": {"use_rslora": True, "target_modules": ["q_proj", "down_proj"]},
    "a trained head": {"modules_to_save": ["lm_head"], "dtype": torch.float32},
    "trained tokens": {"trainable_token_indices": [3, 5]},
    "trained tokens, tied": {"trainable_token_indices": [3, 5], "tied": True},
    "tied": {"tied": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_adapter(tmp_path, receiver, kind):
    """The weights that vLLM gets are those of the model that PEFT merges, and make the same logits."""
    model = adapted(**KINDS[kind])
    trainer = make_trainer(tmp_path, model)
    ids = torch.tensor([[3, 5, 7, 11, 13]])
    with torch.no_grad():
        trainer.model.eval()
        before, logits = state(trainer.model), trainer.model(ids).logits
        trainer.vllm_generation.sync_weights()
        receiver.weights.clear()
        trainer.vllm_generation.sync_weights()
        assert_same(state(trainer.model), before)
        assert torch.equal(trainer.model(ids).logits, logits)
        tied = KINDS[kind].get("tied", False)
        received = build_model(tie_word_embeddings=tied).to(logits.dtype)
        missing, unexpected = received.load_state_dict(receiver.weights, strict=False)
        assert unexpected == [] and missing == (["lm_head.weight"] if tied else [])
        received.tie_weights()
        tolerance = 1e-5 if logits.dtype == torch.float32 else 0.1
        torch.testing.assert_close(received.eval()(ids).logits, logits, rtol=tolerance, atol=tolerance)


def test_what_was_handed_over_is_not_changed_later():
    """A server's weights are packed, and sent when several have been handed over."""
    model = adapted()
    kept = list(merged_parameters(model))
    copies = {name: weight.clone() for name, weight in merged_parameters(model)}
    for name, weight in kept:
        assert torch.equal(weight, copies[name])


def test_an_interrupted_sync_leaves_the_base_as_it_was():
    model = adapted()
    before = state(model)
    for index, _ in enumerate(merged_parameters(model)):
        if index == 2:
            break
    assert_same(state(model), before)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"target_modules": ["q_proj", "embed_tokens"]}, "Embedding"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"modules_to_save": ["embed_tokens"]}, "modules_to_save"),
    ],
    ids=str,
)
def test_half_of_a_tied_pair_is_refused(tmp_path, receiver, options, named):
    with pytest.raises(ValueError, match="use_vllm: the adapter") as error:
        make_trainer(tmp_path, adapted(torch.float32, tied=True, **options))
    assert named in str(error.value) and "share their weights" in str(error.value)


def test_fsdp_is_refused(tmp_path, receiver, monkeypatch):
    from trl.distributed import DistributedBackend

    monkeypatch.setattr(DistributedBackend, "is_fsdp", True)
    with pytest.raises(ValueError, match="use_vllm: got true for adapters under FSDP"):
        make_trainer(tmp_path, adapted())


@pytest.mark.parametrize(("size", "low", "high"), [(1e-5, 0.0, 0.1), (1e-1, 0.9, 1.1)])
def test_what_vllm_sees_of_the_adapters_is_logged(tmp_path, receiver, caplog, size, low, high):
    trainer = make_trainer(tmp_path, adapted())
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=size)
    with caplog.at_level(logging.INFO):
        for step in (0, 25, 50):
            trainer.state.global_step = step
            receiver.weights.clear()
            trainer.vllm_generation.sync_weights()
    shares = trainer._metrics["train"]["update/visible_share"]
    assert len(shares) == 3 and all(low <= share <= high for share in shares)
    (said,) = [record for record in caplog.records if "optimizer has changed" in record.message]
    assert "After 25 steps" in said.message and ("raise learning_rate" in said.message) == (low == 0.0)


def test_the_share_of_a_merge_by_hand():
    # In bfloat16 1 + 2^-9 is 1, and 1 + 2^-7 is itself: (2^-7)² / ((2^-9)² + (2^-7)²) = 16/17
    linear = torch.nn.Sequential(torch.nn.Linear(1, 2, bias=False, dtype=torch.bfloat16))
    torch.nn.init.ones_(linear[0].weight)
    model = get_peft_model(linear, lora_config(r=1, lora_alpha=1, target_modules=["0"], task_type=None))
    layer = model.base_model.model[0]
    layer.lora_A["default"].weight.data.fill_(1.0)
    layer.lora_B["default"].weight.data.copy_(torch.tensor([[2.0**-9], [2.0**-7]]))
    share = MergeShare()
    assert [name for name, _ in merged_parameters(model, share=share)] == ["0.weight"]
    assert share.value == pytest.approx(16 / 17)


def test_a_model_without_adapters_is_left_to_trl(tmp_path, receiver):
    trainer = make_trainer(tmp_path, build_model())
    assert "_iter_named_params" not in vars(trainer.vllm_generation)
    trainer.vllm_generation.sync_weights()
    assert_same(receiver.weights, dict(trainer.model.named_parameters()))


# --- merging for good ----------------------------------------------------------------------------------------------------


def test_merging_for_good():
    model = adapted(torch.float32)
    expected = dict(merged_parameters(model))
    assert_same(dict(merge_whole(model, "--merge", "Do not").named_parameters()), expected)


def test_merging_what_half_precision_cannot_hold_is_refused():
    model = adapted()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=1e-5)
    with pytest.raises(
        ValueError, match=r"--merge: merged into weights in bfloat16, only \d+% .* Publish the adapter\."
    ):
        merge_whole(model, "--merge", "Publish the adapter")
    with pytest.raises(ValueError, match="use_peft: the adapter .* share their weights.* Set it to true"):
        merge_whole(adapted(torch.float32, tied=True, modules_to_save=["lm_head"]), "use_peft", "Set it to true")
