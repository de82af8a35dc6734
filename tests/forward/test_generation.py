# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Generation with shared prefill against transformers' plain `generate`: tokens, distribution, and what is computed."""

import copy
import itertools
import logging
import math

import pytest
import torch
from peft import get_peft_model
from scipy.stats import chisquare
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaConfig,
    LogitsProcessor,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
)

from real_trl.forward import generation as group_generation
from real_trl.forward import prompt_cache
from real_trl.forward import shared_cache as decoding_cache
from real_trl.forward.generation import FinishedRows, generate_groups, prefix_attention_installed, shared_prefill
from real_trl.forward.packed_attention import PREFIX_ATTENTION
from real_trl.forward.padded_head import padded_head
from tests.forward.test_shared_prefix import CONFIGS, VOCABULARY
from tests.tiny import lora_config

PAD, STOPS = 0, [5, 6]
# Groups of three, one and two; the first two tokens of the last prompt are the prompt before
PROMPTS = [[3, 1, 4, 1, 5, 9]] * 3 + [[2, 7]] + [[2, 7, 1, 8]] * 2


@pytest.fixture(autouse=True)
def nothing_was_warned_of():
    """A reason is logged once in a process; other tests may have given it already."""
    group_generation._warn_once.cache_clear()


def build(architecture="llama", dtype=torch.float32, seed=0, **changes):
    torch.manual_seed(seed)
    config = CONFIGS[architecture]()
    config.update(changes)
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def greedy(**changes):
    settings = {"max_new_tokens": 40, "do_sample": False, "pad_token_id": PAD, "eos_token_id": STOPS, **changes}
    return GenerationConfig(**settings)


def plain(model, prompts, config):
    """`generate` with the prompts padded on the left, without anything of ours."""
    width = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return model.generate(ids.to(model.device), attention_mask=mask.to(model.device), generation_config=config)


class Forwards:
    """The shapes of all inputs that a model is given meanwhile."""

    def __init__(self, model):
        self.model, self.shapes = model, []

    def __enter__(self):
        def note(module, args, kwargs):
            self.shapes.append(tuple(kwargs["input_ids"].shape))

        self.hook = self.model.register_forward_pre_hook(note, with_kwargs=True)
        return self.shapes

    def __exit__(self, *error):
        self.hook.remove()


def lengths(sequences, width):
    """Tokens of each completion up to the first stop token, that included."""
    ends = [[token in STOPS for token in row[width:].tolist()] for row in sequences]
    return [row.index(True) + 1 if True in row else len(row) for row in ends]


@pytest.mark.parametrize("architecture", CONFIGS)
def test_greedy_tokens_are_those_of_generate(architecture):
    ended = set()
    for seed in range(2):
        model = build(architecture, seed=seed)
        prompts = [*PROMPTS, [seed + 1], [9, 9, 5]]
        free = plain(model, prompts, greedy(eos_token_id=None))[:, 6:].tolist()
        config = greedy(eos_token_id=[free[0][12], free[3][5]])
        expected = plain(model, prompts, config)
        with Forwards(model) as shapes:
            assert torch.equal(generate_groups(model, prompts, config, PAD).sequences, expected)
        assert shapes[0] == (1, 6 + 2 + 4 + 1 + 3)  # no copy of a prompt, no padding
        ended |= {size for size, _ in shapes[1:]}
    assert len(ended) > 1  # they did not all end together


@pytest.mark.parametrize(
    "changes",
    [
        {"repetition_penalty": 1.4},
        {"no_repeat_ngram_size": 2},
        {"bad_words_ids": [[7], [8, 9]], "suppress_tokens": [11]},
        {"min_new_tokens": 12},
        {"max_new_tokens": 1},
        {"max_new_tokens": None, "max_length": 13},
        {"exponential_decay_length_penalty": (3, 1.5)},
    ],
)
def test_processors_and_limits_are_those_of_generate(changes):
    for seed in range(2):
        model = build(seed=seed)
        expected = plain(model, PROMPTS, greedy(**changes))
        with Forwards(model) as shapes:
            assert torch.equal(generate_groups(model, PROMPTS, greedy(**changes), PAD).sequences, expected)
        assert shapes[0] == (1, 12)


def test_the_models_own_defaults_fill_what_is_left_open():
    model = build()
    unpenalized = plain(model, PROMPTS, greedy())
    model.generation_config.repetition_penalty = 1.6
    expected = plain(model, PROMPTS, greedy())
    assert torch.equal(generate_groups(model, PROMPTS, greedy(), PAD).sequences, expected)
    assert expected.shape != unpenalized.shape or not torch.equal(expected, unpenalized)


def test_a_mask_that_is_none_is_one_of_ones():
    """transformers 5.24 drops a mask without padding before it calls the decoding method."""
    model, prompts = build(), [[2, 7, 1, 8]] * 2 + [[3, 1, 4, 1]]
    ids = torch.tensor(prompts)

    def without_mask(model, input_ids, **kwargs):
        return shared_prefill(model, input_ids, **{**kwargs, "attention_mask": None})

    inputs = {"attention_mask": torch.ones_like(ids), "generation_config": greedy()}
    with prefix_attention_installed(model):
        sequences = model.generate(ids, **inputs, custom_generate=without_mask)
    assert sequences.tolist() == plain(model, prompts, greedy()).tolist()


def test_buffers_grow():
    """Over several sizes of the buffers, and with rows that are dropped in between."""
    model = build(max_position_embeddings=512)
    config = greedy(max_new_tokens=200, eos_token_id=[5])
    assert lengths(plain(model, PROMPTS, config), 6)[0] > 3 * decoding_cache._ROOM
    assert torch.equal(generate_groups(model, PROMPTS, config, PAD).sequences, plain(model, PROMPTS, config))


def test_long_prompts_are_read_in_several_forwards(monkeypatch):
    monkeypatch.setattr(decoding_cache, "_PACKED_TOKENS", 8)
    model = build()
    with Forwards(model) as shapes:
        sequences = generate_groups(model, [*PROMPTS, [1] * 11], greedy(), PAD).sequences
    assert shapes[:3] == [(1, 8), (1, 4), (1, 11)]
    assert torch.equal(sequences, plain(model, [*PROMPTS, [1] * 11], greedy()))


@pytest.mark.parametrize("truncation", [{}, {"top_p": 0.8}, {"top_k": 2}, {"min_p": 0.3}])
def test_sampled_completions_have_their_exact_probabilities(truncation):
    """Chi-square over every completion of up to three tokens of a vocabulary of four, token 1 ending it."""
    config = LlamaConfig(
        vocab_size=4, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, initializer_range=0.4, pad_token_id=0, bos_token_id=None, eos_token_id=1,
    )  # fmt: skip
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config).eval()
    temperature, samples, prompts = 1.4, 4000, ([2, 3, 3], [3])
    truncation = {"top_k": 0, **truncation}
    sampling = GenerationConfig(
        max_new_tokens=3, do_sample=True, temperature=temperature, pad_token_id=0, eos_token_id=1, **truncation
    )
    torch.manual_seed(0)
    output = generate_groups(model, [prompt for prompt in prompts for _ in range(samples)], sampling, 0).sequences
    for group, prompt in enumerate(prompts):
        drawn = [tuple(row) for row in output[group * samples : (group + 1) * samples, 3:].tolist()]
        exact = _completions(model.double(), prompt, temperature, truncation)
        model.float()
        assert math.isclose(sum(exact.values()), 1.0, rel_tol=1e-9)
        possible = [completion for completion, p in exact.items() if p > 0]
        assert set(drawn) <= set(possible)
        expected = [samples * exact[completion] for completion in possible]
        observed = [drawn.count(completion) for completion in possible]
        # Rare completions are counted together
        rare = [index for index, count in enumerate(expected) if count < 5]
        tables = [
            [count for index, count in enumerate(counts) if index not in rare]
            + [sum(counts[index] for index in rare)] * bool(rare)
            for counts in (observed, expected)
        ]
        assert len(tables[0]) > 3
        assert chisquare(*tables).pvalue > 1e-3


@pytest.mark.parametrize("drawn", [None, 0.0, 1 - 2**-53])
@pytest.mark.parametrize("vocabulary", [5, 256, 257, 1000])
def test_a_token_is_drawn_from_its_place_in_the_distribution(vocabulary, drawn, monkeypatch):
    """Against the cumulative distribution of the whole vocabulary, in which the first and the last tokens and some between are excluded."""
    torch.manual_seed(1)
    scores = 3 * torch.randn(400, vocabulary)
    scores[:, [0, 2, -1]] = -torch.inf
    scores[:, 300:520] = -torch.inf
    places = torch.rand(400, 1, dtype=torch.float64) if drawn is None else torch.full((400, 1), drawn).double()
    monkeypatch.setattr(torch, "rand", lambda *args, **kwargs: places)
    tokens = group_generation._sampled(scores)
    if drawn is None:
        expected = torch.searchsorted(scores.double().softmax(-1).cumsum(-1), places, right=True).squeeze(1)
        # Float32 moves the ends by 1e-7: a draw beside one may have the neighbour
        assert (tokens == expected).float().mean() > 0.99
    assert scores[torch.arange(400), tokens].isfinite().all()


@pytest.mark.parametrize("bias", [False, True])
def test_the_head_of_a_decoding_step_is_padded_and_gives_the_same(bias):
    model = build()
    model.lm_head = head = torch.nn.Linear(model.config.hidden_size, VOCABULARY, bias=bias)
    with padded_head(model):
        for rows in range(1, 20):
            hidden = torch.randn(rows, 1, model.config.hidden_size)
            expected = torch.nn.functional.linear(hidden, head.weight, head.bias)
            torch.testing.assert_close(head(hidden), expected, rtol=1e-6, atol=1e-6)
        assert "forward" in vars(head)
    assert "forward" not in vars(head)


def test_a_head_of_another_type_or_kind_is_left_alone():
    adapted = get_peft_model(build(), lora_config(target_modules=["lm_head"])).base_model.model
    for model in (build(dtype=torch.bfloat16), adapted):
        with padded_head(model):
            assert "forward" not in vars(model.get_output_embeddings())


def _completions(model, prompt, temperature, truncation):
    """Probability of each completion, by a full forward for each of its tokens and truncation as it is defined."""
    exact = {}
    for tokens in itertools.product(range(4), repeat=3):
        probability, ids = 1.0, list(prompt)
        for token in tokens:
            if 1 in ids[len(prompt) :]:  # ended: padding follows
                probability *= float(token == 0)
                continue
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0, -1] / temperature
            probability *= _truncated(logits.softmax(-1), truncation)[token].item()
            ids.append(token)
        exact[tokens] = probability
    return exact


def _truncated(probabilities, truncation):
    order = probabilities.argsort(descending=True)
    kept = torch.ones_like(probabilities, dtype=torch.bool)
    if truncation["top_k"]:
        kept[order[truncation["top_k"] :]] = False
    if "top_p" in truncation:
        kept[order] = probabilities[order].cumsum(0) - probabilities[order] < truncation["top_p"]
    if "min_p" in truncation:
        kept &= probabilities >= truncation["min_p"] * probabilities.max()
    probabilities = probabilities * kept
    return probabilities / probabilities.sum()


def test_a_seed_decides_the_samples():
    model = build()

    def sampled(seed):
        torch.manual_seed(seed)
        return generate_groups(model, PROMPTS, greedy(do_sample=True, top_k=0), PAD).sequences

    assert torch.equal(sampled(1), sampled(1))
    assert sampled(1).shape != sampled(2).shape or not torch.equal(sampled(1), sampled(2))
    first, second = sampled(1)[0], sampled(1)[1]
    assert not torch.equal(first, second)  # of the same group


def test_finished_rows_cost_nothing():
    model = build()
    torch.manual_seed(0)
    with Forwards(model) as shapes:
        sequences = generate_groups(model, PROMPTS * 3, greedy(do_sample=True, top_k=0), PAD).sequences
    ends = lengths(sequences, 6)
    assert len(set(ends)) > 5
    # The prompt of a group once, as often as the group comes up, and every token but the last of a completion
    assert shapes[0] == (1, 3 * (6 + 2 + 4))
    assert shapes[1:] == [(sum(end > step for end in ends), 1) for step in range(1, max(ends))]


def test_a_finished_group_drops_its_prompt(monkeypatch):
    held = []
    keep = prompt_cache.PromptAttention.keep

    def watched(self, rows):
        keep(self, rows)
        held.append([len(stacked[0]) for bucket in self._buckets for stacked in bucket.stacked.values()])

    monkeypatch.setattr(prompt_cache.PromptAttention, "keep", watched)
    torch.manual_seed(0)
    prompts = PROMPTS + [[7, 2], [2, 8], [7, 8]]  # four of two tokens, two of four and six
    generate_groups(build(), prompts, greedy(do_sample=True, top_k=0, max_new_tokens=100), PAD)
    assert max(map(sum, held)) <= 2 * 6
    assert sum(held[-1]) < sum(held[0])
    assert all(0 < prompts <= 4 for step in held for prompts in step)


def test_prompts_that_are_equally_long_go_in_one_call(monkeypatch):
    calls = []
    attend_each = prompt_cache.attend_each

    def counted(query, *args):
        calls.append(query.shape[0])
        return attend_each(query, *args)

    monkeypatch.setattr(prompt_cache, "attend_each", counted)
    model, prompts = build(), [[3, 1, 4]] * 3 + [[1, 5, 9], [2, 6, 5], [2, 7]]
    expected = plain(model, prompts, greedy())
    sequences = generate_groups(model, prompts, greedy(), PAD).sequences
    assert torch.equal(sequences, expected)
    steps = len(calls) // 4  # two layers, two lengths
    assert calls[:4] == [3, 1] * 2 and len(calls) <= 4 * (steps + 1)


@pytest.mark.parametrize("wrapped", [True, False])
def test_adapters_take_part(wrapped):
    base = build()
    without = plain(base, PROMPTS, greedy())
    model = get_peft_model(base, lora_config()).eval()
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    expected = plain(model, PROMPTS, greedy())
    assert expected.shape != without.shape or not torch.equal(expected, without)
    with Forwards(base) as shapes:
        output = generate_groups(model if wrapped else model.get_base_model(), PROMPTS, greedy(), PAD)
    assert torch.equal(output.sequences, expected)
    assert shapes[0] == (1, 12)


def test_bfloat16_chooses_what_is_likely():
    """Each greedy token is, up to bfloat16's rounding, the most likely one of the same weights in float32."""
    model = build(dtype=torch.bfloat16)
    reference = copy.deepcopy(model).float()
    with Forwards(model) as shapes:
        sequences = generate_groups(model, PROMPTS, greedy(), PAD).sequences
    assert shapes[0] == (1, 12)
    for prompt, row, length in zip(PROMPTS, sequences, lengths(sequences, 6), strict=True):
        completion = row[6 : 6 + length]
        with torch.no_grad():
            logits = reference(torch.cat([torch.tensor(prompt), completion]).unsqueeze(0)).logits[
                0, len(prompt) - 1 : -1
            ]
        assert (logits.max(-1).values - logits.gather(1, completion.unsqueeze(1)).squeeze(1)).max() < 0.05
    assert lengths(sequences, 6)[0] > 5


@pytest.mark.parametrize(
    ("changes", "config", "reason"),
    [
        ({}, {"num_beams": 2}, "the decoding method is beam_search"),
        ({}, {"cache_implementation": "static"}, "cache_implementation is 'static'"),
        ({}, {"encoder_repetition_penalty": 1.5}, "EncoderRepetitionPenaltyLogitsProcessor may depend on which rows"),
        ({"architecture": "mistral", "sliding_window": 4}, {}, "some layers have a sliding window"),
    ],
)
def test_plain_generate_stands_in_where_sharing_would_not_be_exact(changes, config, reason, caplog):
    model = build(**changes)
    if "static" in config.values():
        config = {**config, "disable_compile": True}
    expected = plain(model, PROMPTS, greedy(**config))
    with caplog.at_level(logging.WARNING), Forwards(model) as shapes:
        output = generate_groups(model, PROMPTS, greedy(**config), PAD)
    assert torch.equal(output.sequences, expected)
    assert shapes[0] == (len(PROMPTS) * config.get("num_beams", 1), 6)
    assert reason in caplog.text


def test_dropout_matters_only_in_training(caplog):
    model = build(attention_dropout=0.5)
    with caplog.at_level(logging.WARNING), Forwards(model) as shapes:
        generate_groups(model, PROMPTS, greedy(), PAD)
        assert shapes[0] == (1, 12) and not caplog.text
        shapes.clear()
        generate_groups(model.train(), PROMPTS, greedy(), PAD)
        assert shapes[0] == (6, 6) and "attention_dropout is 0.5" in caplog.text


def test_attention_is_what_it_was():
    model = build()
    assert model.config._attn_implementation == "sdpa"
    with Forwards(model):
        generate_groups(model, PROMPTS, greedy(max_new_tokens=2), PAD)
    assert model.config._attn_implementation == "sdpa"
    model.set_attn_implementation(PREFIX_ATTENTION)
    generate_groups(model, PROMPTS, greedy(max_new_tokens=2), PAD)
    assert model.config._attn_implementation == PREFIX_ATTENTION


class Watcher(LogitsProcessor):
    """Notes the last tokens that it is shown, for the rows that are left."""

    def __init__(self, rows):
        self.rows, self.seen = list(range(rows)), [[] for _ in range(rows)]

    def keep_rows(self, rows):
        self.rows = [self.rows[row] for row in rows]

    def __call__(self, input_ids, scores):
        for row, ids in zip(self.rows, input_ids, strict=True):
            self.seen[row].append(ids[-1].item())
        return scores


def test_processors_of_ones_own_follow_the_rows():
    model, watcher = build(), Watcher(len(PROMPTS))
    torch.manual_seed(0)
    config = greedy(do_sample=True, top_k=0, return_dict_in_generate=True)
    output = generate_groups(model, PROMPTS, config, PAD, LogitsProcessorList([watcher]))
    ends = lengths(output.sequences, 6)
    assert len(set(ends)) > 2
    for row, end, seen in zip(output.sequences.tolist(), ends, watcher.seen, strict=True):
        assert seen == row[5 : 6 + end - 1]
    # The keys of what was read stay, for whoever wants to go on from there
    caches = output.past_key_values
    assert isinstance(caches, FinishedRows) and caches.groups == [0, 0, 0, 1, 2, 2]
    assert [caches.own[row][0][0].size(1) if end > 1 else 0 for row, end in enumerate(ends)] == [
        end - 1 for end in ends
    ]


def test_a_processors_lengths_by_row_follow_the_rows():
    """The repetition penalty has one for each row from transformers 5.24 on."""
    penalty = RepetitionPenaltyLogitsProcessor(1.5)
    penalty.prompt_ignore_length = torch.tensor([3, 0, 2])
    group_generation._keep_rows(penalty, [0, 2])
    assert penalty.prompt_ignore_length.tolist() == [3, 2]


def test_logits_of_nan_are_an_error():
    model = build()
    torch.nn.init.constant_(model.lm_head.weight, math.nan)
    with pytest.raises(RuntimeError, match="The logits hold NaN or infinity, so there is nothing to sample from"):
        generate_groups(model, PROMPTS, greedy(do_sample=True), PAD)


def test_vocabulary_has_the_tokens_used_above():
    assert max(itertools.chain(STOPS, *PROMPTS)) < VOCABULARY


class AlwaysSeven(LogitsProcessor):
    """Lets every row go on with the same token, and keeps what was read and the logits of each step."""

    def __init__(self):
        self.steps = []

    def keep_rows(self, rows):
        pass

    def __call__(self, input_ids, scores):
        self.steps.append((input_ids.clone(), scores.double()))
        return torch.full_like(scores, -1.0).index_fill(1, torch.tensor([7]), 1.0)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2"])
def test_under_autocast_it_is_as_near_to_the_truth_as_generate(architecture):
    """Keys, values and queries leave the layers in different types there. Logits of every step, of the same greedy tokens."""
    model = build(architecture)
    exact = copy.deepcopy(model).double()
    errors = []
    for shared in (True, False):
        note = AlwaysSeven()
        config = greedy(max_new_tokens=8)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            if shared:
                generate_groups(model, PROMPTS, config, PAD, LogitsProcessorList([note]))
            else:
                model_inputs = [torch.tensor([[PAD] * (6 - len(p)) + p for p in PROMPTS])]
                mask = torch.tensor([[0] * (6 - len(p)) + [1] * len(p) for p in PROMPTS])
                model.generate(
                    *model_inputs,
                    attention_mask=mask,
                    generation_config=config,
                    logits_processor=LogitsProcessorList([note]),
                )
        total = 0.0
        for ids, logits in note.steps:
            for row, prompt in enumerate(PROMPTS):
                with torch.no_grad():
                    truth = exact(ids[row : row + 1, 6 - len(prompt) :]).logits[0, -1]
                total += ((logits[row] - truth).norm() / truth.norm()).item()
        assert len(note.steps) == 8
        errors.append(total)
    assert 0 < errors[0] < 1.3 * errors[1]
