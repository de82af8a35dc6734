# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Every way in which the installed Transformers tells a model where a token stands, against plain forwards in float64: what is
packed, padded, generated or judged has the log-probabilities of its row read alone by a model that has read nothing else.
"""

import copy
import logging
from unittest.mock import patch

import pytest
import torch
from accelerate import PartialState
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from trl.trainer.utils import add_fused_lm_head, pad

from real_trl import REALConfig, REALTrainer
from real_trl.engines import Decoding, TransformersEngine
from real_trl.engines.vllm_engine import VLLMEngine
from real_trl.forward.dense import policy_forward
from real_trl.forward.generation import generate_groups
from real_trl.forward.packed_attention import install_prefix_attention
from real_trl.forward.positions import (
    CONSTANT_ROPES,
    constant_up_to,
    separate_rows,
    why_positions_not_plain,
    why_read_otherwise_by_vllm,
)
from real_trl.forward.shared_prefix import share_prefixes, shared_prefix_forward
from real_trl.forward.support import MASKED_MODEL_TYPES, why_not_exact, why_not_masked
from real_trl.label_tree import LabelTree
from real_trl.score_space import ScoreSpace
from real_trl.trainers.raft_trainer import _ForwardWithScores
from tests.tiny import DIGITS, encode, prompt_dataset

VOCABULARY = 40
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.15,
}
_N = {"n_layer": 2, "n_head": 4}
_NO = {"head_dim": None, "intermediate_size": None}
# What the architectures call it, and what they cannot do with the values above
OTHER_SHAPES = {
    "gpt2": {"n_embd": 32, **_N},
    "gpt_bigcode": {"n_embd": 32, **_N},
    "gptj": {"n_embd": 32, **_N, "rotary_dim": 4},
    "codegen": {"n_embd": 32, **_N, "rotary_dim": 4},
    "gpt_neo": {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 3},
    "bloom": _N,
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4},
    "falcon": {**_NO, "new_decoder_architecture": False, "multi_query": False},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "xglm": {"d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4},
    "mistral": {"sliding_window": None},
    "mixtral": {"sliding_window": None},
    "phi3": {"original_max_position_embeddings": 8},
    "starcoder2": {"sliding_window": None},
    "ministral3": {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e4,
            "llama_4_scaling_beta": 0.5,
            "original_max_position_embeddings": 4,
        }
    },
}
# Their code needs float32 somewhere
FLOAT32 = ("bloom", "mpt", "mamba", "mixtral", "qwen2_moe", "qwen3_moe", "xglm")
LIMIT = 8  # tokens, from which on the frequencies of these change
ROPES = {
    "default": {},
    "linear": {"factor": 2.0},
    "dynamic": {"factor": 4.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": LIMIT},
    "longrope": {
        "factor": 8.0,
        "original_max_position_embeddings": LIMIT,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
    },
    "llama3": {
        "factor": 4.0,
        "original_max_position_embeddings": LIMIT,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    },
    "proportional": {"partial_rotary_factor": 0.5},
}
SINGLE = LabelTree.from_paths([[5], [6]])
TREE = LabelTree.from_paths([[5], [5, 6], [5, 6, 7], [8, 9]])
TREES = {"one token": SINGLE, "several tokens": TREE}
# Shorter than the limit, across it, and far beyond; scores at the end and before it
ROWS = [
    ([3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 5, 8, 9, 7], 5),
    ([3, 1, 4, 1, 5, 9, 2, 6], [9], 0),
    ([3, 3, 8], [3, 2, 7], 2),
    ([3, 3, 8], [9, 5, 1, 2, 8, 8], 6),
    ([3, 3, 8], [9, 5, 1, 2, 8, 8, 4, 4, 7, 2, 1, 3, 3, 9], 3),
]


def build(model_type="llama", rope=None, **changes):
    """A model in float64, if it can, that nothing has been done to."""
    torch.manual_seed(0)
    shape = SHAPE | OTHER_SHAPES.get(model_type, {}) | changes
    if rope is not None:
        shape["rope_parameters"] = {"rope_type": rope, "rope_theta": 1e4, **ROPES[rope]}
        shape["max_position_embeddings"] = LIMIT if rope == "dynamic" else 64
    shape = {name: value for name, value in shape.items() if value is not None or name == "sliding_window"}
    tokens = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **shape, **tokens)).eval()
    return model if model_type in FLOAT32 else model.double()


def alone(model, ids):
    """Log-probabilities `(T, V)` after each token of one row, by a copy of the model that has read nothing else."""
    with torch.no_grad():
        return copy.deepcopy(model)(torch.tensor([ids])).logits[0].double().log_softmax(-1)


def expected(model, row, tree):
    """Log-probabilities of a completion's tokens and of the labels, each out of a forward over what it follows."""
    prompt, completion, score = row
    log_probs = alone(model, prompt + completion)
    tokens = torch.stack([log_probs[len(prompt) - 1 + i, token] for i, token in enumerate(completion)])
    paths = [[]]
    for token, parent in zip(tree.context_tokens, tree.parents, strict=True):
        paths.append([*paths[parent], token])
    after = [alone(model, prompt + completion[:score] + path)[-1] for path in paths]
    edges = torch.stack([after[node][token] for node, token in tree.edges])
    return tokens, tree.label_log_probs(edges)


def batch(rows):
    prompts, completions = ([torch.tensor(row[i]) for row in rows] for i in (0, 1))
    return {
        "prompt_ids": pad(prompts, 0, "left"),
        "prompt_mask": pad([torch.ones_like(x) for x in prompts], 0, "left"),
        "completion_ids": pad(completions, 0, "right"),
        "completion_mask": pad([torch.ones_like(x) for x in completions], 0, "right"),
        "score_positions": torch.tensor([row[2] for row in rows]),
    }


def check_policy(forward, model, pristine, tree, rows=ROWS):
    with torch.no_grad():
        output = forward(model, **batch(rows), tree=tree)
    for index, row in enumerate(rows):
        tokens, labels = expected(pristine, row, tree)
        torch.testing.assert_close(output.log_probs[index, : len(row[1])].double(), tokens, atol=1e-5, rtol=0)
        torch.testing.assert_close(output.score_log_probs[index].double(), labels, atol=1e-5, rtol=0)


def check_raft(model, pristine, tree, packed, rows=ROWS):
    """The forward of `RAFTTrainer`: log-probabilities of all tokens but the prompt's, and of the labels."""
    ids = pad([torch.tensor(prompt + completion) for prompt, completion, _ in rows], 0, "right")
    mask = pad([torch.ones(len(prompt + completion), dtype=torch.long) for prompt, completion, _ in rows], 0, "right")
    labels = ids.masked_fill(mask == 0, -100)
    for index, (prompt, _, _) in enumerate(rows):
        labels[index, : len(prompt)] = -100
    rows = [(prompt, completion, min(score, len(completion) - 1)) for prompt, completion, score in rows]
    scores = torch.tensor([len(prompt) + score for prompt, _, score in rows])
    forward = _ForwardWithScores(model, scores, tree, packed)
    with torch.no_grad():
        output = forward(labels, ids, mask, fused_lm_head=True)
    found = output.log_probs[output.label_mask].split([len(row[1]) for row in rows])
    for index, row in enumerate(rows):
        tokens, of_labels = expected(pristine, row, tree)
        torch.testing.assert_close(found[index].double(), tokens, atol=1e-5, rtol=0)
        torch.testing.assert_close(forward.score_log_probs[index].double(), of_labels, atol=1e-5, rtol=0)


def with_head(model):
    made = copy.deepcopy(model)
    add_fused_lm_head(made, outputs=("log_probs", "entropy", "is_top1"))
    return made


# --- the predicate ---------------------------------------------------------------------------------------------------


def test_all_kinds_of_transformers_are_looked_at():
    """A kind that is new in Transformers is read densely until somebody has looked at it, and put it here."""
    assert set(ROPES) == {"default", *ROPE_INIT_FUNCTIONS}
    assert {kind for kind in ROPES if kind not in CONSTANT_ROPES} == {"dynamic", "longrope"}


def test_what_is_said_of_configurations():
    def of(model_type, **changes):
        config = AutoConfig.for_model(model_type, **changes)
        return why_positions_not_plain(config), constant_up_to(config)

    for model_type in ("llama", "qwen3", "gpt2", "opt", "gemma3_text", "falcon"):
        assert of(model_type) == (None, None)
    for model_type, changes in (("bloom", {}), ("mpt", {}), ("falcon", {"alibi": True})):
        assert of(model_type, **changes) == ("the attention has a bias by distance (ALiBi)", None)
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    plain = {"rope_type": "default", "rope_theta": 1e4}
    reason = "the frequencies of the rotary embedding 'dynamic' depend on how many tokens are read"
    assert of("llama", rope_parameters=dynamic, max_position_embeddings=32) == (reason, 32)
    # As older checkpoints have it
    assert of("llama", rope_scaling={"type": "dynamic", "factor": 2.0}, max_position_embeddings=32) == (reason, 32)
    # Of one kind of layers
    of_layers = {"full_attention": dynamic, "sliding_attention": plain}
    assert of("gemma3_text", rope_parameters=of_layers, max_position_embeddings=32) == (reason, 32)
    config = AutoConfig.for_model("phi3", max_position_embeddings=131072)
    config.rope_parameters = {**plain, **ROPES["longrope"], "rope_type": "longrope"}
    assert constant_up_to(config) == LIMIT
    config.rope_parameters = {**plain, "rope_type": "to come"}
    assert constant_up_to(config) == 0 and "'to come' may depend" in why_positions_not_plain(config)


# --- forwards ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("rope", ROPES)
def test_every_rotary_embedding(rope, tree, caplog):
    """Shared and packed where the frequencies are constant, and otherwise refused with the reason; in rows of their own always."""
    PartialState()
    pristine, tree = build(rope=rope), TREES[tree]
    check_policy(policy_forward, with_head(pristine), pristine, tree)
    check_raft(with_head(pristine), pristine, tree, packed=False)
    model = with_head(pristine)
    if rope in CONSTANT_ROPES:
        assert share_prefixes(model)
        check_policy(shared_prefix_forward, model, pristine, tree)
        assert why_not_exact(with_head(pristine), dropout="of attention") is None
        model = with_head(pristine)
        install_prefix_attention(model)
        check_raft(model, pristine, tree, packed=True)
    else:
        with caplog.at_level(logging.WARNING):
            assert not share_prefixes(model)
        assert f"the rotary embedding {rope!r} depend on how many tokens are read" in caplog.text


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize(
    ("model_type", "changes"),
    [("bloom", {}), ("mpt", {}), ("falcon", {"alibi": True}), ("gpt_neo", {}), ("mamba", {}), ("gemma3_text", {"sliding_window": 3})],
)  # fmt: skip
def test_attention_that_obeys_no_mask_for_each_query(model_type, changes, tree):
    """Biases, local attention, a state: each label of several tokens has a row of its own."""
    pristine, tree = build(model_type, **changes), TREES[tree]
    assert why_not_masked(pristine.config) is not None and why_not_exact(pristine) is not None
    check_policy(policy_forward, with_head(pristine), pristine, tree)
    check_raft(with_head(pristine), pristine, tree, packed=False)


@pytest.mark.parametrize("model_type", MASKED_MODEL_TYPES)
def test_attention_that_obeys_a_mask_for_each_query(model_type):
    pristine = build(model_type)
    assert why_not_masked(pristine.config) is None
    check_policy(policy_forward, with_head(pristine), pristine, TREE, ROWS[1:4])


@pytest.mark.parametrize("rope", ["dynamic", "longrope"])
@pytest.mark.parametrize("of_layers", [False, True])
def test_no_row_depends_on_others_or_on_what_was_read_before(rope, of_layers):
    pristine = build("gemma3_text" if of_layers else "llama", rope=None if of_layers else rope)
    if of_layers:
        kinds = {"full_attention": {"rope_type": rope, "rope_theta": 1e4, **ROPES[rope]}}
        kinds["sliding_attention"] = {"rope_type": "default", "rope_theta": 1e4}
        layers = {"layer_types": ["full_attention", "sliding_attention"], "rope_parameters": kinds}
        pristine = build("gemma3_text", **layers, max_position_embeddings=LIMIT if rope == "dynamic" else 64)
    model = with_head(pristine)
    for rows in (ROWS[4:], ROWS[2:3], ROWS[:2], ROWS):
        check_policy(policy_forward, model, pristine, SINGLE, rows)
    # Nothing changes for models without such frequencies, and nothing is saved
    assert model.state_dict().keys() == pristine.state_dict().keys()
    plain = build()
    separate_rows(plain)
    assert all("forward" not in vars(module) for module in plain.modules())


@pytest.mark.parametrize("rope", ["dynamic", "longrope"])
def test_gradients_are_those_of_the_rows_alone(rope):
    model, reference = with_head(build(rope=rope)), build(rope=rope)
    output = policy_forward(model, **batch(ROWS), tree=TREE)
    kept = output.log_probs * batch(ROWS)["completion_mask"]
    (output.score_log_probs.double().sum() + kept.double().sum()).backward()

    def log_probs(ids):
        reference.model.rotary_emb = type(reference.model.rotary_emb)(reference.config)  # it has read nothing
        return reference(torch.tensor([ids])).logits[0].log_softmax(-1)

    for prompt, completion, score in ROWS:
        of_row = log_probs(prompt + completion)
        loss = sum(of_row[len(prompt) - 1 + i, token] for i, token in enumerate(completion))
        paths = [[], [5], [8], [5, 6]]
        assert (TREE.context_tokens, TREE.parents) == ((5, 8, 6), (0, 0, 1))
        of_nodes = [log_probs(prompt + completion[:score] + path)[-1] for path in paths]
        edges = torch.stack([of_nodes[node][token] for node, token in TREE.edges])
        (loss + TREE.label_log_probs(edges).sum()).backward()
    gradients = dict(model.named_parameters())
    for name, parameter in reference.named_parameters():
        assert (gradients[name].grad - parameter.grad).norm() <= 1e-5 * parameter.grad.norm(), name


# --- generation and judging ------------------------------------------------------------------------------------------


def greedy(model, prompt, length):
    """Greedy tokens, each out of a forward over all that precedes it."""
    ids = list(prompt)
    for _ in range(length):
        ids.append(int(alone(model, ids)[-1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("rope", ["dynamic", "longrope"])
@pytest.mark.parametrize("length", [2, 9])  # within the limit with the shorter prompts, and beyond it
def test_generation_reads_each_row_by_itself(rope, length, caplog):
    model = build(rope=rope)
    prompts = [[3, 3, 8], [3, 3, 8], [9, 5, 1, 2, 8, 8], [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]][: 3 if length == 2 else 4]
    config = GenerationConfig(max_new_tokens=length, do_sample=False, pad_token_id=0)
    expected = [greedy(model, prompt, length) for prompt in prompts]
    with caplog.at_level(logging.WARNING):
        output = generate_groups(model, prompts, config, pad_token_id=0)
    assert output.sequences[:, max(map(len, prompts)) :].tolist() == expected
    assert config.use_cache is not False  # the caller's own is not changed


@pytest.mark.parametrize(
    ("model_type", "rope"),
    [("llama", "dynamic"), ("llama", "longrope"), ("bloom", None), ("mpt", None), ("gpt_neo", None)],
)
@pytest.mark.parametrize("labels", ["1-5", "1-10"])
def test_judging(model_type, rope, labels):
    """Completions without a score, whose marker is forced: what is read behind them, for labels of one token and of two."""
    model = build(model_type, rope, vocab_size=len(DIGITS))
    space = ScoreSpace.from_labels(labels, DIGITS)
    prompts = ["Grade this homework from 1 to 5", "Grade"]
    engine = TransformersEngine(model, DIGITS, space, Decoding(do_sample=False, max_new_tokens=3), batch_size=2)
    engine.encode.context_length = None  # "dynamic" is meant to go beyond it
    pristine = build(model_type, rope, vocab_size=len(DIGITS))
    for index, judgment in engine.judge(prompts):
        assert judgment.status == "missing"
        prompt = encode(prompts[index], eos=False, tokenizer=DIGITS)
        completion = [*greedy(pristine, prompt, 3), *space.marker_ids]
        _, log_probs = expected_of_judge(pristine, prompt, completion, space.tree)
        assert list(judgment.probabilities.values()) == pytest.approx(log_probs.exp().tolist(), abs=1e-6)


def expected_of_judge(model, prompt, completion, tree):
    return expected(model, (prompt, completion, len(completion)), tree)


def test_training_generates_each_row_by_itself(tmp_path):
    """As TRL does it, since nothing is shared."""
    model = build(rope="dynamic", vocab_size=len(DIGITS)).float()
    pristine = copy.deepcopy(model)
    options = {
        "per_device_train_batch_size": 2,
        "num_generations": 2,
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
    }
    args = REALConfig(
        str(tmp_path),
        **options,
        max_completion_length=16,
        score_labels="1-10",
        max_steps=1,
    )
    with patch(
        "real_trl.trainers.context_check.context_length", return_value=None
    ):  # "dynamic" is meant to go beyond it
        trainer = REALTrainer(model, args, train_dataset=prompt_dataset([4.0, 2.0]), processing_class=DIGITS)
    trainer.generation_config.do_sample = False  # to be compared; a recipe cannot say so
    prompts = [encode(text, eos=False, tokenizer=DIGITS) for text in ("Grade this", "Grade this homework from 1 to 5")]
    completions = trainer._generate_single_turn(prompts, None, {})
    for prompt, completion in zip(prompts, completions, strict=True):
        expected = greedy(pristine, prompt, 16)
        end = expected.index(DIGITS.eos_token_id) + 1 if DIGITS.eos_token_id in expected else 16
        assert completion == expected[:end]
    trainer.train()
    assert trainer.state.global_step > 0


# --- other engines ---------------------------------------------------------------------------------------------------


def test_vllm_has_one_set_of_frequencies(tmp_path):
    for rope, limits in (("dynamic", ()), ("longrope", (LIMIT,))):
        config = build(rope=rope).config
        for length in (None, LIMIT, LIMIT + 1):
            assert (why_read_otherwise_by_vllm(config, length) is None) == (length in limits)
        config.save_pretrained(tmp_path)
        space = ScoreSpace.from_labels("1-5", DIGITS)
        with pytest.raises(ValueError, match=f"max_model_len: got 64. .*{rope}.*use the engine 'transformers'"):
            VLLMEngine(str(tmp_path), DIGITS, space, max_model_len=64)
        args = REALConfig(str(tmp_path), use_vllm=True, vllm_max_model_length=64, bf16=False, score_labels="1-5")
        with pytest.raises(
            ValueError, match=f"use_vllm: vllm_max_model_length is 64. .*{rope}.* set use_vllm to false"
        ):
            REALTrainer(str(tmp_path), args, train_dataset=prompt_dataset([4.0]), processing_class=DIGITS)
    assert why_read_otherwise_by_vllm(build(rope="yarn").config, None) is None
