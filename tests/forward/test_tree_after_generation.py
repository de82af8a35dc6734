# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Labels of several tokens: the engine's distribution against every label string read by full forwards in float64."""

import copy
import logging
from functools import cache

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig

from real_trl.engines import Decoding, TransformersEngine
from real_trl.score_space import DEFAULT_MARKER, ScoreSpace
from tests import tokenizers_zoo as zoo

WORDS = ["poor", "fair", "good", "very good", "very very good"]
SCALES = {
    "1-10": {"labels": "1-10"},
    "0-100": {"labels": "0-100"},
    "half points": {"labels": "1-5:0.5"},
    "words": {"labels": WORDS, "values": [1, 2, 3, 4, 5]},
}
RATIONALES = ["The tone is good.", "It misses one point.", "Two claims are wrong, one is missing."]
PROMPTS = ["Grade it.", "Grade this response from low to high.", "Is the response clear? Grade it in full."] * 6
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def scale_space(scale, tokenizer="smollm"):
    return ScoreSpace.from_labels(**SCALES[scale], tokenizer=zoo.TOKENIZERS[tokenizer]())


@cache
def warm_judge(scale, config_class=LlamaConfig, **kwargs):
    """A judge that gives all kinds of labels, and sometimes none."""
    space = scale_space(scale)
    tokenizer = space.tokenizer
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        config_class(
            vocab_size=len(tokenizer),
            **SHAPE,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            **kwargs,
        )
    ).train()
    labels = [*space.labels[:: max(1, len(space.labels) // 10)], *space.labels[-3:], space.labels[1]]
    texts = [f"{RATIONALES[i % 3]} {DEFAULT_MARKER}{label}" for i, label in enumerate(labels)] + RATIONALES
    rows = [
        tokenizer(PROMPTS[i % 3])["input_ids"] + zoo.encode(tokenizer, f" {text}") + [tokenizer.eos_token_id]
        for i, text in enumerate(texts)
    ]
    length = max(map(len, rows))
    input_ids = torch.tensor([row + [tokenizer.pad_token_id] * (length - len(row)) for row in rows])
    labels = torch.tensor([row + [-100] * (length - len(row)) for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        model(input_ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval().double()  # in float32 the model alone is off by more than the tests allow


def make_engine(scale, model=None, batch_size=9, **decoding):
    space = scale_space(scale)
    decoding = Decoding(**{"max_new_tokens": 32, "temperature": 0.8, **decoding})
    return TransformersEngine(model or warm_judge(scale), space.tokenizer, space, decoding, batch_size=batch_size)


def brute_force(model, ids, space, temperature=1.0):
    """
    Probability of every label, from its meaning: the text goes on as the longest label that it begins with. Each step is
    a full forward over an unpadded sequence in float64.
    """
    paths = {path: index for index, path in enumerate(space.token_ids)}
    probabilities = [0.0] * len(paths)

    def go_on(written, probability, label):
        longer = {path[len(written)] for path in paths if len(path) > len(written) and path[: len(written)] == written}
        if longer:
            with torch.no_grad():
                logits = model(torch.tensor([[*ids, *written]])).logits[0, -1] / temperature
            for token, p in enumerate(logits.softmax(-1).tolist()):
                if token in longer:
                    go_on((*written, token), probability * p, paths.get((*written, token), label))
                elif label is not None:
                    probabilities[label] += probability * p
        else:
            probabilities[label] += probability

    go_on((), 1.0, None)
    return probabilities


def judge_and_check(engine, seed=1, tolerance=1e-6):
    """Judges PROMPTS and compares every distribution with brute force; returns (judgment, generated label ids) per row."""
    space = engine.score_space
    generated, generate = [], engine.model.generate

    def record(**kwargs):
        output = generate(**kwargs)
        for prompt, mask, ids in zip(kwargs["input_ids"], kwargs["attention_mask"], output.sequences, strict=True):
            generated.append((prompt[mask.bool()].tolist(), ids[len(prompt) :].tolist()))
        return output

    engine.model.generate = record
    try:
        judgments = [judgment for _, judgment in engine.judge(PROMPTS, seed=seed)]  # in the order of generation
    finally:
        del engine.model.generate
    rows = []
    for judgment, (prompt, ids) in zip(judgments, generated, strict=True):
        eos = space.tokenizer.eos_token_id
        ids = ids[: ids.index(eos)] if eos in ids else ids
        location = space.locate(ids)
        if judgment.status == "ok" or (judgment.status == "truncated" and location.position is not None):
            context, label = ids[: location.position], tuple(ids[location.position :])
        else:
            context, label = [*ids, *space.marker_ids], ()
        expected = brute_force(engine.model, prompt + context, space, engine.decoding.temperature)
        assert list(judgment.probabilities.values()) == pytest.approx(expected, abs=tolerance)
        assert judgment.mass == pytest.approx(sum(expected), abs=10 * tolerance) and judgment.mass <= 1 + 1e-6
        mean = sum(k * p for k, p in zip(space.values, expected, strict=True))
        assert judgment.expected_score == pytest.approx(mean, abs=100 * tolerance)
        if judgment.status == "ok":
            assert judgment.sampled_score == space.values[location.label_index]
        else:
            assert judgment.sampled_score == space.values[max(range(len(expected)), key=expected.__getitem__)]
        rows.append((judgment, label))
    return rows


@pytest.mark.parametrize("limit", [14, 20])
@pytest.mark.parametrize("scale", SCALES)
def test_distribution_is_that_of_every_label_string(scale, limit):
    """Batches of prompts of different lengths, with scores and without, some of which ended early or were cut short."""
    engine = make_engine(scale, max_new_tokens=limit)
    assert engine.score_space.tree.context_tokens
    rows = judge_and_check(engine, seed=2)
    assert {"ok", "missing"} <= {judgment.status for judgment, _ in rows}
    assert limit == 14 or len({len(label) for judgment, label in rows if judgment.status == "ok"}) > 1
    missing = {judgment.num_tokens for judgment, _ in rows if judgment.status == "missing"}
    assert (limit in missing) == (limit == 14) and min(missing) < limit


def test_eager_attention_takes_the_same_mask():
    """In float32: transformers' eager attention has no float64 softmax."""
    model = copy.deepcopy(warm_judge("0-100")).float()
    model.set_attn_implementation("eager")
    rows = judge_and_check(make_engine("0-100", model), seed=2, tolerance=5e-6)
    assert {"ok", "missing"} <= {judgment.status for judgment, _ in rows}


def test_greedy_and_temperature():
    judge_and_check(make_engine("1-10", do_sample=False))
    judge_and_check(make_engine("1-10", temperature=0.5))


def test_no_sequence_is_read_twice():
    """After the prompt and a token at a time, what is left is one forward over the marker and the inner nodes."""
    for scale, limit in (("0-100", 20), ("1-10", 14)):
        engine = make_engine(scale, max_new_tokens=limit, batch_size=len(PROMPTS))
        lengths = []
        hook = engine.model.register_forward_pre_hook(
            lambda module, args, kwargs, lengths=lengths: lengths.append(kwargs["input_ids"].size(1)), with_kwargs=True
        )
        statuses = {judgment.status for _, judgment in engine.judge(PROMPTS, seed=1)}
        hook.remove()
        space = engine.score_space
        assert {"ok", "missing"} <= statuses
        assert lengths[1:-1] == [1] * (len(lengths) - 2)
        # At the length limit, the last token that was generated has not been read yet
        assert lengths[-1] == len(space.marker_ids) + len(space.tree.context_tokens) + (limit == 14)


def test_a_cache_that_forgets_is_read_by_whole_sequences(caplog):
    engine = make_engine("1-10", warm_judge("1-10", config_class=MistralConfig, sliding_window=8))
    with caplog.at_level(logging.WARNING):
        rows = judge_and_check(engine)
    assert {"ok", "missing"} <= {judgment.status for judgment, _ in rows}
    assert [r.message.split()[0] for r in caplog.records if "read by forwards" in r.message] == ["MistralForCausalLM"]


def test_a_label_cut_by_the_length_limit_is_not_a_label():
    """`"1"` at the limit might have become `"10"`: the distribution is read where the label begins."""
    whole = make_engine("0-100", do_sample=False)
    rows = judge_and_check(whole)
    judgment, label = next((judgment, label) for judgment, label in rows if judgment.status == "ok" and len(label) > 1)
    limit = judgment.num_tokens - 2  # without EOS and the last digit
    cut = judge_and_check(make_engine("0-100", do_sample=False, max_new_tokens=limit))
    shorter = [(j, ids) for j, ids in cut if j.status == "truncated" and ids == label[:-1]]
    assert shorter and all(j.num_tokens == limit for j, _ in shorter)
    assert shorter[0][0].probabilities == pytest.approx(judgment.probabilities, abs=1e-6)
    dropped = make_engine("0-100", do_sample=False, max_new_tokens=limit, malformed="drop")
    assert {j.probabilities is None for _, j in dropped.judge(PROMPTS) if j.status == "truncated"} == {True}


def test_labels_of_one_token_need_no_further_forward():
    space = ScoreSpace.from_labels("1-9", zoo.smollm())
    engine = TransformersEngine(
        warm_judge("1-10"), space.tokenizer, space, Decoding(max_new_tokens=32, malformed="drop")
    )
    lengths = []
    hook = engine.model.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["input_ids"].size(1)), with_kwargs=True
    )
    judgments = [judgment for _, judgment in engine.judge(PROMPTS[:8], seed=1)]
    hook.remove()
    assert "ok" in {judgment.status for judgment in judgments}
    assert lengths[1:] == [1] * (len(lengths) - 1) and len(lengths) == max(j.num_tokens for j in judgments)


def test_normalized_expectation():
    plain = [j for _, j in make_engine("1-10").judge(PROMPTS, seed=1)]
    normalized = [j for _, j in make_engine("1-10", normalize_expectation=True).judge(PROMPTS, seed=1)]
    assert min(j.mass for j in plain) < 0.999
    for one, other in zip(plain, normalized, strict=True):
        assert one.probabilities == other.probabilities
        assert other.expected_score == pytest.approx(one.expected_score / one.mass, rel=1e-4)
