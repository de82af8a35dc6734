# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The shared forward against a model run the plain way, one completion at a time."""

import copy
from itertools import product

import pytest
import torch
from peft import get_peft_model
from trl.trainer.utils import add_fused_lm_head

from real_trl import objectives
from real_trl.forward.dense import backbone, policy_forward, select_hidden_rows
from real_trl.label_tree import LabelTree
from real_trl.score_space import ScoreSpace
from real_trl.trainers.rollout import collate_rollouts, make_rollout
from tests.tiny import ARCHITECTURES, DIGITS, TOKENIZER, build_model, encode, lora_config

SPACE = ScoreSpace.from_labels("1-5", TOKENIZER)
LABEL_IDS = torch.tensor([path[0] for path in SPACE.token_ids])
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


def kept(rollout):
    """Tokens of a completion that the loss depends on."""
    return max(sum(rollout.policy_mask), rollout.score_position)


def forward(model, rollouts):
    batch = collate_rollouts(rollouts, TOKENIZER.pad_token_id, torch.device("cpu"))
    return policy_forward(model, **{name: batch[name] for name in INPUTS}, tree=SPACE.tree)


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
        length = kept(rollout)
        expected = log_p[torch.arange(length), torch.tensor(rollout.completion_ids[:length])]
        torch.testing.assert_close(output.log_probs[row, :length], expected, atol=1e-5, rtol=1e-5)
        entropy = -(log_p.exp() * log_p).sum(-1)[:length]
        torch.testing.assert_close(output.entropy[row, :length], entropy, atol=1e-5, rtol=1e-5)
        scores = log_p[rollout.score_position, LABEL_IDS]
        torch.testing.assert_close(output.score_log_probs[row], scores, atol=1e-5, rtol=1e-5)


def test_a_row_does_not_depend_on_the_others(rollouts):
    model = build_model().eval()
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    together, alone = forward(model, rollouts), forward(model, rollouts[1:])
    length = kept(rollouts[1])
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


# --- labels of several tokens ------------------------------------------------------------------------------------------

MARKER = "So the overall score is"
VERDICTS = ["very poor", "poor", "good", "good enough", "very good"]
SCALES = {
    "1-10": ScoreSpace.from_labels("1-10", DIGITS),
    "0-100": ScoreSpace.from_labels("0-100", DIGITS),
    "half points": ScoreSpace.from_labels("1-5:0.5", DIGITS),
    "words": ScoreSpace.from_labels(VERDICTS, DIGITS, values=[1, 2, 3, 4, 5]),
}


def scale_rollouts(space):
    """Rows of different lengths: with text after the score, without a score, and with the marker appended."""
    low, high = space.labels[0], space.labels[-1]
    rows = [
        ("7+4 = 12, right.", f" 7+4 is 11, close. {MARKER} {high}. So this is right.", False),
        ("7+4 = 11, wrong. So the overall score is 3", f" {MARKER} {low}", False),
        ("2+9 = 11", " 2+9 is 11, right.", True),
        ("Grade this homework.", " So this is wrong", False),
    ]
    return [
        make_rollout(
            space,
            prompt,
            text,
            encode(prompt, eos=False, tokenizer=DIGITS),
            encode(text, tokenizer=DIGITS),
            space.high,
            score_in_policy=False,
            force=force,
            stop_ids=[DIGITS.eos_token_id],
        )
        for prompt, text, force in rows
    ]


def scale_model(attention="sdpa", architecture="llama"):
    """In float64, with distributions far from uniform; `plain` is left as transformers made it."""
    plain = build_model(architecture, tokenizer=DIGITS, initializer_range=0.4, attn_implementation=attention)
    assert plain.config._attn_implementation == attention
    model = copy.deepcopy(plain.double())
    add_fused_lm_head(model, temperature=0.8, outputs=("log_probs", "entropy"))
    return plain, model


def label_strings(plain, context, space, temperature=0.8):
    """
    Probability of every label: that of its tokens, of which the last stands at the end of a sequence of its own, minus
    that of the labels which go on from it.
    """
    begun = []
    for path in space.token_ids:
        log_p = (plain(torch.tensor([[*context, *path]])).logits[0] / temperature).log_softmax(-1)
        begun.append(sum(log_p[len(context) - 1 + depth, token] for depth, token in enumerate(path)).exp())
    probabilities = []
    for label, path in enumerate(space.token_ids):
        longer = [j for j, other in enumerate(space.token_ids) if other != path and other[: len(path)] == path]
        # Of "10" and "100", which both go on from "1", the first holds the second
        next_ones = [
            j
            for j in longer
            if not any(space.token_ids[j][: len(space.token_ids[i])] == space.token_ids[i] for i in longer if i != j)
        ]
        probabilities.append(begun[label] - sum(begun[j] for j in next_ones))
    return torch.stack(probabilities)


def tree_forward(model, rollouts, tree, prompt_padding=0, completion_padding=0):
    batch = collate_rollouts(rollouts, DIGITS.pad_token_id, torch.device("cpu"))
    pads = {"prompt": (prompt_padding, 0), "completion": (0, completion_padding)}
    for part, sizes in pads.items():
        for name, value in ((f"{part}_ids", DIGITS.pad_token_id), (f"{part}_mask", 0)):
            batch[name] = torch.nn.functional.pad(batch[name], sizes, value=value)
    return policy_forward(model, **{name: batch[name] for name in INPUTS}, tree=tree)


@pytest.mark.parametrize(
    ("scale", "attention", "architecture"),
    [(scale, "sdpa", "llama") for scale in SCALES]
    + [("1-10", "sdpa", "qwen3"), ("0-100", "eager", "llama"), ("words", "eager", "mistral")],
)
def test_labels_of_several_tokens_have_the_probabilities_of_their_strings(scale, attention, architecture):
    space, (plain, model) = SCALES[scale], scale_model(attention, architecture)
    rollouts = scale_rollouts(space)
    assert [r.has_score for r in rollouts] == [True, True, True, False]
    with torch.no_grad():
        output = tree_forward(model, rollouts, space.tree)
        for row, rollout in enumerate(rollouts[:3]):
            context = rollout.prompt_ids + rollout.completion_ids[: rollout.score_position]
            expected = label_strings(plain, context, space)
            actual = output.score_log_probs[row].double().exp()
            torch.testing.assert_close(actual, expected, atol=1e-6, rtol=0)
            torch.testing.assert_close(actual.log(), expected.log(), atol=1e-4, rtol=0)  # and the small ones
            assert 1e-3 < actual.sum() <= 1 + 1e-6
    assert output.score_log_probs.isfinite().all()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_tree_and_padding_change_nothing_else(attention):
    """The completion's own log-probabilities do not see the tree behind it; no row sees its padding."""
    space, model = SCALES["0-100"], scale_model(attention)[1].float()
    rollouts = scale_rollouts(space)
    single = LabelTree.from_paths([space.token_ids[0], space.token_ids[1]])
    assert not single.context_tokens
    with torch.no_grad():
        expected = tree_forward(model, rollouts, single)
        whole = tree_forward(model, rollouts, space.tree)
        padded = tree_forward(model, rollouts, space.tree, prompt_padding=5, completion_padding=7)
        alone = [tree_forward(model, [rollout], space.tree) for rollout in rollouts]
    for row, rollout in enumerate(rollouts):
        length = kept(rollout)
        for output, index in ((whole, row), (padded, row), (alone[row], 0)):
            for name in ("log_probs", "entropy"):
                actual = getattr(output, name)[index, :length]
                torch.testing.assert_close(actual, getattr(expected, name)[row, :length], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(output.score_log_probs[index], whole.score_log_probs[row], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize(("scale", "attention"), [("1-10", "sdpa"), ("words", "eager"), ("half points", "sdpa")])
def test_gradient_of_labels_of_several_tokens(scale, attention, checkpointing):
    """REAL's reward on the distribution, through the tree and through every label string by itself."""
    space, (plain, model) = SCALES[scale], scale_model(attention)
    rollouts = scale_rollouts(space)[:3]
    values = torch.tensor(space.values, dtype=torch.float64)
    labels = [0, len(values) - 1, 3]
    targets = values[labels]
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    output = tree_forward(model, rollouts, space.tree)
    objectives.regression_reward(output.score_log_probs.double(), values, targets).sum().backward()

    contexts = [r.prompt_ids + r.completion_ids[: r.score_position] for r in rollouts]
    scores = torch.stack([label_strings(plain, context, space) for context in contexts])
    expected = scores[range(3), labels].log() - ((scores * values).sum(1) - targets).square()
    expected.sum().backward()
    gradients = dict(plain.named_parameters())
    difference = sum((p.grad - gradients[name].grad).square().sum() for name, p in model.named_parameters()).sqrt()
    norm = sum(p.grad.square().sum() for p in gradients.values()).sqrt()
    assert difference / norm < 1e-5


@pytest.mark.parametrize("labels", [range(101), [1, 10, 100, 1000], ["4", "40", "2", "22", "221"]])
def test_everything_that_could_be_written(labels):
    """All texts up to the longest label, on a vocabulary of twelve tokens: each counts for the longest label that it begins with."""
    paths = [tuple(map(int, str(label))) for label in labels]
    tree, depth = LabelTree.from_paths(paths), max(map(len, paths))
    vocabulary = 12 if depth < 4 else 6
    torch.manual_seed(0)
    plain = build_model(initializer_range=0.4).double()
    plain.resize_token_embeddings(vocabulary)
    context = [3, 1, 4, 1, 5]
    model = copy.deepcopy(plain)
    add_fused_lm_head(model)
    ones = torch.ones(1, 5, dtype=torch.long)
    with torch.no_grad():
        output = policy_forward(
            model,
            torch.tensor([context[:2]]),
            ones[:, :2],
            torch.tensor([context[2:]]),
            ones[:, :3],
            torch.tensor([3]),
            tree,
        )
        texts = list(product(range(vocabulary), repeat=depth))
        befores = torch.tensor([[*context, *before] for before in product(range(vocabulary), repeat=depth - 1)])
        log_p = plain(befores).logits[:, len(context) - 1 :].log_softmax(-1)  # (V^(depth-1), depth, V)
    log_p = log_p.repeat_interleave(vocabulary, 0).gather(2, torch.tensor(texts).unsqueeze(2)).squeeze(2)
    probabilities = log_p.sum(1).exp()
    assert probabilities.sum().item() == pytest.approx(1.0, abs=1e-9)
    expected = torch.zeros(len(paths), dtype=torch.float64)
    for text, probability in zip(texts, probabilities, strict=True):
        begun = [path for path in paths if text[: len(path)] == path]
        if begun:
            expected[paths.index(max(begun, key=len))] += probability
    torch.testing.assert_close(output.score_log_probs[0].double().exp(), expected, atol=1e-6, rtol=0)
    assert expected.sum() < 1
