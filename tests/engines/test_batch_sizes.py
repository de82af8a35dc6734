# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`batch_size: auto` and `device`: a batch that does not fit is halved, and judgments are those of any other batch size."""

import pytest
import torch

from real_trl.engines import Decoding, TransformersEngine
from real_trl.engines.options import EngineOptions
from real_trl.engines.registry import ENGINES
from real_trl.score_space import ScoreSpace
from tests.tiny import LINES, PROMPT, TOKENIZER, warm_model

SPACE = ScoreSpace.from_labels("1-5", TOKENIZER)
PROMPTS = [f"{PROMPT}\n{LINES[i % len(LINES)]}" for i in range(10)]


def make_engine(batch_size, **decoding):
    return TransformersEngine(
        warm_model(), TOKENIZER, SPACE, Decoding(max_new_tokens=8, **decoding), batch_size=batch_size
    )


def with_memory_for(most: int, engine: TransformersEngine, method: str) -> list[int]:
    """Lets the engine run out of memory in batches of more; returns the sizes that it tries."""
    tried, real = [], getattr(engine, method)

    def limited(texts):
        tried.append(len(texts))
        if len(texts) > most:
            torch.rand(3)  # it had begun to sample
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(texts)

    setattr(engine, method, limited)
    return tried


def judged(engine, seed=5):
    found = dict(engine.judge(PROMPTS, seed=seed))
    return [found[place] for place in range(len(PROMPTS))]


@pytest.mark.parametrize(
    ("decoding", "method", "sizes"),
    [
        ({"do_sample": False}, "_judge_batch", [8, 4, 2, 2, 2, 2, 2]),
        ({"rationale": False}, "_prefilled", [7, 3, 3, 1, 3]),  # prompts that begin alike are read together
    ],
)
def test_the_same_judgments_in_batches_that_fit(decoding, method, sizes):
    expected = judged(make_engine(1, **decoding))
    engine = make_engine("auto", **decoding)
    tried = with_memory_for(3, engine, method)
    for judgment, right in zip(judged(engine), expected, strict=True):
        assert judgment.completion == right.completion
        assert judgment.probabilities == pytest.approx(right.probabilities, abs=1e-5)
    assert tried == sizes and engine.batch_size == min(sizes[1:3])
    judged(engine)
    assert max(tried[len(sizes) :]) == engine.batch_size  # what was found holds


def test_what_is_sampled_does_not_depend_on_what_was_tried():
    engine, small = make_engine("auto"), make_engine(2)
    with_memory_for(3, engine, "_judge_batch")
    assert [judgment.completion for judgment in judged(engine)] == [judgment.completion for judgment in judged(small)]


def test_what_does_not_fit_alone_or_is_another_error_is_raised():
    engine = make_engine("auto", do_sample=False)
    tried = with_memory_for(0, engine, "_judge_batch")
    with pytest.raises(torch.OutOfMemoryError):
        judged(engine)
    assert tried == [8, 4, 2, 1]
    engine = make_engine(4, do_sample=False)  # a size that was asked for is not changed
    tried = with_memory_for(3, engine, "_judge_batch")
    with pytest.raises(torch.OutOfMemoryError):
        judged(engine)
    assert tried == [4]


def test_how_it_is_said():
    assert EngineOptions(batch_size="auto").batch_size == "auto" and EngineOptions(batch_size="16").batch_size == 16
    assert [ENGINES[name].units_per_call("auto") for name in ("transformers", "vllm")] == [64, 256]
    for value, words in {
        "many": "or to auto",
        0: "1 or more",
        "0": "1 or more",
        1.5: "whole number",
        None: "whole number",
    }.items():
        with pytest.raises(ValueError, match=f"batch_size: .*{words}"):
            EngineOptions(batch_size=value)


def test_a_device_that_is_not_there():
    assert EngineOptions(device="cpu").device == "cpu"
    for options, words in (
        ({"device": "cuda:99"}, "device: got 'cuda:99', which is not to be had here"),
        ({"device": "gpu"}, "device: got 'gpu', which is not to be had here"),
        ({"device": "cpu", "engine": "server"}, "the engine 'server' says itself where the model runs"),
        ({"device": "cpu", "engine_options": {"device_map": "auto"}}, "beside device_map in engine_options"),
    ):
        with pytest.raises(ValueError, match=words):
            EngineOptions(**options)
