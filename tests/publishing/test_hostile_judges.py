# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Folders that are no ordinary judge's: what is refused by name before anything is written, and what a card makes of any text."""

import json
import os
import re
import shutil
import socket
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from real_trl.judge_config import JudgeConfig
from real_trl.publishing import Publication, build_card, find_judge_files, read_evaluation, write_folder
from real_trl.publishing.own_code import own_code
from real_trl.publishing.results import evaluation_table
from real_trl.scripts.push import main
from real_trl.weights.files import weight_files
from tests.publishing.judges import PUBLISHED, TOKEN, judge_config, write_adapter, write_evaluation, write_judge

SECRET = "the secret of another folder"
NASTY = "a|b\n---\n<script>alert(1)</script> [x](javascript:1) `c` ``` ![i](u) https://e.vil www.e.vil # *b* \x1b[31m\x00 $x$ \u202ex \"' {{ 7 * 7 }}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    write_judge(folder / "whole")
    write_adapter(folder / "adapter", str(folder / "base"))
    write_evaluation(folder / "evaluation", JudgeConfig.load(folder / "whole"))
    return folder


@pytest.fixture
def judge(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "whole", tmp_path / "my-real")


def refused(judge: Path, capsys: pytest.CaptureFixture, *options: str) -> str:
    target = judge.parent / "out"
    capsys.readouterr()
    with pytest.raises(SystemExit) as status:
        main([str(judge), "--local_dir", str(target), *options])
    assert status.value.code == 2 and not target.exists()
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "Traceback" not in message
    return message


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


FILES = (
    "judge_config.json",
    "config.json",
    "tokenizer.json",
    "model.safetensors",
    "chat_template.jinja",
    "merges.txt",
)


@pytest.mark.parametrize("name", FILES)
def test_a_link_to_another_folder_is_refused_by_name(judge, tmp_path, capsys, name):
    elsewhere = tmp_path / "elsewhere" / name
    elsewhere.parent.mkdir()
    if (judge / name).exists():
        (judge / name).rename(elsewhere)
    else:
        elsewhere.write_text(SECRET)
    (judge / name).symlink_to(elsewhere)
    message = refused(judge, capsys)
    assert f"{name}: it is a link to {elsewhere}" in message and SECRET not in message


def test_hard_kinds_of_links_are_refused(judge, tmp_path, capsys):
    path = judge / "chat_template.jinja"
    path.symlink_to(path)  # a loop
    assert "chat_template.jinja: it is a link that leads nowhere" in refused(judge, capsys)
    path.unlink()
    path.symlink_to(judge / "nothing.jinja")
    assert "chat_template.jinja: it is a link that leads nowhere" in refused(judge, capsys)
    path.unlink()
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "mine.jinja").write_text(SECRET)
    (judge / "additional_chat_templates").symlink_to(tmp_path / "templates")  # of a directory
    assert "additional_chat_templates/mine.jinja: it is a link" in refused(judge, capsys)
    (judge / "additional_chat_templates").unlink()
    (judge / ".env").write_text(SECRET)
    path.symlink_to(judge / ".env")  # another file of the folder
    assert "chat_template.jinja: it is a link to" in refused(judge, capsys)
    path.unlink()
    path.symlink_to(judge / "training_args.bin")
    assert "chat_template.jinja: it is a link to" in refused(judge, capsys)


def test_a_link_within_the_folder_and_a_link_to_the_folder_are_what_they_lead_to(judge, tmp_path):
    weights = judge / "model.safetensors"
    expected = weights.read_bytes()
    weights.rename(judge / "checkpoint-10" / "model.safetensors")
    weights.symlink_to("checkpoint-10/model.safetensors")
    (tmp_path / "link").symlink_to(judge)
    main([str(tmp_path / "link"), "--local_dir", str(tmp_path / "out")])
    written = tmp_path / "out" / "model.safetensors"
    assert written.read_bytes() == expected and not written.is_symlink()


def test_links_of_the_hubs_cache_are_taken(judge, tmp_path, capsys):
    model = tmp_path / "models--acme--judge"
    blobs, snapshot = model / "blobs", model / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(path for path in judge.iterdir() if path.is_file()):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    main([str(snapshot), "--local_dir", str(tmp_path / "out")])
    assert {path.name for path in (tmp_path / "out").iterdir()} == PUBLISHED
    other = tmp_path / "models--acme--other" / "blobs" / "0"
    other.parent.mkdir(parents=True)
    (snapshot / "chat_template.jinja").symlink_to(other)
    other.write_text(SECRET)
    with pytest.raises(ValueError, match=r"chat_template\.jinja: it is a link to"):
        find_judge_files(snapshot)


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder"])
@pytest.mark.parametrize("name", ["generation_config.json", "judge_config.json", "model.safetensors"])
def test_what_is_no_file_is_refused_and_not_waited_for(judge, capsys, monkeypatch, kind, name):
    (judge / name).unlink()
    monkeypatch.chdir(judge)  # the path of a socket is short
    if kind == "pipe":
        os.mkfifo(name)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(name)
    else:
        Path(name).mkdir()
    assert f"{name}: it is no regular file" in refused(judge, capsys)


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "/etc/hostname", "..\\secret.safetensors", "a/../../b", "..", "", "C:x"]
)
@pytest.mark.parametrize("index", ["model.safetensors.index.json", "adapter_model.safetensors.index.json"])
def test_a_weight_map_names_files_beside_it_only(made, tmp_path, capsys, name, index):
    judge = shutil.copytree(made / ("whole" if index.startswith("model") else "adapter"), tmp_path / "judge")
    (judge / index.removesuffix(".index.json")).rename(tmp_path / "secret.safetensors")
    (judge / index).write_text(json.dumps({"metadata": {}, "weight_map": {"a": name}}))
    assert f"{index}: it names {name!r}, which is no file beside it" in refused(judge, capsys, "--base_model", "a/b")


@pytest.mark.parametrize(
    "weight_map", [None, [], {}, {"a": 1}, {"a": None}, {"a": "optimizer.pt"}, "model.safetensors"]
)
def test_a_malformed_weight_map_is_a_message(judge, capsys, weight_map):
    (judge / "model.safetensors").unlink()
    (judge / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert re.search(r"index\.json: .*(weight_map is no object|is no safetensors file)", refused(judge, capsys))


@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json", "judge_config.json"]
)
@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\x80\x04}.", b"[" * 100_000, b'{"a": 1, "a": 2}', b'{"a":' * 70 + b"1" + b"}" * 70]
)
def test_broken_json_is_named(judge, capsys, name, content):
    (judge / name).write_bytes(content)
    assert f"{name}: " in refused(judge, capsys)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", b"{}"),
        ("config.json", b'{"model_type": 7}'),
        ("config.json", b'{"model_type": "llama", "hidden_size": "wide"}'),
        ("chat_template.jinja", b"\xff\xfe"),
        ("chat_template.jinja", b"{% for"),
        ("chat_template.jinja", b"{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"),
        ("vocab.txt", b"\xff"),
        ("tokenizer.model", b"\x80\x04}."),
    ],
)
def test_what_is_published_is_what_its_name_says(judge, capsys, name, content):
    (judge / name).write_bytes(content)
    assert name.partition(".")[0] in refused(judge, capsys).replace("its chat template", "chat_template")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter_model.bin", "pytorch_model.bin.index.json"])
def test_pickles_are_named_and_stay(judge, tmp_path, capsys, name):
    torch.save({}, judge / name)
    torch.save({}, judge / "rng_state.pth")
    main([str(judge), "--local_dir", str(tmp_path / "published")])
    assert {path.name for path in (tmp_path / "published").iterdir()} == PUBLISHED
    (judge / "model.safetensors").unlink()
    assert f"{name} is a pickle" in refused(judge, capsys)


CODE = {
    "modeling_mine.py": "from .layers import Layer\nfrom . import extra\nimport torch\n",
    "layers.py": "from torch import nn\nfrom .modeling_mine import Mine\nclass Layer(nn.Module): pass\n",
    "extra.py": "x = 1\n",
    "tokenization_mine.py": "",
    "train.py": "password = 'secret'",
    "setup.py": "",
}


@pytest.fixture
def coded(judge: Path) -> Path:
    for name, text in CODE.items():
        (judge / name).write_text(text)
    edit(
        judge / "config.json",
        auto_map={"AutoModel": "modeling_mine.Mine", "AutoConfig": "acme/other--configuration.Config"},
    )
    edit(judge / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_mine.Mine", None]})
    return judge


def test_of_a_models_own_code_only_what_it_uses_is_published(coded, tmp_path):
    main([str(coded), "--local_dir", str(tmp_path / "out")])
    written = {path.name for path in (tmp_path / "out").glob("*.py")}
    assert written == {"modeling_mine.py", "layers.py", "extra.py", "tokenization_mine.py"}
    edit(coded / "config.json", auto_map=None)
    edit(coded / "tokenizer_config.json", auto_map=None)
    assert own_code(coded) == []


@pytest.mark.parametrize(
    ("named", "text", "message"),
    [
        ("../outside.Mine", "", "config.json: it names '../outside.py', which is no file beside it"),
        ("/tmp/outside.Mine", "", "which is no file beside it"),
        ("a\\b.Mine", "", "which is no file beside it"),
        ("lost.Mine", "", "config.json: it names the module 'lost.py', which is not beside it"),
        ("nothing", "", "auto_map holds 'nothing'"),
        (7, "", "auto_map holds 7"),
        ("modeling_mine.Mine", "from .lost import x", "modeling_mine.py: it names the module 'lost.py'"),
        ("modeling_mine.Mine", "from ..lost import x", "modeling_mine.py: line 1 imports from outside"),
        ("modeling_mine.Mine", "\x80\x04", "modeling_mine.py: auto_map names it, and it is no Python"),
        ("modeling_mine.Mine", "(" * 10_000, "modeling_mine.py: auto_map names it, and it is no Python"),
    ],
)
def test_code_that_is_not_there_is_named(coded, capsys, named, text, message):
    edit(coded / "config.json", auto_map={"AutoModel": named})
    (coded / "modeling_mine.py").write_text(text)
    assert message in refused(coded, capsys)


def test_a_module_that_is_a_link_is_refused(coded, tmp_path, capsys):
    (tmp_path / "private.py").write_text(SECRET)
    (coded / "layers.py").unlink()
    (coded / "layers.py").symlink_to(tmp_path / "private.py")
    assert "layers.py: it is a link to" in refused(coded, capsys)


DATA = {"dataset_name": "d", "hub_dataset": None, "split": "train", "rows": 8}


@pytest.mark.parametrize(
    "data",
    [
        *(7, "text", [1], [], {}, True, {"rows": 3}),
        *(
            {**DATA, name: value}
            for name in DATA
            for value in ([1], {"a": 1}, 1.5, True)
            if (name, value) != ("rows", 8)
        ),
        *({**DATA, "rows": value} for value in ("8", None)),
        *({**DATA, "hub_dataset": value} for value in ("../../x", "a/b/c", "a b/c", "<b>/c")),
    ],
)
def test_a_malformed_training_block_is_a_message(judge, capsys, data):
    config = JudgeConfig.load(judge)
    config.training["data"] = data
    config.save(judge)
    assert "judge_config.json: training.data: " in refused(judge, capsys)


@pytest.mark.parametrize(
    "training",
    [{"a": [1] * 10**5}, {"x" * 10**5: "y" * 10**5}, {"seed": {"a": {"b": None}}}, {NASTY: NASTY}, {"": ""}],
)
def test_any_other_training_block_is_shown(judge, tmp_path, training):
    config = JudgeConfig.load(judge)
    config.training = training
    config.save(judge)
    main([str(judge), "--local_dir", str(tmp_path / "out")])
    assert len((tmp_path / "out" / "README.md").read_text()) < 20_000


def table_rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def test_no_text_breaks_out_of_its_place_in_a_card(tmp_path):
    plain = judge_config("acme/base", method="mine", training={"seed": "s", "data": {**DATA, "dataset_name": "d"}})
    nasty = judge_config(
        "./" + NASTY.replace("/", ""),
        method=NASTY,
        training={NASTY: NASTY, "data": {**DATA, "dataset_name": NASTY, "split": NASTY}},
    )
    nasty.score_labels, nasty.score_marker = [f"{n}{NASTY}" for n in range(5)], f"Score {NASTY}"
    nasty.versions = {NASTY: NASTY, "real_trl": NASTY, "torch": ["2"]}
    before, card = build_card(plain, "acme/judge", license="mit"), build_card(nasty, f"acme/{NASTY}", license=NASTY)
    assert len(table_rows(card.text)) == len(table_rows(before.text))
    assert card.text.count("\n#") == before.text.count("\n#") and card.text.count("\n```") == before.text.count(
        "\n```"
    )
    code = re.sub(r"(?ms)^```.*?^```", "", card.text)
    code = re.sub(r"(`+)[^`\n]+?\1", "", re.sub(r"\\.", "", code))
    for sign in ("<script", "![", "](javascript", "https://e.vil", "www.e.vil", "\n---", "49"):
        assert sign not in code, sign
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", card.content)
    for line in table_rows(card.text):
        assert len(re.findall(r"(?<!\\)\|", line)) == 3, line
    front = yaml.safe_load(card.content.split("\n---\n")[0].removeprefix("---\n"))
    assert front["model_name"] == card.data.model_name and "\n" not in front["model_name"]
    assert front["tags"][:2] == ["llm-as-a-judge", "real_trl"] and set(front) == {*before.data.to_dict()} - {
        "base_model",
        "base_model_relation",
    }


def test_names_in_an_evaluation_break_out_of_nothing(made, judge, tmp_path):
    files = find_judge_files(judge)
    path = Path(shutil.copy(made / "evaluation" / "evaluation.json", tmp_path))
    content = json.loads(path.read_text())
    expected = evaluation_table(read_evaluation(path, files))
    for part in ("results", "datasets"):
        content[part] = {NASTY: content[part]["test"]}
    path.write_text(json.dumps(content))
    evaluation = read_evaluation(path, files)
    table = evaluation_table(evaluation)
    assert len(table.splitlines()) == len(expected.splitlines())
    for line, before in zip(table_rows(table), table_rows(expected), strict=True):
        assert len(re.findall(r"(?<!\\)\|", line)) == before.count("|")
    card = build_card(files.config, "acme/judge", evaluation=evaluation)
    assert "<script" not in card.text.replace("\\<", "")
    assert ModelCard(str(card)).data.eval_results[0].dataset_split.startswith("a|b --- <script>")


@pytest.mark.parametrize("part", ["judges", "results", "settings", "datasets"])
def test_an_evaluation_of_any_form_is_a_message(made, tmp_path, part):
    files, path = find_judge_files(made / "whole"), tmp_path / "evaluation.json"
    good = json.loads((made / "evaluation" / "evaluation.json").read_text())
    for value in (None, 7, [], {}, "text", {"test": 1}, {"test": {"my-real": []}}, {"my-real": {"judge": 5}}):
        path.write_text(json.dumps({**good, part: value}))
        try:
            evaluation = read_evaluation(path, files)
        except ValueError as error:
            assert str(error).startswith("--evaluation ")
        else:
            assert part in ("settings", "datasets")
            build_card(files.config, "acme/judge", evaluation=evaluation)


def test_a_token_whose_underscore_is_escaped_is_found(made, judge, tmp_path):
    path = Path(shutil.copy(made / "evaluation" / "evaluation.json", tmp_path))
    content = json.loads(path.read_text())
    for part in ("results", "datasets"):
        content[part] = {TOKEN: content[part]["test"]}
    path.write_text(json.dumps(content))
    files = find_judge_files(judge)
    with pytest.raises(ValueError, match=r"README\.md: it holds an access token"):
        write_folder(Publication(files, "acme/judge", evaluation=read_evaluation(path, files)), tmp_path / "out")


def test_weights_of_every_form_are_known(judge):
    assert weight_files(judge) == ["model.safetensors"]
    (judge / "model.safetensors").rename(judge / "model-00001-of-00001.safetensors")
    (judge / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}})
    )
    assert weight_files(judge) == ["model.safetensors.index.json", "model-00001-of-00001.safetensors"]
