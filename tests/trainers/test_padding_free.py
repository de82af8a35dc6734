# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`RAFTTrainer` reads batches without padding: the same loss and gradient as with it, in every way it can be trained."""

import copy
import logging

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from trl.trainer.utils import add_fused_lm_head

from real_trl.forward.packed_attention import install_prefix_attention
from real_trl.forward.sft_inputs import pack_sequences, pad_sequences
from real_trl.label_tree import LabelTree
from real_trl.trainers.raft_trainer import _ForwardWithScores
from tests.tiny import DIGITS, TOKENIZER, build_model
from tests.trainers.test_raft_trainer import (
    MARKER,
    digit_trainer,
    make_trainer,
    raft_dataset,
    relative_error,
    trainer_gradient,
)

# The second goes on after its score; the last is cut before it by `max_length`
COMPLETIONS = [
    f" 7+4 is 11, close. {MARKER} 4",
    f" {MARKER} 2 7+4 is 11, close.",
    f" 7+4 is 12, right. {MARKER} 5",
    f" 7+4 is 11, close. 7+4 is 11, wrong. {MARKER} 1",
]
LONG = [text.replace(f"{MARKER} 4", f"{MARKER} 10") for text in COMPLETIONS]
SCORES = [4.0, 2.0, 4.5, 1.0]


def build_gpt2(tokenizer):
    """In float64 throughout, where Llama's RMSNorm would round to float32."""
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=256,
        n_embd=32,
        n_layer=2,
        n_head=4,
        initializer_range=0.15,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return GPT2LMHeadModel(config).double()


def trainer_of(tmp_path, labels, build=lambda tokenizer: build_model(tokenizer=tokenizer), **kwargs):
    """A trainer on four rows of different lengths; of the last one, the longest, `max_length` cuts the score off."""
    completions, tokenizer, make = {
        "one token": (COMPLETIONS, TOKENIZER, make_trainer),
        "several": (LONG, DIGITS, digit_trainer),
    }[labels]
    dataset = raft_dataset(completions, [10.0, *SCORES[1:]] if labels == "several" else SCORES)
    lengths = [len(tokenizer(row["prompt"] + row["completion"])["input_ids"]) for row in dataset]
    assert lengths[3] - 2 > max(lengths[:3]) + 1
    options = {"train_dataset": dataset, "model": build(tokenizer), "max_length": lengths[3] - 2, **kwargs}
    trainer = make(tmp_path, **options)
    positions = trainer.train_dataset["score_position"]
    assert positions[3] == -1 and positions[1] < len(trainer.train_dataset["input_ids"][1]) - 4
    assert bool(trainer.score_space.tree.context_tokens) == (labels == "several")
    return trainer


def both_gradients(tmp_path, monkeypatch, *args, **kwargs):
    """Loss and gradient without padding, and with it."""
    actual = trainer_gradient(trainer_of(tmp_path, *args, **kwargs))
    monkeypatch.setattr("real_trl.trainers.raft_trainer.why_not_exact", lambda model, dropout: "it is compared with")
    return actual, trainer_gradient(trainer_of(tmp_path, *args, **kwargs))


LABELS = pytest.mark.parametrize("labels", ["one token", "several"])


@LABELS
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
def test_same_gradient_as_with_padding_of_a_model_in_float64(tmp_path, monkeypatch, labels, checkpointing):
    (loss, gradient), (expected_loss, expected) = both_gradients(
        tmp_path, monkeypatch, labels, build_gpt2, gradient_checkpointing=checkpointing
    )
    assert loss == pytest.approx(expected_loss, rel=1e-7)
    assert relative_error(gradient, expected) < 1e-7  # TRL's LM head returns float32


@LABELS
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_same_gradient_as_with_padding(tmp_path, monkeypatch, labels, architecture, lora, checkpointing):
    (loss, gradient), (expected_loss, expected) = both_gradients(
        tmp_path,
        monkeypatch,
        labels,
        lambda tokenizer: build_model(architecture, tokenizer=tokenizer),
        lora=lora,
        gradient_checkpointing=checkpointing,
    )
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    assert relative_error(gradient, expected) < 1e-5


@LABELS
def test_same_gradient_in_bfloat16(tmp_path, monkeypatch, labels):
    (loss, gradient), (expected_loss, expected) = both_gradients(tmp_path, monkeypatch, labels, bf16=True)
    assert loss == pytest.approx(expected_loss, rel=1e-2)
    assert relative_error(gradient, expected) < 3e-2


@LABELS
def test_a_row_does_not_depend_on_the_others(tmp_path, labels):
    """Its gradient in a batch of two equal rows is its own."""
    trainer = trainer_of(tmp_path, labels)
    rows = trainer.train_dataset.remove_columns(["prompt", "completion"])
    for row in range(3):
        alone = trainer_gradient(trainer, [rows[row]])[1]
        assert relative_error(trainer_gradient(trainer, [rows[row]] * 2)[1], alone) < 1e-5


class Reads:
    """Shapes of what the model reads."""

    def __init__(self, trainer):
        self.shapes = []
        trainer.model.register_forward_pre_hook(
            lambda module, args, kwargs: self.shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
        )


@LABELS
def test_no_padding_reaches_the_model(tmp_path, labels):
    """In the real loop, training and evaluating."""
    trainer = trainer_of(tmp_path, labels, per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=1)
    lengths = [len(row) for row in trainer.train_dataset["input_ids"]]
    # All but each sequence's last token, which predicts nothing, and the inner nodes of the tree
    tokens = sum(lengths) - 4 + 4 * len(trainer.score_space.tree.context_tokens)
    reads = Reads(trainer)
    trainer.train()
    assert len(reads.shapes) == 2 and {rows for rows, _ in reads.shapes} == {1}
    assert sum(length for _, length in reads.shapes) == tokens < 4 * max(lengths)
    assert trainer.state.log_history[0]["num_tokens"] == sum(lengths)
    reads.shapes.clear()
    metrics = trainer.evaluate(trainer.train_dataset)
    assert sum(rows * length for rows, length in reads.shapes) == tokens
    assert metrics["eval_loss"] > 0


def test_a_sliding_window_keeps_the_padding_and_says_so(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        trainer = trainer_of(
            tmp_path,
            "one token",
            lambda tokenizer: build_model("mistral", tokenizer=tokenizer, sliding_window=8),
            max_steps=1,
        )
    said = [record.message for record in caplog.records if "padded" in record.message]
    reason = "Batches are padded, which is slower where lengths differ: some layers have a sliding window."
    assert len(said) == 1 and said[0].endswith(reason)
    reads = Reads(trainer)
    trainer.train()
    assert reads.shapes == [(4, max(map(len, trainer.train_dataset["input_ids"])))]


def test_without_a_reason_nothing_is_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        trainer_of(tmp_path, "one token")
    assert [record.message for record in caplog.records if "padded" in record.message] == []


def random_batch(generator, vocabulary):
    """Three to five sequences of 4 to 40 tokens, some without a score, some that go on after it."""
    size = int(torch.randint(3, 6, (), generator=generator))
    lengths = torch.randint(4, 41, (size,), generator=generator)
    prompts = 1 + (torch.rand(size, generator=generator) * (lengths - 2)).long()  # the completion has a token at least
    scores = prompts + (torch.rand(size, generator=generator) * (lengths - prompts)).long()
    index = torch.arange(int(lengths.max()))
    is_token, is_prompt = index < lengths.unsqueeze(1), index < prompts.unsqueeze(1)
    ids = torch.randint(vocabulary, is_token.shape, generator=generator) * is_token
    return {
        "labels": ids.masked_fill(is_prompt | ~is_token, -100),
        "input_ids": ids,
        "attention_mask": is_token.long(),
        "score_positions": scores.where(torch.rand(size, generator=generator) < 0.7, -1),
    }


@pytest.mark.parametrize("labels", ["one token", "several"])
@pytest.mark.parametrize("seed", range(5))
def test_same_hidden_states_in_float64(labels, seed):
    """Of every token asked for, and the gradients of a random function of them; also where rows share what they begin with."""
    generator = torch.Generator().manual_seed(seed)
    paths = [(1,), (2,), (1, 0), (1, 0, 0), (3, 4), (3, 5, 6)] if labels == "several" else [(1,), (2,), (3,)]
    tree = LabelTree.from_paths(paths)
    model = build_gpt2(TOKENIZER)
    batch = random_batch(generator, len(TOKENIZER))
    alike = torch.rand(len(batch["input_ids"]), generator=generator) < 0.7
    batch["input_ids"][alike, :2] = batch["input_ids"][0, :2]
    batch["input_ids"] *= batch["attention_mask"]
    batch["labels"] = torch.where(batch["labels"] == -100, -100, batch["input_ids"])
    scored = batch["score_positions"] > 0
    weight, results, sizes = None, [], []
    for how in ("padded", "packed", "shared"):
        if how == "padded":
            forward = pad_sequences(**batch, tree=tree, model=model)
        else:
            install_prefix_attention(model)
            forward = pack_sequences(**batch, tree=tree, share=how == "shared")
        sizes.append(forward.inputs["input_ids"].numel())
        hidden = model.base_model(**forward.inputs).last_hidden_state
        rows = hidden.gather(1, forward.rows.unsqueeze(-1).expand(-1, -1, hidden.size(-1)))
        tokens, edges = (part.flatten(0, 1) for part in rows.tensor_split([forward.num_labels], dim=1))
        targets = forward.targets[:, : forward.num_labels].flatten()
        edges = edges.view(len(scored), len(tree.edges), -1)[scored].flatten(0, 1)
        asked = torch.cat([tokens[targets != -100], edges])
        weight = torch.randn(asked.shape, generator=generator, dtype=asked.dtype) if weight is None else weight
        (asked * weight).sum().backward()
        results.append((asked.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
        model.zero_grad()
    for hidden, gradient in results[1:]:
        torch.testing.assert_close(hidden, results[0][0], rtol=1e-10, atol=1e-12)
        assert relative_error(gradient, results[0][1]) < 1e-12
    assert sizes[2] < sizes[1]


# --- the row itself ----------------------------------------------------------------------------------------------------

TREE = LabelTree.from_paths([(1,), (2,), (1, 0), (1, 0, 0)])  # inner nodes: 1, then 0 after it
# Prompts 5 6 and 7; the first score, 1, is followed by 9 (EOS), the second row has none
BATCH = {
    "labels": torch.tensor([[-100, -100, 8, 1, 9], [-100, 6, 9, -100, -100]]),
    "input_ids": torch.tensor([[5, 6, 8, 1, 9], [7, 6, 9, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
    "score_positions": torch.tensor([3, -1]),
}


def test_a_packed_row_with_labels_of_one_token():
    packed = pack_sequences(**BATCH, tree=LabelTree.from_paths([(1,), (2,)]))
    assert packed.inputs["input_ids"].tolist() == [[5, 6, 8, 1, 7, 6]]
    assert packed.inputs["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1]]
    layout = packed.inputs["attention_layout"]
    assert layout.prefixes == [(0, 4), (4, 6)] and all(start == stop for start, stop in layout.branches)
    # Predicted: 8, 1, 9 and 6, 9; then "1" and "2" after the marker, and anywhere in the row without a score
    assert packed.num_labels == 5
    assert packed.rows.tolist() == [[1, 2, 3, 4, 5, 2, 2, 5, 5]]
    assert packed.targets.tolist() == [[8, 1, 9, 6, 9, 1, 2, 1, 2]]


def test_a_packed_row_with_a_tree():
    packed = pack_sequences(**BATCH, tree=TREE)
    # Up to the scores; then what follows, and the tree: "1", "0"
    assert packed.inputs["input_ids"].tolist() == [[5, 6, 8, 7, 6, 1, 1, 0, 1, 0]]
    assert packed.inputs["position_ids"].tolist() == [[0, 1, 2, 0, 1, 3, 3, 4, 2, 3]]
    layout = packed.inputs["attention_layout"]
    assert layout.prefixes == [(0, 3), (3, 5)] and layout.branches == [(5, 8), (8, 10)]
    rest, trees = layout.buckets(torch.device("cpu"))
    assert rest.own.tolist() == [[5]] and rest.tree_mask is None
    assert trees.own.tolist() == [[6, 7], [8, 9]] and not trees.is_padding.any()
    assert trees.tree_mask[1, 0].tolist() == TREE.ancestors.tolist() == [[True, False], [True, True]]
    assert TREE.edges == ((0, 1), (0, 2), (1, 0), (2, 0))
    assert packed.rows.tolist() == [[1, 2, 5, 3, 4, 2, 2, 6, 7, 4, 4, 8, 9]]
    assert packed.targets.tolist() == [[8, 1, 9, 6, 9, 1, 2, 0, 0, 1, 2, 0, 0]]


def test_padded_rows_ask_for_the_same_tokens():
    tree = LabelTree.from_paths([(1,), (2,)])
    packed, padded = pack_sequences(**BATCH, tree=tree), pad_sequences(**BATCH, tree=tree, model=build_model())
    assert padded.rows.tolist() == [[1, 2, 3, 2, 2], [0, 1, 2, 0, 0]] and padded.num_labels == 3
    asked = padded.targets[:, :3]
    assert asked[asked != -100].tolist() == packed.targets[0, :5].tolist()


@pytest.mark.parametrize("labels", ["one token", "several"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_under_autocast_both_are_as_near_to_the_truth(labels, attention):
    """Log-probabilities and their gradients, packed against padded, the latter with any attention that takes a tree."""
    tree = LabelTree.from_paths([(1,), (2,)] if labels == "one token" else [(1,), (2,), (1, 0), (1, 0, 0), (3, 4)])
    batch = random_batch(torch.Generator().manual_seed(0), len(TOKENIZER))
    scores = batch.pop("score_positions").clamp(min=2)
    exact = build_model().double()

    def read(model, packed, autocast):
        model = copy.deepcopy(model)
        add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
        if packed:
            install_prefix_attention(model)
        forward = _ForwardWithScores(model, scores, tree, packed)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = forward(**batch, fused_lm_head=True)
            kept = [output.log_probs[output.label_mask], forward.score_log_probs]
            sum(x.double().square().sum() for x in kept).backward()
        return [x.detach().double() for x in kept] + [p.grad.double() for p in model.parameters()]

    truth = read(exact, False, autocast=False)
    errors = []
    for packed in (True, False):
        model = build_model()
        model.load_state_dict(exact.state_dict())
        model.set_attn_implementation("sdpa" if packed else attention)
        pairs = zip(read(model, packed, autocast=True), truth, strict=True)
        errors.append(sum(((a - b).norm() / b.norm()).item() for a, b in pairs))
    assert 0 < errors[0] < 1.3 * errors[1]
