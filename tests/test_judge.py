# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`Judge` as people use it, on a tiny judge saved in a folder."""

import copy
import json
import math
from decimal import Decimal
from enum import Enum

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from transformers import GPT2Config, GPT2LMHeadModel

from real_trl import Judge, JudgeConfig
from real_trl.engines import Decoding, TransformersEngine
from real_trl.engines.averaging import average_judgments
from real_trl.engines.prompt_encoder import PromptEncoder
from real_trl.integrations.prompt_fields import PromptFields
from real_trl.judge import as_rows
from real_trl.prompts.template import PromptTemplate
from real_trl.score_space import ScoreSpace
from tests.tiny import LINES, PROMPT, TOKENIZER, chat_tokenizer, encode, prompt_dataset, warm_model

SPACE = ScoreSpace.from_labels("1-5", TOKENIZER)
TEMPLATE = PromptTemplate("{{ instruction }}\n{{ response }}\n", "homework.jinja")
FIELDS = {"instruction": PROMPT, "response": "\n".join(LINES[:2])}
SETTINGS = {"max_new_tokens": 24}


def save_judge(folder, template=TEMPLATE, tokenizer=TOKENIZER, **config):
    warm_model().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    judge = JudgeConfig.from_space(SPACE, **config)
    judge.use_template(template)
    judge.save(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_judge(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def judge(folder):
    return Judge.from_pretrained(folder, **SETTINGS)


def test_a_judge_is_printed_in_a_line(judge, folder):
    said = f"Judge({folder}: a rationale and a score on the scale 1, 2, 3, 4, 5, TransformersEngine)"
    assert repr(judge) == str(judge) == said


def test_a_judgment_has_everything(judge):
    judgment = judge.score(**FIELDS)
    assert list(judgment.probabilities) == list(judge.labels)
    rationale, _, label = judgment.completion.rpartition(" So the overall score is ")
    assert judgment.status == "ok" and judgment.rationale == rationale and judgment.sampled_score == float(label)
    ids = TOKENIZER(f"{PROMPT}\n{FIELDS['response']}")["input_ids"]
    assert judgment.prompt_tokens == len(ids) and judgment.num_tokens == len(encode(judgment.completion))
    before = encode(judgment.completion.rpartition(" ")[0], eos=False)
    with torch.no_grad():
        logits = judge.engine.model(torch.tensor([ids + before])).logits[0, -1]
    expected = logits.softmax(-1)[[path[0] for path in SPACE.token_ids]].tolist()
    assert list(judgment.probabilities.values()) == pytest.approx(expected, abs=1e-5)
    mean = sum(k * p for k, p in enumerate(expected, 1))
    assert judgment.expected_score == pytest.approx(mean, abs=1e-5)
    assert judgment.most_likely_score == 1 + expected.index(max(expected))
    assert judgment.mass == pytest.approx(sum(expected), abs=1e-5) and judgment.missing_mass == 0
    share = [p / sum(expected) for p in expected]
    centre = sum(k * p for k, p in enumerate(share, 1))
    spread = math.sqrt(sum(p * (k - centre) ** 2 for k, p in enumerate(share, 1)))
    assert judgment.spread == pytest.approx(spread, abs=1e-5)


def test_lists_rows_and_datasets_are_judged_alike(judge):
    responses = ["\n".join(LINES[: n + 1]) for n in range(3)]
    as_lists = judge.score(instruction=PROMPT, response=responses)  # one instruction for all
    rows = [{"instruction": PROMPT, "response": response} for response in responses]
    assert as_lists == judge.score(rows) == judge.score(Dataset.from_list(rows))
    assert as_lists == judge.score(prompt=prompt_dataset([1.0] * 3)["prompt"][:])
    assert [j.prompt_tokens for j in as_lists] == sorted(j.prompt_tokens for j in as_lists)  # in the order given
    assert judge.score(response=[], instruction=PROMPT) == []


def test_other_ways_to_give_rows(judge):
    (expected,) = judge.score([FIELDS])
    assert judge.score(FIELDS) == expected  # one row, one judgment
    frame = pd.DataFrame([FIELDS])
    assert (
        judge.score(frame) == judge.score(instruction=frame["instruction"], response=frame["response"]) == [expected]
    )
    assert judge.score([]) == []


def test_cells_of_tables_are_what_they_say(judge):
    """Gaps of every kind, classes, categories, enums, and half a character."""
    template = PromptTemplate(
        "{{ response }}{% if reference is defined %}|{{ reference }}{% endif %}|{{ kind }}", "own.jinja"
    )
    judge = Judge(judge.engine, copy.copy(judge.config))
    judge._template = template

    def prompts(rows):
        return judge.prompts(as_rows(rows, "score"))

    gaps = [None, math.nan, pd.NA, pd.NaT, np.float32("nan"), Decimal("NaN")]
    assert judge.prompts([{"response": "a", "kind": "x", "reference": gap} for gap in gaps]) == ["a|x"] * len(gaps)
    frame = pd.DataFrame(
        {"response": pd.Categorical(["a", "b"]), "reference": pd.array(["r", None], "string"), "kind": [1.5, 2]}
    )
    assert prompts(frame) == ["a|r|1.5", "b|2.0"]
    features = Features({"response": Value("large_string"), "kind": ClassLabel(names=["essay", "poem"])})
    dataset = Dataset.from_dict({"response": ["a", "b"], "kind": [1, 0]}, features=features)
    for rows in (
        dataset,
        dataset.with_format("numpy"),
        dataset.to_iterable_dataset(),
        dataset.select([1, 0]).select([1, 0]),
    ):
        assert prompts(rows) == ["a|poem", "b|essay"]
    table = pa.table({"response": ["a"], "kind": pa.array(["poem"]).dictionary_encode()})
    assert (
        prompts(table)
        == prompts(dataset.with_transform(lambda batch: {"response": ["a"], "kind": ["poem"]}).select([0]))
        == ["a|poem"]
    )
    kind = Enum("Kind", {"POEM": "poem"}, type=str)
    assert prompts([{" response ": np.str_("a \ud83d"), "kind": kind.POEM}]) == ["a \ufffd|poem"]


def test_rows_of_several_splits_are_refused(judge):
    splits = DatasetDict(train=Dataset.from_list([FIELDS]), test=Dataset.from_list([FIELDS]))
    for rows in (splits, dict(splits)):
        with pytest.raises(ValueError, match="score: rows: got a .* of the splits 'train', 'test'. Choose one"):
            judge.score(rows)
    frame = pd.DataFrame([["a", "b"]], columns=["response", "response"])
    with pytest.raises(ValueError, match="score: the column name 'response' occurs twice"):
        judge.score(frame)


def test_the_callers_random_numbers_are_left_alone(judge):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    judge.score(**FIELDS, seed=5)
    assert torch.equal(torch.rand(2), expected)


def test_the_template_comes_with_the_judge(folder, tmp_path):
    stored = json.loads((folder / "judge_config.json").read_text())
    assert (stored["prompt_template"], stored["prompt_template_text"]) == ("homework.jinja", TEMPLATE.source)
    other = Judge.from_pretrained(folder, prompt_template="feedback_collection", **SETTINGS)
    assert "###Response to evaluate:" in other.prompts([{**FIELDS, "rubric": "right"}])[0]
    complete = Judge.from_pretrained(save_judge(tmp_path, template=None), **SETTINGS)
    with pytest.raises(ValueError, match="prompt: row 0 has none, and this judge was trained on complete prompts"):
        complete.score(**FIELDS)


def test_average_of_n(judge):
    judgment = judge.score(**FIELDS, num_samples=5, seed=3)
    samples = judgment.samples
    assert len(samples) == 5 and len({s.completion for s in samples}) > 1
    for name in ("expected_score", "sampled_score", "mass", "num_tokens"):
        assert getattr(judgment, name) == pytest.approx(sum(getattr(s, name) for s in samples) / 5)
    for label, p in judgment.probabilities.items():
        assert p == pytest.approx(sum(s.probabilities[label] for s in samples) / 5)
    share = [p / sum(judgment.probabilities.values()) for p in judgment.probabilities.values()]
    mean = sum(k * p for k, p in enumerate(share, 1))
    assert judgment.spread == pytest.approx(math.sqrt(sum(p * (k - mean) ** 2 for k, p in enumerate(share, 1))))
    assert judgment.most_likely_score == 1 + share.index(max(share))
    nearest = min(samples, key=lambda s: abs(s.expected_score - judgment.expected_score))
    assert judgment.rationale == nearest.rationale
    engine = TransformersEngine(judge.engine.model, TOKENIZER, SPACE, Decoding(do_sample=False, **SETTINGS))
    greedy = Judge(engine, judge.config)
    with pytest.raises(ValueError, match="num_samples: got 2 with do_sample false"):
        greedy.score(**FIELDS, num_samples=2)
    with pytest.raises(ValueError, match="num_samples: got 0"):
        judge.score(**FIELDS, num_samples=0)


def test_an_average_leaves_out_samples_without_scores(folder):
    dropping = Judge.from_pretrained(folder, malformed="drop", max_new_tokens=6)
    none = dropping.score(**FIELDS, num_samples=3)
    assert none.status == "missing" and none.expected_score is None and len(none.samples) == 3
    scored = Judge.from_pretrained(folder, **SETTINGS).score(**FIELDS)
    mixed = average_judgments([none.samples[0], scored, scored], SPACE.values)
    assert mixed.expected_score == scored.expected_score and mixed.status == "ok"


def test_a_seed_repeats_and_other_seeds_differ(judge):
    fields = {"instruction": PROMPT, "response": ["\n".join(LINES)] * 8}
    torch.manual_seed(5)
    first = judge.score(**fields, seed=1)
    torch.manual_seed(6)
    assert judge.score(**fields, seed=1) == first
    assert [j.completion for j in judge.score(**fields, seed=2)] != [j.completion for j in first]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda j: j.score(), "give either rows, or fields"),
        (lambda j: j.score("text"), "score: rows are mappings .* found a str, 'text'"),
        (lambda j: j.score(["text"]), "score: rows are mappings .* found a str, 'text'"),
        (lambda j: j.score(prompt=" "), "prompt: that of row 0 is empty"),
        (lambda j: j.score(**FIELDS, num_samples=2.5), "num_samples: got 2.5"),
        (lambda j: j.score([FIELDS], response="a"), "give either rows, or fields"),
        (lambda j: j.score(**{**FIELDS, "response": 5}), "response: got a int, 5. Give text"),
        (
            lambda j: j.score(instruction=PROMPT, response=["a", 3]),
            "response: that of row 1 holds 3 .a int.. Turn it into text",
        ),
        (lambda j: j.score(instruction=["a"], response=["a", "b"]), "lists of different lengths"),
        (
            lambda j: j.score(response="a"),
            r"instruction: row 0 has none, and the judge's prompt \(homework.jinja\) needs it",
        ),
        (
            lambda j: j.score(**FIELDS, rubric="Is it kind?"),
            r"rubric: the judge's prompt \(homework.jinja\) has no such field; it reads instruction, response. Leave it out",
        ),
    ],
)
def test_bad_fields_are_named(judge, call, message):
    with pytest.raises(ValueError, match=message):
        call(judge)


def test_blank_texts_that_a_prompt_needs_are_named(folder, tmp_path):
    judge = Judge.from_pretrained(folder, prompt_template="feedback_collection", **SETTINGS)
    good = {"instruction": "i", "response": "", "rubric": "c", "reference": ""}  # an answer may be empty
    assert len(judge.prompts([good, {**good, "rubric": " ", "orig_criteria": "c"}])) == 2
    for name, row in (
        ("instruction", {**good, "instruction": " "}),
        ("instruction", {**good, "orig_instruction": ""}),
        ("rubric", {**good, "rubric": "\n"}),
        ("criteria", {**good, "criteria": ""}),
    ):
        with pytest.raises(ValueError, match=f"{name}: that of row 1 is empty. Say what is judged"):
            judge.prompts([good, row])
        with pytest.raises(ValueError, match=f"{name}: the column .* is empty"):
            PromptFields(judge.config.template(), SPACE).render(row)


def test_a_missing_rubric_is_named(folder):
    judge = Judge.from_pretrained(folder, prompt_template="feedback_collection", **SETTINGS)
    with pytest.raises(ValueError, match="rubric: row 0 has none"):
        judge.score(**FIELDS)
    with pytest.raises(ValueError, match="rubric: that of row 0 holds .* .a list."):
        judge.score([{**FIELDS, "rubric": ["right"]}])


def test_any_model_judges_with_a_scale_and_a_marker(tmp_path):
    warm_model().save_pretrained(tmp_path)
    chat_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="score_labels: not set, and .* has no judge_config.json.*preset: prometheus"):
        Judge.from_pretrained(tmp_path)
    judge = Judge.from_pretrained(tmp_path, score_labels="1-5", chat=False, **SETTINGS)
    assert (
        judge.labels == ("1", "2", "3", "4", "5") and judge.score(prompt=prompt_dataset([1.0])["prompt"][0]).mass > 0
    )
    with pytest.raises(ValueError, match="preset: got 'gpt'. Set it to one of: prometheus, .*, feedback_collection"):
        Judge.from_pretrained(tmp_path, preset="gpt")


def test_the_prometheus_preset(tmp_path):
    from tests.tokenizers_zoo import smollm

    tokenizer = smollm()
    torch.manual_seed(0)
    GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_positions=1024, n_embd=16, n_layer=1, n_head=2, eos_token_id=0)
    ).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    judge = Judge.from_pretrained(tmp_path, preset="prometheus", max_new_tokens=8)
    assert judge.config.score_marker == "[RESULT] "
    (prompt,) = judge.prompts([{"instruction": "Say hi.", "response": "Hi!", "rubric": "Is it a greeting?"}])
    assert '"(write a feedback for criteria) [RESULT] (an integer number between 1 and 5)"' in prompt
    judgment = judge.score(instruction="Say hi.", response="So the overall score is 5 [RESULT] 5", rubric="Polite?")
    assert judgment.status == "missing"  # the response is no verdict of the judge


def test_what_the_judge_was_trained_with_is_not_contradicted(folder):
    with pytest.raises(ValueError, match=r"score_labels: got \['0', .* but the judge .* was trained with"):
        Judge.from_pretrained(folder, score_labels="0-9")
    with pytest.raises(ValueError, match="preset: got 'prometheus', but .* has a scale and prompt of its own"):
        Judge.from_pretrained(folder, preset="prometheus")


def test_a_prompt_longer_than_the_context_says_by_how_much(folder):
    judge = Judge.from_pretrained(folder, **SETTINGS)  # 256 tokens, 24 + 5 + 1 of them for the completion
    line = TOKENIZER("\n" + LINES[0])["input_ids"]
    long = PROMPT + ("\n" + LINES[0]) * 60
    size = len(TOKENIZER(PROMPT)["input_ids"]) + 60 * len(line)
    room = 256 - 24 - len(SPACE.marker_ids) - 1  # the last for a label of one token
    with pytest.raises(ValueError, match=rf"prompt 1 .* has {size} tokens, {size - room} too many"):
        judge.score(prompt=[PROMPT, long])
    cut = Judge.from_pretrained(folder, truncate_prompts=True, **SETTINGS).score(prompt=long)
    assert room - len(line) < cut.prompt_tokens <= room
    with pytest.raises(ValueError, match="max_new_tokens: .* none is left for a prompt"):
        Judge.from_pretrained(folder, max_new_tokens=255).score(prompt=PROMPT)


def test_truncation_keeps_the_end_and_the_chat_template():
    tokenizer = chat_tokenizer()
    decoding = Decoding(chat=True, max_new_tokens=10, malformed="drop", truncate_prompts=True)
    encode_prompts = PromptEncoder(tokenizer, SPACE, decoding, context_length=40)
    (ids,) = encode_prompts([PROMPT + ("\n" + LINES[0]) * 10 + "\n" + LINES[2]])
    end = tokenizer(LINES[0] + "\n" + LINES[2] + "\n\n")["input_ids"]
    assert 25 < len(ids) <= 30 and ids[-len(end) :] == end


def test_models_that_cannot_be_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # as HF_HUB_OFFLINE=1 sets it
    with pytest.raises(ValueError, match="model: the directory './nothing' does not exist"):
        Judge.from_pretrained("./nothing")
    with pytest.raises(ValueError, match="no tokenizer could be loaded from 'nobody/no-judge'.*path of its directory"):
        Judge.from_pretrained("nobody/no-judge")
    TOKENIZER.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no model could be loaded from the directory"):
        Judge.from_pretrained(tmp_path, score_labels="1-5")


def test_remote_code_is_not_run_unless_asked_for(tmp_path):
    witness = tmp_path / "ran"
    code = (
        "from pathlib import Path\nfrom transformers import LlamaConfig, LlamaForCausalLM\n"
        f"Path({str(witness)!r}).touch()\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    folder = save_judge(tmp_path / "judge")
    (folder / "own.py").write_text(code)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own",
        "architectures": ["OwnModel"],
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="trust_remote_code: .* has code of its own, which is not run unless you ask"):
        Judge.from_pretrained(folder, **SETTINGS)
    assert not witness.exists()
    assert Judge.from_pretrained(folder, trust_remote_code=True, **SETTINGS).score(**FIELDS).mass > 0
    assert witness.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "tgi"}, "engine: got 'tgi'. Set it to one of: transformers, vllm, server"),
        ({"engine": "server"}, "engine_options: engine 'server' needs base_url"),
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"dtype": "bf16"}, "dtype: got 'bf16'. Set it to auto, float32, bfloat16 or float16"),
        ({"temperature": 0}, "temperature: got 0. Set it above 0; for greedy decoding set do_sample to false"),
        ({"top_p": 0.0}, "top_p: got 0.0"),
        ({"max_new_tokens": 0}, "max_new_tokens: got 0"),
        ({"malformed": "ignore"}, "malformed: got 'ignore'"),
    ],
)
def test_impossible_options_are_refused(folder, options, message):
    with pytest.raises(ValueError, match=message):
        Judge.from_pretrained(folder, **options)
