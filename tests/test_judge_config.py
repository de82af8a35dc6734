# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import fields

import pytest

from real_trl.judge_config import JUDGE_CONFIG_NAME, JudgeConfig
from real_trl.prompts.template import PromptTemplate
from real_trl.score_space import ScoreSpace
from real_trl.versions import package_versions
from real_trl.weights.finite import check_finite, check_finite_files
from tests.tiny import TOKENIZER, build_model

SPACE = ScoreSpace.from_labels(["5", "3", "1"], TOKENIZER, marker="the score is ", values=[1.0, 0.5, 0.0])


def test_what_is_saved_is_what_is_loaded(tmp_path):
    config = JudgeConfig.from_space(
        SPACE, chat=True, temperature=0.7, method="regression", base_model="café/judge", training={"seed": 3}
    )
    config.save(tmp_path)
    assert JudgeConfig.load(tmp_path) == JudgeConfig.load(str(tmp_path)) == config
    text = (tmp_path / JUDGE_CONFIG_NAME).read_text(encoding="utf-8")
    assert "café" in text and text.endswith("}\n")


def test_the_score_space_comes_back(tmp_path):
    JudgeConfig.from_space(SPACE).save(tmp_path)
    space = JudgeConfig.load(tmp_path).score_space(TOKENIZER)
    assert space == SPACE
    assert (space.labels, space.values, space.marker) == (("5", "3", "1"), (1.0, 0.5, 0.0), "the score is ")


def test_versions_of_the_run_are_recorded():
    versions = JudgeConfig.from_space(SPACE).versions
    assert versions == package_versions()
    assert {"python", "torch", "transformers", "trl"} <= versions.keys()


def test_a_missing_file_says_what_to_state_instead(tmp_path):
    with pytest.raises(FileNotFoundError, match="no judge_config.json found.*score_labels"):
        JudgeConfig.load(tmp_path)


def test_corrupt_json_is_named(tmp_path):
    (tmp_path / JUDGE_CONFIG_NAME).write_text('{"score_labels": ["1", ')
    with pytest.raises(ValueError, match="judge_config.json: not valid JSON"):
        JudgeConfig.load(tmp_path)


def test_unknown_fields_are_named(tmp_path):
    JudgeConfig.from_space(SPACE).save(tmp_path)
    path = tmp_path / JUDGE_CONFIG_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "bias": 1}))
    with pytest.raises(ValueError, match=r"unknown fields \['bias'\]"):
        JudgeConfig.load(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"score_labels": ["1", "2"]}'])
def test_missing_fields_are_named(tmp_path, text):
    (tmp_path / JUDGE_CONFIG_NAME).write_text(text)
    with pytest.raises(ValueError, match="judge_config.json: .*score_values"):
        JudgeConfig.load(tmp_path)


DEEP = "[" * 300 + "]" * 300
NASTY = [
    *(
        "null",
        "true",
        "0",
        "-1",
        "1e400",
        "NaN",
        "-Infinity",
        "1" * 400,
        "1" * 5000,
        '""',
        '" "',
        '"x"',
        '"\\u0000"',
        '"\\ud800"',
    ),
    *(
        "[]",
        "{}",
        "[null]",
        "[1]",
        '["1"]',
        '["1", "2"]',
        "[NaN, 2]",
        '[["1"], "2"]',
        "[1, 1]",
        '{"a": NaN}',
        '{"a": {"b": [1]}}',
    ),
    *(
        DEEP,
        json.dumps("x" * 2**20),
        json.dumps(["1"] * 100_000),
        json.dumps(list(range(100_000))),
        '{"a": 1, "a": 2}',
    ),
    *('"{% for i in range(9) %}"', '"{{ " * 3', '"2026-13-99"', '{"messages": 1}', '{"conversation": []}'),
]


@pytest.mark.parametrize("field", [field.name for field in fields(JudgeConfig)])
def test_any_value_of_any_field_is_a_judge_or_a_message(tmp_path, field):
    good = JudgeConfig.from_space(SPACE, chat=True)
    good.use_template(PromptTemplate("{{ response }}", "mine.jinja"))
    good.save(tmp_path)
    path = tmp_path / JUDGE_CONFIG_NAME
    stored = json.loads(path.read_text())
    refused = 0
    for value in NASTY:
        parts = [
            f"{json.dumps(name)}: {value if name == field else json.dumps(each)}" for name, each in stored.items()
        ]
        path.write_text("{" + ", ".join(parts) + "}")
        try:
            config = JudgeConfig.load(tmp_path)
        except ValueError as error:
            assert "judge_config.json: " in str(error) and len(str(error)) < 5000, value[:80]
            refused += 1
            continue
        assert config.prompt_format().day is None or config.template_date
        if config.prompt_template_text is not None:
            config.template()
        config.decoding(max_new_tokens=8)
        try:
            space = config.score_space(TOKENIZER)
        except ValueError:  # labels that this tokenizer does not keep apart
            continue
        assert len(space.labels) > 1
    assert refused > 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"score_labels": 1, "score_labels": 2}', "'score_labels' occurs twice in one object, with 1 and 2"),
        ('{"score_labels": 1, "score_labels": 1}', "'score_labels' occurs twice in one object, with 1 and 1"),
        ("[" * 100_000, "not valid JSON"),
        ('{"training": ' * 200 + "1" + "}" * 200, "nested deeper than 64"),
        ("\x00\x01", "not valid JSON"),
        ("", "not valid JSON"),
        ("NaN", "no score_labels"),
    ],
)
def test_what_is_no_configuration_is_named(tmp_path, text, message):
    (tmp_path / JUDGE_CONFIG_NAME).write_text(text)
    with pytest.raises(ValueError, match=f"judge_config.json: .*{message}"):
        JudgeConfig.load(tmp_path)


def test_a_configuration_of_any_size_is_refused_unread(tmp_path):
    with (tmp_path / JUDGE_CONFIG_NAME).open("wb") as file:
        file.truncate(2**33)
    with pytest.raises(ValueError, match="judge_config.json: it has 8,589,934,592 bytes; the limit is 67,108,864"):
        JudgeConfig.load(tmp_path)


def test_a_judge_whose_weights_are_not_finite_is_refused(tmp_path):
    model = build_model()
    model.get_input_embeddings().weight.data[3, 1] = float("nan")
    with pytest.raises(ValueError, match="some/judge: its weights are not finite .*embed.*lower learning_rate"):
        check_finite(model, "some/judge")
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="some/judge: its weights are not finite .*embed"):
        check_finite_files(tmp_path, "some/judge")
    check_finite(build_model(), "some/judge")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("prompt_template_text", 5, "prompt_template_text: got 5. Set it to text"),
        ("score_values", [1e308, 2.0, 1.0], "beyond 1e"),
    ],
)
def test_what_no_judge_can_have_is_refused(tmp_path, field, value, message):
    JudgeConfig.from_space(SPACE).save(tmp_path)
    path = tmp_path / JUDGE_CONFIG_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(ValueError, match=message):
        JudgeConfig.load(tmp_path)


def test_criteria_are_saved_with_the_judge(tmp_path):
    criteria = {"helpfulness": "Is it helpful?", "correctness": "Is it right?"}
    JudgeConfig.from_space(SPACE, criteria=criteria).save(tmp_path)
    assert list(JudgeConfig.load(tmp_path).criteria.items()) == list(criteria.items())
    path = tmp_path / JUDGE_CONFIG_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "criteria": {"helpfulness": 5}}))
    with pytest.raises(ValueError, match=r"criteria: got \{'helpfulness': 5\}. Set it to texts"):
        JudgeConfig.load(tmp_path)
