# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The engine's score distribution against a plain forward over the text that it generated."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, set_seed

from real_trl.engines import Decoding, TransformersEngine
from real_trl.score_space import ScoreSpace
from tests.tiny import TOKENIZER, chat_tokenizer, encode, prompt_dataset, warm_model

SPACE = ScoreSpace.from_labels("1-5", TOKENIZER)
PROMPTS = prompt_dataset([1.0] * 3)["prompt"][:] * 4
MARKER = "So the overall score is"


def make_engine(model=None, tokenizer=TOKENIZER, batch_size=8, **decoding):
    decoding = Decoding(**{"max_new_tokens": 24, **decoding})
    return TransformersEngine(model or warm_model(), tokenizer, SPACE, decoding, batch_size=batch_size)


def judge(engine, prompts=PROMPTS, seed=0):
    """Judgments in the order of the prompts."""
    set_seed(seed)
    pairs = list(engine.judge(prompts))
    assert sorted(index for index, _ in pairs) == list(range(len(prompts)))
    return [judgment for _, judgment in sorted(pairs, key=lambda pair: pair[0])]


def dense_probabilities(model, ids, temperature=1.0):
    """The labels' probabilities after `ids`, by one unpadded forward."""
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1] / temperature
    return logits.softmax(-1)[[path[0] for path in SPACE.token_ids]].tolist()


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "top_p": 0.8}, {"do_sample": False}, {"batch_size": 5}])
def test_recorded_distribution_is_that_of_a_dense_forward(options):
    engine = make_engine(**options)
    judgments = judge(engine)
    assert [j.status for j in judgments].count("ok") >= 8
    for prompt, judgment in zip(PROMPTS, judgments, strict=True):
        if judgment.status != "ok":
            continue
        cot, _, score = judgment.completion.rpartition(" ")
        ids = TOKENIZER(prompt)["input_ids"] + encode(cot, eos=False)
        expected = dense_probabilities(engine.model, ids, options.get("temperature", 1.0))
        assert list(judgment.probabilities.values()) == pytest.approx(expected, abs=1e-5)
        assert judgment.expected_score == pytest.approx(sum(k * p for k, p in enumerate(expected, 1)), abs=1e-5)
        assert judgment.mass == pytest.approx(sum(expected), abs=1e-5)
        assert judgment.sampled_score == float(score)
        assert judgment.num_tokens == len(encode(judgment.completion))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_forced_distribution_is_that_of_the_marker_appended(temperature):
    engine = make_engine(max_new_tokens=6, temperature=temperature)  # the marker does not fit
    judgments = judge(engine)
    assert {j.status for j in judgments} == {"missing"}
    for prompt, judgment in zip(PROMPTS, judgments, strict=True):
        cot = encode(judgment.completion, eos=False)
        assert judgment.num_tokens == len(cot) == 6
        ids = TOKENIZER(prompt)["input_ids"] + cot + encode(MARKER, eos=False)
        expected = dense_probabilities(engine.model, ids, temperature)
        assert list(judgment.probabilities.values()) == pytest.approx(expected, abs=1e-5)
        assert judgment.sampled_score == 1 + expected.index(max(expected))


def test_padding_does_not_shift_absolute_positions():
    """The models above have rotary positions, which a shift leaves as they are; GPT-2's are absolute."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(TOKENIZER), n_positions=128, n_embd=32, n_layer=2, n_head=2, initializer_range=0.2
    )
    config.eos_token_id = config.bos_token_id = TOKENIZER.eos_token_id
    engine = make_engine(GPT2LMHeadModel(config), do_sample=False, max_new_tokens=6)
    for prompt, judgment in zip(PROMPTS[:3], judge(engine, PROMPTS[:3]), strict=True):
        ids = engine.model.generate(
            torch.tensor([TOKENIZER(prompt)["input_ids"]]), do_sample=False, max_new_tokens=6, pad_token_id=0
        )[0].tolist()
        assert judgment.status == "missing" and TOKENIZER.eos_token_id not in ids
        expected = dense_probabilities(engine.model, ids + encode(MARKER, eos=False))
        assert list(judgment.probabilities.values()) == pytest.approx(expected, abs=1e-6)


def test_ok_and_malformed_completions_share_a_batch():
    """Cut in the middle of the longest completions: the short ones are done, the others get the marker."""
    prompts = PROMPTS[:3]
    whole = judge(make_engine(do_sample=False), prompts)
    engine = make_engine(do_sample=False, max_new_tokens=max(j.num_tokens for j in whole) - 2)
    for prompt, judgment, complete in zip(prompts, judge(engine, prompts), whole, strict=True):
        if judgment.status == "ok":
            assert judgment == complete
            continue
        assert judgment.status == "truncated" and judgment.num_tokens == complete.num_tokens - 2
        ids = TOKENIZER(prompt)["input_ids"] + encode(f"{judgment.completion} {MARKER}", eos=False)
        assert list(judgment.probabilities.values()) == pytest.approx(dense_probabilities(engine.model, ids), abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 12, 100])
def test_greedy_judgments_do_not_depend_on_the_batch(batch_size):
    expected = judge(make_engine(do_sample=False, batch_size=12))
    assert len({j.completion for j in expected} | {round(j.expected_score, 4) for j in expected}) > 2  # prompts matter
    for judgment, other in zip(judge(make_engine(do_sample=False, batch_size=batch_size)), expected, strict=True):
        assert (judgment.completion, judgment.status, judgment.sampled_score, judgment.num_tokens) == (
            other.completion,
            other.status,
            other.sampled_score,
            other.num_tokens,
        )
        assert judgment.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_longest_prompts_come_first():
    lengths = [len(TOKENIZER(PROMPTS[index])["input_ids"]) for index, _ in make_engine(batch_size=4).judge(PROMPTS)]
    assert lengths == sorted(lengths, reverse=True) and len(set(lengths)) == 3


def test_samples_of_a_prompt_share_it():
    """The prompt is read once, then the tokens of the completions, then the marker of those that lack it."""
    engine = make_engine(max_new_tokens=12, batch_size=16)  # some end before, some are cut
    first, second = PROMPTS[0], PROMPTS[0].replace("12", "13")  # of the same length: they must not mix
    shapes = []
    hook = engine.model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    judgments = judge(engine, [first, second] * 8, seed=3)
    hook.remove()
    lengths = [j.num_tokens for j in judgments]
    forced = [j for j in judgments if j.status in ("missing", "truncated")]
    assert shapes[0] == (1, 2 * judgments[0].prompt_tokens)
    assert shapes[1:12] == [(sum(length > step for length in lengths), 1) for step in range(1, max(lengths))]
    assert shapes[12:] == [(len(forced), len(encode(MARKER, eos=False)) + 1)] and forced


def test_dropped_completions_have_no_scores():
    for judgment in judge(make_engine(max_new_tokens=6, malformed="drop")):
        assert judgment.status == "missing" and judgment.completion
        assert judgment.sampled_score is judgment.expected_score is judgment.probabilities is judgment.mass is None
    assert all(j.mass is not None for j in judge(make_engine(malformed="drop")) if j.status == "ok")


def test_a_seed_decides_everything():
    engine = make_engine()
    first, again, other = judge(engine, seed=1), judge(engine, seed=1), judge(engine, seed=2)
    assert first == again
    assert [j.completion for j in first] != [j.completion for j in other]


def test_temperature_sharpens_the_distribution():
    sharp, flat = judge(make_engine(temperature=0.1)), judge(make_engine(temperature=3.0, malformed="force"))
    assert min(max(j.probabilities.values()) for j in sharp) > max(max(j.probabilities.values()) for j in flat)


def test_the_models_own_decoding_defaults_do_not_touch_the_scores():
    """Instruction-tuned models ship a generation config with a repetition penalty; that is no part of the judge's policy."""
    model = warm_model()
    own = {"repetition_penalty": 1.8, "no_repeat_ngram_size": 2, "min_p": 0.2, "top_k": 2, "temperature": 0.3}
    model.generation_config.update(**own)
    assert judge(make_engine(model)) == judge(make_engine())
    assert {name: getattr(model.generation_config, name) for name in own} == own  # and stay the model's


def test_model_eos_tokens_end_a_completion():
    model = warm_model()
    close = encode(",", eos=False)[0]
    model.generation_config.eos_token_id = [TOKENIZER.eos_token_id, close]
    judgment = judge(make_engine(model, do_sample=False), PROMPTS[:1])[0]
    assert judgment.status == "missing" and judgment.completion.endswith(",")
    assert judgment.num_tokens == len(encode(judgment.completion, eos=False))


def test_chat_template_wraps_the_prompt():
    tokenizer = chat_tokenizer()
    engine = make_engine(tokenizer=tokenizer, chat=True)
    ids = engine.encode(PROMPTS[:2])
    assert ids == [tokenizer(prompt + "\n\n")["input_ids"] for prompt in PROMPTS[:2]]
    plain = judge(make_engine(do_sample=False), [prompt + "\n\n" for prompt in PROMPTS[:2]])
    assert judge(make_engine(tokenizer=tokenizer, chat=True, do_sample=False), PROMPTS[:2]) == plain


def test_unknown_handling_of_malformed_completions_is_refused():
    with pytest.raises(ValueError, match="malformed: got 'ignore'. Set it to one of: force, drop"):
        make_engine(malformed="ignore")
