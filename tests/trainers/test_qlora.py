# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
QLoRA with bitsandbytes, on the CPU: adapters in float32 over frozen weights in 4 bits, read once for a group, with the same gradients as
row by row; RL goes on with the adapter of RAFT; and what would round the weights again is refused.
"""

from pathlib import Path

import pytest
import torch
import yaml
from peft import AutoPeftModelForCausalLM
from transformers import BitsAndBytesConfig

from real_trl import REALConfig, REALTrainer
from real_trl.scripts import rl, sft
from real_trl.weights.merged import merge_whole
from tests.distributed.launching import NEW_ADAPTER, RAFT, REAL, weights, write_inputs
from tests.helpers.reference import relative_error
from tests.tiny import TOKENIZER, build_model, lora_config, prompt_dataset
from tests.trainers.test_real_gradient import SCORES, FixedCompletions, K, trainer_gradient

pytest.importorskip("bitsandbytes")

FOUR_BITS = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "use_bnb_nested_quant": True}
QLORA = {**NEW_ADAPTER, **FOUR_BITS, "lora_target_modules": "all-linear", "use_cpu": True, "max_steps": 2}
SAMPLED = {"malformed": "force", "preflight_scored_rate": 0.0, "max_steps_without_signal": 0}


def in_4bit() -> BitsAndBytesConfig:
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """`wide`, whose layers are as wide as a block of weights that share a scale; and rows."""
    folder = tmp_path_factory.mktemp("qlora")
    write_inputs(folder)
    model = build_model(initializer_range=0.2, hidden_size=64, intermediate_size=128, head_dim=16)
    model.save_pretrained(folder / "wide")
    TOKENIZER.save_pretrained(folder / "wide")
    return folder


def run(stage, folder: Path, model: str, recipe: dict) -> Path:
    keys = {**recipe, "model_name_or_path": str(folder / model), "dataset_name": str(folder / "rows.jsonl")}
    output = folder / f"{stage.__name__.rpartition('.')[2]}-of-{model}"
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**keys, "output_dir": str(output)}))
    stage.main(["--config", str(folder / "recipe.yaml")])
    return output


def test_raft_then_real(folder):
    raft = run(sft, folder, "wide", {**RAFT, **QLORA, "per_device_train_batch_size": 4})
    recipe = {name: value for name, value in REAL.items() if name != "group_filter"}
    real = run(rl, folder, raft.name, {**recipe, **SAMPLED, **QLORA, "per_device_train_batch_size": 4})
    before, after = weights(raft), weights(real)
    assert before.keys() == after.keys() and all("lora_" in name for name in after)
    assert {value.dtype for value in after.values()} == {torch.float32}
    assert all((after[name] - before[name]).abs().max() > 1e-4 for name in after)


def trainer_of(tmp_path, folder, dtype="float32", **options) -> REALTrainer:
    args = REALConfig(
        str(tmp_path), num_generations=K, per_device_train_batch_size=2 * K, max_completion_length=40, use_cpu=True,
        report_to="none", gradient_checkpointing=False, model_init_kwargs={"dtype": dtype}, **options,
    )  # fmt: skip
    torch.manual_seed(0)
    return FixedCompletions(
        str(folder / "wide"),
        args,
        prompt_dataset(SCORES),
        quantization_config=in_4bit(),
        peft_config=lora_config(target_modules="all-linear", init_lora_weights=False),
    )


def test_layers_are_in_4_bits_and_the_head_is_left_alone(tmp_path, folder):
    model = trainer_of(tmp_path, folder, "bfloat16").model
    base = model.get_base_model()
    assert base.model.layers[0].mlp.up_proj.base_layer.weight.dtype == torch.uint8
    assert type(base.lm_head) is torch.nn.Linear and base.lm_head.weight.dtype == torch.bfloat16
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


def test_a_shared_prefix_has_the_same_gradients(tmp_path, folder):
    shared, dense = (trainer_of(tmp_path, folder, shared_prefix=shared) for shared in (True, False))
    assert shared._shares_prefixes and not dense._shares_prefixes
    assert relative_error(trainer_gradient(shared), trainer_gradient(dense)) < 1e-5


def test_vllm_is_refused(tmp_path, folder):
    with pytest.raises(ValueError, match=r"use_vllm: got true for quantised weights.*\(load_in_4bit: false"):
        trainer_of(tmp_path, folder, use_vllm=True)


def test_merging_is_refused(folder):
    trained = AutoPeftModelForCausalLM.from_pretrained(folder / "sft-of-wide", quantization_config=in_4bit())
    with pytest.raises(
        ValueError, match="use_peft: the model's weights are quantised.* Set use_peft to true, or load"
    ):
        merge_whole(trained, "use_peft", "Set use_peft to true")
