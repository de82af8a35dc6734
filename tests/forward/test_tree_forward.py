# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Which attention can read a tree of labels, and what its nodes see. That the result is exact is tested in `test_policy_forward`."""

import pytest
import torch
from transformers import Gemma3TextConfig, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from real_trl import RAFTConfig, RAFTTrainer, REALConfig, REALTrainer
from real_trl.forward.packed_attention import PREFIX_ATTENTION
from real_trl.forward.support import check_tree_attention
from real_trl.forward.tree_forward import edge_rows, tree_inputs
from real_trl.label_tree import LabelTree
from tests.tiny import DIGITS, build_model, prompt_dataset

SINGLE = LabelTree.from_paths([(1,), (2,)])
TREE = LabelTree.from_paths([(1,), (2,), (1, 0), (1, 0, 0)])  # inner nodes: 1, then 0 after it


def config(config_class=LlamaConfig, attention="sdpa", **kwargs):
    made = config_class(**kwargs)
    made._attn_implementation = attention
    return made


@pytest.mark.parametrize(
    "accepted",
    [
        config(),
        config(attention="eager"),
        config(attention=PREFIX_ATTENTION),
        config(MistralConfig, sliding_window=None),
        config(Qwen2Config, use_sliding_window=False, sliding_window=4096),
        config(Qwen3Config, layer_types=["full_attention"] * 32),
    ],
    ids=lambda c: f"{c.model_type}-{c._attn_implementation}",
)
def test_full_attention_with_a_mask_is_accepted(accepted):
    check_tree_attention(accepted, TREE)


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (config(attention="flash_attention_2"), "attn_implementation: got 'flash_attention_2'.*Set .* to sdpa"),
        (config(attention="flash_attention_3"), "attn_implementation: got 'flash_attention_3'"),
        (config(attention="flex_attention"), "attn_implementation: got 'flex_attention'"),
        (config(MistralConfig, sliding_window=4096), "score_labels: .*this mistral model has a sliding window"),
        (config(Gemma3TextConfig), "score_labels: .*this gemma3_text model has sliding_attention.*'1-5' or 'A-E'"),
        (
            config(Qwen2Config, use_sliding_window=True, sliding_window=16, max_window_layers=2, num_hidden_layers=4),
            "this qwen2 model has sliding_attention",
        ),
    ],
    ids=lambda c: f"{c.model_type}-{c._attn_implementation}" if hasattr(c, "model_type") else "",
)
def test_other_attention_is_refused_where_labels_have_several_tokens(refused, message):
    with pytest.raises(ValueError, match=message):
        check_tree_attention(refused, TREE)
    check_tree_attention(refused, SINGLE)


@pytest.mark.parametrize(
    ("trainer_class", "config_class"), [(REALTrainer, REALConfig), (RAFTTrainer, RAFTConfig)], ids=["real", "raft"]
)
def test_trainers_refuse_it_before_the_first_step(tmp_path, trainer_class, config_class):
    rows = prompt_dataset([4.0, 2.0]).map(lambda row: {"completion": f" So the overall score is {row['score']:g}"})

    def make_trainer(labels):
        options = {"per_device_train_batch_size": 2, "bf16": False, "use_cpu": True, "report_to": "none"}
        if config_class is REALConfig:
            options |= {"num_generations": 2, "max_completion_length": 16}
        return trainer_class(
            model=build_model("mistral", tokenizer=DIGITS, sliding_window=64),
            args=config_class(str(tmp_path), score_labels=labels, **options),
            train_dataset=rows,
            processing_class=DIGITS,
        )

    make_trainer("1-5")
    with pytest.raises(ValueError, match="score_labels: some labels have several tokens"):
        make_trainer("1-10")


def test_what_everybody_sees():
    """Prompt with one token of left padding, the score at position 4 of 6, two inner nodes behind."""
    model = build_model()
    ids = torch.tensor([[0, 5, 6, 7, 8, 9]])
    mask = torch.tensor([[0, 1, 1, 1, 1, 1]])
    inputs = tree_inputs(model, TREE, ids, mask, torch.tensor([[0, 0, 1, 2, 3, 4]]), score_rows=torch.tensor([3]))
    assert inputs["input_ids"].tolist() == [[0, 5, 6, 7, 8, 9, 1, 0]]
    assert inputs["position_ids"].tolist() == [[0, 0, 1, 2, 3, 4, 3, 4]]  # "1" stands where the score does
    assert inputs["attention_mask"][0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0],  # padding: itself, so that nothing is NaN
        [0, 1, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 0, 0],  # the end of the marker
        [0, 1, 1, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0, 0, 1, 0],  # "1" after the marker
        [0, 1, 1, 1, 0, 0, 1, 1],  # "0" after that
    ]
    assert TREE.edges == ((0, 1), (0, 2), (1, 0), (2, 0))
    assert edge_rows(TREE, torch.tensor([3]), 6).tolist() == [[3, 3, 6, 7]]


def test_labels_of_one_token_leave_the_inputs_alone():
    ids, mask = torch.tensor([[5, 6]]), torch.tensor([[1, 1]])
    inputs = tree_inputs(build_model(), SINGLE, ids, mask, mask.cumsum(1) - 1, torch.tensor([0]))
    assert inputs["input_ids"] is ids and inputs["attention_mask"] is mask
