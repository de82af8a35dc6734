# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""DeepSpeed in bfloat16 on two CPU processes: the copies in float32 that it keeps are known, and what of their updates the policy sees."""

from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoConfig

from tests.distributed import launching
from tests.distributed.launching import NEW_ADAPTER, RAFT, REAL, ROOT, launch, logged, weights

HALF = {"bf16": True, "max_steps": 3}
JOBS = {
    "slow": ("rl", "base", {**REAL, **HALF, "learning_rate": 5e-8, "float32_outputs": True}),
    "fast": ("rl", "base", {**REAL, **HALF, "learning_rate": 1e-2}),
    "raft": ("sft", "base", {**RAFT, **HALF, "learning_rate": 1e-2}),
    "half weights": ("rl", "base", {**REAL, **HALF, "learning_rate": 1e-2, "dtype": "bfloat16"}),
    "tied": ("rl", "tied", {**REAL, **HALF, "learning_rate": 1e-2}),
    "lora": ("rl", "base", {**REAL, **HALF, **NEW_ADAPTER, "learning_rate": 1e-2}),
}


@pytest.fixture(scope="module", params=[2, 3], ids=["zero2", "zero3"])
def trained(request, folder, tmp_path_factory) -> tuple[Path, str]:
    pytest.importorskip("deepspeed")
    config = yaml.safe_load((ROOT / "recipes" / "accelerate_configs" / "zero3_cpu.yaml").read_text())
    config["deepspeed_config"] |= {"zero_stage": request.param, "zero3_init_flag": request.param == 3}
    config["deepspeed_config"]["zero3_save_16bit_model"] = request.param == 3
    path = tmp_path_factory.mktemp("config") / "zero.yaml"
    path.write_text(yaml.safe_dump(config))
    name = f"half-zero{request.param}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(launching.BACKENDS, name, (str(path), {"ddp_backend": "gloo"}, 2))
        return folder / name, launch(folder, name, JOBS)


@pytest.mark.deepspeed
def test_what_the_policy_sees(trained):
    folder, said = trained
    assert max(logged(folder / "slow", "update/visible_share")) < 0.1
    for job in ("fast", "raft", "half weights", "tied"):
        shares = logged(folder / job, "update/visible_share")
        assert len(shares) == 3 and all(0.9 < share < 1.1 for share in shares), job
    assert logged(folder / "lora", "update/visible_share")[-1] > 0.4
    assert said.count("of what the optimizer has changed") == said.count("raise learning_rate") == 1
    for job in JOBS:
        assert all(loss == loss for loss in logged(folder / job, "loss"))


@pytest.mark.deepspeed
def test_the_output_can_have_all_of_the_update(trained):
    """What three steps at 5e-8 have changed is in float32 outputs, though hardly any of it is in their bfloat16 copy."""
    folder, _ = trained
    before, after = weights(folder.parent / "base"), weights(folder / "slow")
    assert before.keys() == after.keys() and {value.dtype for value in after.values()} == {torch.float32}
    assert AutoConfig.from_pretrained(folder / "slow").dtype == torch.float32
    before = {name: value.bfloat16().float() for name, value in before.items()}  # as DeepSpeed begins
    moved = torch.cat([(after[name] - before[name]).flatten() for name in before])
    seen = torch.cat([(after[name].bfloat16().float() - before[name]).flatten() for name in before])
    assert 0 < moved.abs().max() < 1e-6
    assert (moved != 0).float().mean() > 0.5 and (seen != 0).float().mean() < 0.05
