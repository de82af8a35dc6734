# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What is a secret, what is none, and what is written of settings that hold some."""

import copy
import dataclasses
import hashlib
import io
import pickle
import time
import zipfile

import pytest
import torch
from trl import ModelConfig

from real_trl import JudgeConfig, RAFTConfig, REALConfig
from real_trl.arguments.evaluation import EvaluateArguments
from real_trl.arguments.parser import RecipeParser
from real_trl.engines.options import EngineOptions
from real_trl.judge_config import check_public
from real_trl.runs.folder import GeneratedFolder
from real_trl.text.redaction import (
    REDACTED,
    holds_secret,
    is_secret_name,
    redact_command,
    redact_text,
    redacted,
    remember,
    without_secrets,
)

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"
FORMS = {
    "hf": "hf_" + "aB3" * 10,
    "openai": "sk-proj-" + "Zk9" * 8,
    "anthropic": "sk-ant-api03-" + "xY3" * 8,
    "github": "ghp_" + "q1" * 18,
    "github app": "gho_" + "q2" * 18,
    "github fine-grained": "github_pat_11AAAA_" + "w1" * 15,
    "aws": "AKIAIOSFODNN7EXAMPLE",
    "aws session": "ASIAIOSFODNN7EXAMPLE",
    "google": "AIza" + "Sy0" * 12,
    "slack": "xoxb-123456789012-abcdef",
    "jwt": JWT,
    "google oauth": "ya29." + "a0Af_" * 8,
    "pem": "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
}
SECRETS_IN_TEXT = {
    "Authorization: Bearer abc12345": "Authorization: Bearer [redacted]",
    "authorization: bearer abcdefghijklmnopq": "authorization: bearer [redacted]",
    "Basic dXNlcjpwYXNz": "Basic [redacted]",
    "https://user:pa:ss@w@host/x": "https://[redacted]@host/x",
    "redis://:pw@host:6379/0": "redis://[redacted]@host:6379/0",
    "http://user:1234@host:80/": "http://[redacted]@host:80/",
    "http://h:8000/v1?token=abc&x=1": "http://h:8000/v1?token=[redacted]&x=1",
    "https://a.blob/x?sv=1&sig=ab%2Bc": "https://a.blob/x?sv=1&sig=[redacted]",
    "https://b.s3/x?X-Amz-Signature=0f&x=1": "https://b.s3/x?X-Amz-Signature=[redacted]&x=1",
    "Endpoint=x;AccountKey=ab+c==;End=y": "Endpoint=x;AccountKey=[redacted];End=y",
    "engine_options: got {'api_key': 'x', 'a': 1}": "engine_options: got {'api_key': '[redacted]', 'a': 1}",
    '{"password": "a\\"b"}': '{"password": "[redacted]"}',
    "--hub_token=abc": "--hub_token=[redacted]",
    "Authorization: Basic dXNlcjpwYXNz": "Authorization: Basic [redacted]",
    "Authorization: Token abc12345": "Authorization: Token [redacted]",
    "https://x0f1e2d3c4b5a69788@host/x": "https://[redacted]@host/x",
    "clientsecret=abc12345 apitoken=abc12345": "clientsecret=[redacted] apitoken=[redacted]",
    "password=onlywords sessiontoken=abc12345": "password=[redacted] sessiontoken=[redacted]",
}


@pytest.mark.parametrize("name", FORMS)
def test_the_forms_of_secrets(name):
    for text in (FORMS[name], f"see '{FORMS[name]}', and", f"https://host/{FORMS[name]}/x", f"x={FORMS[name]}"):
        shown = redact_text(text)
        assert FORMS[name] not in shown and REDACTED in shown and redact_text(shown) == shown
        assert holds_secret(text)


@pytest.mark.parametrize("text", SECRETS_IN_TEXT)
def test_secrets_in_text(text):
    assert redact_text(text) == SECRETS_IN_TEXT[text] == redact_text(SECRETS_IN_TEXT[text])


@pytest.mark.parametrize(
    "text",
    [
        "sk-learn-compatible-estimators",
        "Basic mathematics, and the bearer of it",
        "http://localhost:8000/v1/a@b",
        "https://user@host/x",
        "hub_token: got 3. Set it to text.",
        "hub_token=None, max_tokens=512, pad_token=<pad>, tokenizer=gpt2, key_column=id",
        "task-risk-1234567890123456",
        "a ratio of 3:4@5",
        "hf_model",
        "hf-internal-testing/tiny-random-llama and HF_HUB_ENABLE_HF_TRANSFER=1",
        "hf_some_long_name_of_a_field",
        "my/hf_judge_collection_2026 and team/hf_judge_of_essays_v1",
        "outputs/xai-judge-2026-run",
        "hf_my-long-model-name-7b",
        "sk-learn_classifier-v2-model",
        "npm_package_manager_version",
        "sorted by key=len, token=5, api_key=required",
    ],
)
def test_what_is_no_secret(text):
    assert redact_text(text) == text and not holds_secret(text)


def test_names_of_secrets():
    secret = """
        token hub_token HF_TOKEN api_key apiKey X-Api-Key api-key key secret client_secret password Authorization credential
        connection_string connectionString sas sas_token AccountKey AWS_SECRET_ACCESS_KEY WANDB_API_KEY
        aws_session_token X-Amz-Signature sig use_auth_token OPENAI_API_KEY cookie private_key
    """
    plain = """
        max_tokens max_new_tokens num_tokens pad_token eos_token tokenizer token_ids token_type_ids key_column primary_key monkey
        author keyboard TOKENIZERS_PARALLELISM include_num_input_tokens_seen api_key_env group_key tokens secretary
        headers storage_options
    """
    assert [name for name in secret.split() if not is_secret_name(name)] == []
    assert [name for name in plain.split() if is_secret_name(name)] == []
    # Of all fields of recipes, it is this one
    classes = (REALConfig, RAFTConfig, ModelConfig, EvaluateArguments, JudgeConfig)
    assert {f.name for cls in classes for f in dataclasses.fields(cls) if is_secret_name(f.name)} == {"hub_token"}


def digest(secret: str) -> str:
    return f"[redacted {hashlib.sha256(secret.encode()).hexdigest()[:8]}]"


def test_settings_of_any_depth():
    settings = {
        "storage_options": {"account": "a", "nested": [{"x": "b"}], "anonymous": False, "none": None},
        "headers": {"X-Custom-Key": "c", "X-Model": "Qwen/Qwen3-0.6B", "cookie": "d"},
        "header": 0,
        "engine_options": {"base_url": "https://u:p@h/v1?token=t", "api-key": "d", "max_tokens": 5, "password": 1234},
        "columns": {"key": "response", "token": "word"},  # names that are the user's own
        "arguments": ["--api-key", "e", "--seed", "3"],
        "path": ("a", FORMS["hf"]),
    }
    shown = redacted(settings)
    assert shown == {
        "storage_options": {"account": digest("a"), "nested": [{"x": digest("b")}], "anonymous": False, "none": None},
        "headers": {"X-Custom-Key": REDACTED, "X-Model": "Qwen/Qwen3-0.6B", "cookie": REDACTED},
        "header": 0,
        "engine_options": {
            "base_url": "https://[redacted]@h/v1?token=[redacted]",
            "api-key": REDACTED,
            "max_tokens": 5,
            "password": REDACTED,
        },
        "columns": {"key": "response", "token": "word"},
        "arguments": ["--api-key", REDACTED, "--seed", "3"],
        "path": ("a", digest(FORMS["hf"])),
    }
    assert redacted(shown) == shown and settings["headers"]["cookie"] == "d"
    assert without_secrets({"a": 1, "headers": {"X-Key": "new"}}) == {"a": 1}
    assert without_secrets({"a": 1, "token": "x"}) == {"a": 1}


def test_the_environment_and_recipes_name_secrets(monkeypatch):
    monkeypatch.setenv("MY_SERVICE_TOKEN", "plain-words-of-a-key")
    monkeypatch.setenv("MY_SECRET", "short")
    assert redact_text("refused: plain-words-of-a-key") == "refused: [redacted]"
    monkeypatch.setenv("POSTGRES_PASSWORD", "password")
    monkeypatch.setenv("OTHER_PASSWORD", "pass1word2")
    assert redact_text("a short story of the password") == "a short story of the password"
    assert redact_text("pass1word2") == REDACTED
    monkeypatch.setattr("real_trl.text.redaction._remembered", set())
    remember({"dataset_options": {"token": "only-this-recipe-has-it"}})
    remember(
        {"headers": {"X": "an-ordinary-header-value"}, "credentials": {"user": "somebody-ordinary"}, "key": "len"}
    )
    assert (
        redact_text("an-ordinary-header-value somebody-ordinary len")
        == "an-ordinary-header-value somebody-ordinary len"
    )
    remember(["--engine_options", "{api_key: on-the-command-line}", "--hub_token", "after-its-option"])
    text = "only-this-recipe-has-it on-the-command-line after-its-option"
    assert redact_text(text) == "[redacted] [redacted] [redacted]"


def test_command_lines():
    argv = [
        "--hub_token",
        "abc",
        "--dataset_options",
        "{token: abc, size: 3}",
        "--engine_options={headers: {X-Key: abc}}",
    ]
    assert redact_command([*argv, "--seed", "3"]) == [
        *("--hub_token", REDACTED, "--dataset_options", '{"token": "[redacted]", "size": 3}'),
        *('--engine_options={"headers": {"X-Key": "[redacted]"}}', "--seed", "3"),
    ]


def planted(config: object) -> list[str]:
    """Puts a secret, by form and by name, into every field of a dataclass that takes text or a mapping; returns them."""
    secrets = []
    for number, field in enumerate(dataclasses.fields(config)):
        kinds = str(field.type)
        form, named = f"hf_{'Planted' * 3}{number:04}", f"plain-{number:04}-value"
        if "dict" in kinds:
            value = {"x": form, "token": named, "deep": [{"headers": {"X-Key": f"{named}-2"}}]}
        elif "list" in kinds or "tuple" in kinds:
            value = ["a", form, "--api-key", named]
        elif "str" in kinds or "Any" in kinds:
            value = f"https://host/{form}?sig={named}"
        else:
            continue
        config.__dict__[field.name] = value
        secrets += [form, named]
    return secrets


def unpacked(content: bytes) -> bytes:
    """Everything in a file of torch."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return b"".join(archive.read(name) for name in archive.namelist())


@pytest.mark.parametrize("cls", [RAFTConfig, REALConfig])
def test_arguments_are_written_without_secrets_and_keep_them(cls, tmp_path):
    args = cls(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    secrets = planted(args)
    assert len(secrets) > 80
    file = io.BytesIO()
    torch.save(args, file)
    for written in (unpacked(file.getvalue()), pickle.dumps(args), repr(args).encode(), str(args).encode()):
        assert [secret for secret in secrets if secret.encode() in written] == []
    assert [secret for secret in secrets if secret in repr(args.to_dict())] == []
    for other in (args, copy.copy(args), copy.deepcopy(args)):  # a run needs them
        assert [f.name for f in dataclasses.fields(args) if getattr(other, f.name) != getattr(args, f.name)] == []
        assert REDACTED not in other.hub_token
    assert pickle.loads(pickle.dumps(args)).learning_rate == args.learning_rate


def test_a_new_secret_is_no_other_setting(tmp_path):
    def folder(**options: object) -> GeneratedFolder:
        return GeneratedFolder(tmp_path / "out", {"decoding": {"engine_options": options, "seed": 1}}, "rows.jsonl")

    first = folder(headers={"X-Key": "old-secret-value"}, base_url="http://u:old-password@h/v1", size=3)
    first.start({})
    first.append(0, 0, [{"a": 1}])
    assert b"old-" not in (tmp_path / "out" / "provenance.json").read_bytes()
    assert (
        folder(headers={"X-Key": "new-secret-value"}, base_url="http://u:new-password@h/v1", size=3).check() is False
    )
    assert folder(base_url="http://u:new-password@h/v1", size=3).check() is False
    with pytest.raises(ValueError, match="engine_options was .*'size': 3.*, now it is") as error:
        folder(headers={"X-Key": "new-secret-value"}, base_url="http://u:new-password@h/v1", size=4).check()
    assert "new-" not in str(error.value) and "old-" not in str(error.value)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"model": "team/hf_judge_of_essays_v1"}, {"model": "team/hf_judge_of_essays_v2"}),
        ({"model": FORMS["hf"]}, {"model": FORMS["github"]}),
        ({"default_headers": {"X-Model": "a"}}, {"default_headers": {"X-Model": "b"}}),
        ({"default_headers": {"X-Note": FORMS["hf"]}}, {"default_headers": {"X-Note": FORMS["github"]}}),
        ({"storage_options": {"account": "a"}}, {"storage_options": {"account": "b"}}),
        ({"path": "data/key=part-0001"}, {"path": "data/key=part-0002"}),
    ],
)
def test_two_settings_are_never_taken_for_one(before, now, tmp_path):
    def folder(options: dict) -> GeneratedFolder:
        made_with = {"model": {"fingerprint": str(options.get("model"))}, "decoding": options}
        return GeneratedFolder(tmp_path / "out", made_with, "rows.jsonl")

    folder(before).start({})
    folder(before).append(0, 0, [{"a": 1}])
    assert folder(before).check() is False
    with pytest.raises(ValueError, match="holds what was made differently"):
        folder(now).check()
    assert without_secrets(before) != without_secrets(now)


@pytest.mark.parametrize(
    "part", ["sk-", "eyJaaaaa-", "://x:y", "xoxb-", "-----BEGIN ", "a=b&", "'token':\"", "Bearer ", "a%"]
)
def test_the_time_is_linear(part):
    start = time.perf_counter()
    redact_text(part * (200_000 // len(part)))
    assert time.perf_counter() - start < 5  # quadratic, it is minutes


def test_a_judge_is_saved_without_secrets_and_with_its_prompt(tmp_path):
    config = JudgeConfig(
        list("12"),
        [1.0, 2.0],
        chat=True,
        system_prompt="Answer with key=value.",
        base_model="https://u:pass-word@host/model",
        training={"data": {"dataset_name": FORMS["hf"]}, "seed": 3},
    )
    config.save(tmp_path)
    saved = JudgeConfig.load(tmp_path)
    assert saved.base_model == "https://[redacted]@host/model" and saved.training == {
        "data": {"dataset_name": digest(FORMS["hf"])},
        "seed": 3,
    }
    assert saved.system_prompt == config.system_prompt
    with pytest.raises(ValueError, match="^system_prompt: it holds a secret.*Take it out") as error:
        check_public(system_prompt=f"Use {FORMS['openai']}.")
    assert FORMS["openai"] not in str(error.value)
    with pytest.raises(ValueError, match="^chat_template_kwargs: it holds a secret"):
        check_public(chat_template_kwargs={"api_key": "x"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("engine_options", '{"headers": {"X": "[redacted]"}}'),
        ("engine_options", '{"base_url": "https://[redacted]@host/v1"}'),
        ("engine_options", '{"headers": {"Authorization": "Bearer [redacted]"}}'),
        ("judges", '{"a": "[redacted]"}'),
        ("judges", '{"a": "team/[redacted 3fa9c1d2]"}'),
        ("hub_token", REDACTED),
    ],
)
def test_what_was_taken_out_is_not_used(name, value):
    parser = RecipeParser((RAFTConfig if name == "hub_token" else EvaluateArguments,))
    with pytest.raises(ValueError, match=rf"^{name}.*: got .*\[redacted.*\].*Put in the secret itself"):
        parser.parse_args_and_config(["--output_dir", "out", f"--{name}", value])


@pytest.mark.parametrize(
    "text",
    [
        "hub_tokn: mysecretvalue123",
        'seed: 1\nhub_token: "mysecretvalue123',
        "seed: 1\n  hub_token: mysecretvalue123",
        "hub_token: a: mysecretvalue123",
        "hub_token: *mysecretvalue123",
        "hub_token: !mysecretvalue123 x",
        "hub_token: !!int mysecretvalue123",
    ],
)
def test_what_is_wrong_with_a_recipe_is_told_without_its_values(text, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    with pytest.raises(ValueError, match=r"recipe.yaml: (unknown key 'hub_tokn'|not valid YAML \()") as error:
        RecipeParser((RAFTConfig,)).parse_args_and_config(["--config", str(recipe)])
    assert "mysecretvalue" not in str(error.value) and error.value.__cause__ is None


def test_text_with_the_word_is_text():
    options = ["--output_dir", "out", "--system_prompt", "Names are [redacted] here."]
    (args,) = RecipeParser((EvaluateArguments,)).parse_args_and_config(options)
    assert args.system_prompt == "Names are [redacted] here."
    with pytest.raises(ValueError, match="engine_options: headers: X: got"):
        EngineOptions(engine_options={"headers": {"X": REDACTED}})
