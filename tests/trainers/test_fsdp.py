# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What of FSDP2's settings is changed or refused. Training with it is in `tests/distributed`."""

import copy
from types import SimpleNamespace

import pytest
import torch
from accelerate import FullyShardedDataParallelPlugin
from peft import get_peft_model
from torch import distributed
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from real_trl import REALConfig
from real_trl.trainers.fsdp import check_reference, gathered, prepare_fsdp
from tests.tiny import build_model, lora_config


def prepare(plugin, **args) -> None:
    prepare_fsdp(SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin)), SimpleNamespace(**args))


@pytest.fixture
def group(tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_gradients_are_added_up_in_float32_and_outputs_keep_their_type():
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, state_dict_type="FULL_STATE_DICT")
    plugin.set_mixed_precision("bf16")
    assert plugin.mixed_precision_policy.reduce_dtype == plugin.mixed_precision_policy.output_dtype == torch.bfloat16
    prepare(plugin)
    policy = plugin.mixed_precision_policy
    assert (policy.param_dtype, policy.reduce_dtype, policy.output_dtype) == (torch.bfloat16, torch.float32, None)


def test_in_float32_there_is_no_policy():
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, state_dict_type="FULL_STATE_DICT")
    prepare(plugin)
    assert plugin.mixed_precision_policy is None
    prepare(None)


@pytest.mark.parametrize(
    ("plugin", "args", "message"),
    [
        ({"fsdp_version": 1}, {}, "fsdp_version: got 1. Set it to 2, as in recipes/accelerate_configs/fsdp2.yaml"),
        (
            {"state_dict_type": "SHARDED_STATE_DICT"},
            {},
            "fsdp_state_dict_type: got SHARDED_STATE_DICT, with which no judge",
        ),
        ({}, {"sync_ref_model": True}, "sync_ref_model: got true under FSDP"),
    ],
)
def test_what_would_not_work_is_refused(plugin, args, message):
    options = {"fsdp_version": 2, "state_dict_type": "FULL_STATE_DICT", **plugin}
    with pytest.raises(ValueError, match=message):
        prepare(FullyShardedDataParallelPlugin(**options), **args)


def test_a_reference_model_that_one_process_has_is_refused(tmp_path, monkeypatch, group):
    args = REALConfig(str(tmp_path), beta=0.1, use_cpu=True)
    check_reference("a/model", args, None)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    with pytest.raises(ValueError, match="beta: got 0.1 with fsdp_cpu_ram_efficient_loading.* Set fsdp_cpu_ram_eff"):
        check_reference("a/model", args, None)
    check_reference("a/model", REALConfig(str(tmp_path), use_cpu=True), None)
    check_reference("a/model", args, lora_config())  # the reference is the base
    check_reference(get_peft_model(build_model(), lora_config()), args, None)


def test_gathered_weights_are_whole_and_sharded_again(group):
    model = build_model()
    whole, ids = copy.deepcopy(model.state_dict()), torch.arange(8)[None]
    expected = model(ids).logits.detach()
    for layer in model.model.layers:
        fully_shard(layer, reshard_after_forward=True)
    fully_shard(model, reshard_after_forward=False)
    units = [module for module in model.modules() if isinstance(module, FSDPModule)]
    kept = [[g._reshard_after_forward for g in unit._get_fsdp_state()._fsdp_param_groups] for unit in units]
    with gathered(model), torch.no_grad():
        for _ in range(2):  # a forward does not shard them again
            assert not any(isinstance(p, DTensor) for p in model.parameters())
            assert all(torch.equal(p, whole[name]) for name, p in model.named_parameters())
            torch.testing.assert_close(model(ids).logits, expected)
    assert all(isinstance(p, DTensor) for p in model.parameters())
    assert [[g._reshard_after_forward for g in unit._get_fsdp_state()._fsdp_param_groups] for unit in units] == kept
    model(ids).logits.sum().backward()
    assert all(isinstance(p.grad, DTensor) for p in model.parameters())
    with gathered(build_model()):
        pass
