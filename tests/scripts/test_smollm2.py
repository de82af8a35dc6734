# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A real language model, out of its package: export, score space, one RAFT and one REAL step, judging."""

import json

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from real_trl import RAFTConfig, RAFTTrainer, REALConfig, REALTrainer, ScoreSpace
from real_trl.engines import Decoding, TransformersEngine

pytestmark = pytest.mark.smollm2


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    from real_trl.scripts.export_smollm2 import export

    directory = tmp_path_factory.mktemp("smollm2")
    export(directory)
    return str(directory)


def test_export_is_a_plain_model_directory(model_dir):
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    assert tokenizer.eos_token == "<|im_end|>" and model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    ids = tokenizer("The capital of France is", return_tensors="pt")
    assert tokenizer.decode(model(**ids).logits[0, -1].argmax()).strip() == "Paris"


def test_score_space_of_split_digits(model_dir):
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    space = ScoreSpace.from_labels("1-5", tokenizer)
    assert tokenizer.convert_ids_to_tokens([i for (i,) in space.token_ids]) == ["1", "2", "3", "4", "5"]
    ids = tokenizer("Clear and correct. So the overall score is 4<|im_end|>")["input_ids"]
    location = space.locate(ids)
    assert location.ok and ids[location.position] == space.token_ids[3][0]
    one, ten = (ScoreSpace.from_labels("1-10", tokenizer).token_ids[i] for i in (0, 9))
    assert len(one) == 1 and len(ten) == 2 and ten[0] == one[0]  # "10" shares its first token with "1"


def rows(feedback):
    prompt = [{"role": "user", "content": "Rate the answer 'Paris' to 'What is the capital of France?' from 1 to 5."}]
    completion = [{"role": "assistant", "content": "It is correct. So the overall score is 5"}]
    row = {"prompt": prompt, "score": 5.0} | ({"completion": completion} if feedback else {})
    return Dataset.from_list([row] * 4)


def test_a_raft_step_a_real_step_and_a_judgment(model_dir, tmp_path):
    common = {"max_steps": 1, "report_to": "none", "bf16": False, "learning_rate": 1e-5, "save_strategy": "no"}
    raft = RAFTTrainer(
        model_dir, RAFTConfig(str(tmp_path / "raft"), per_device_train_batch_size=4, **common), rows(feedback=True)
    )
    raft.train()
    raft.save_model()
    assert json.loads((tmp_path / "raft" / "judge_config.json").read_text())["score_labels"] == list("12345")
    args = REALConfig(
        str(tmp_path / "real"),
        num_generations=2,
        per_device_train_batch_size=2,
        max_completion_length=24,
        malformed="force",
        **common,
    )
    real = REALTrainer(str(tmp_path / "raft"), args, rows(feedback=False))
    before = real.model.model.layers[0].mlp.up_proj.weight.detach().clone()
    real.train()
    assert not torch.equal(before, real.model.model.layers[0].mlp.up_proj.weight)
    decoding = Decoding(chat=True, max_new_tokens=24)
    engine = TransformersEngine(real.model, real.processing_class, real.score_space, decoding)
    ((_, judgment),) = engine.judge(["Rate the answer 'Paris' to 'What is the capital of France?' from 1 to 5."])
    assert 0 < judgment.mass <= 1 and 0 < judgment.expected_score <= 5
