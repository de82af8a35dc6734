# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A judge pushed to a Hub on the loopback address, and used from there; and where the private token goes: nowhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml
from huggingface_hub import HfApi, ModelCard, constants
from transformers.utils import hub as transformers_hub

from real_trl import Judge, RAFTConfig, RAFTTrainer
from real_trl.judge_config import JudgeConfig
from real_trl.publishing import Publication, find_judge_files, upload
from real_trl.publishing.lineage import find_lineage
from real_trl.scripts import sft
from real_trl.weights.hub import look_for_hub, why_offline
from tests.publishing.hub_server import USER, Hub, serve_hub
from tests.publishing.judges import PUBLISHED, TOKEN, write_adapter, write_judge
from tests.tiny import LINES, TOKENIZER, prompt_dataset, warm_model

REPO = f"{USER}/my-judge"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with serve_hub(TOKEN) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(transformers_hub, "_hf_api", None)  # made with the endpoint of its time
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    return write_judge(tmp_path / "my-real")


def publication(judge: Path, name: str = REPO) -> Publication:
    return Publication(find_judge_files(judge), name)


def command(hub: Hub, tmp_path: Path, *argv: str, **more: str) -> subprocess.CompletedProcess:
    """Run Python as a user does, with a home of its own and as much said as the libraries can say."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_VERBOSITY": "debug",
        "TRANSFORMERS_VERBOSITY": "debug",
        "HF_HUB_OFFLINE": "0",
        "REAL_TRL_DEBUG": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        **more,
    }
    return subprocess.run(
        [sys.executable, *argv], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300
    )


def holds_token(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


@pytest.mark.slow
def test_push_arrives_and_the_code_of_the_card_runs(hub, judge, tmp_path):
    pushed = command(hub, tmp_path, "-m", "real_trl.scripts.push", str(judge), "--repo_id", REPO)
    assert pushed.returncode == 0, pushed.stderr
    assert f"Published: {hub.endpoint}/{REPO}" in pushed.stdout
    assert set(hub.repos[REPO]) == PUBLISHED
    assert hub.repos[REPO]["model.safetensors"] == (judge / "model.safetensors").read_bytes()
    assert f"PUT /storage/{next(iter(hub.objects))}" in hub.calls  # weights go over LFS

    card = ModelCard(hub.repos[REPO]["README.md"].decode())
    code = card.text.split("```python\n")[1].split("```")[0]
    code += f"\nfrom huggingface_hub import snapshot_download\nsnapshot_download({REPO!r}, local_dir='downloaded')"
    used = command(hub, tmp_path, "-c", code)
    assert used.returncode == 0, used.stderr
    printed = re.findall(r"^(\d\.\d+) ", used.stdout, re.MULTILINE)  # among what the libraries say
    assert len(printed) == 1 and 0 < float(printed[0]) <= 5
    rows = ["\n".join(LINES[: 1 + row % 3]) for row in range(6)]
    folders = (judge, tmp_path / "downloaded")
    own, theirs = (Judge.from_pretrained(folder, max_new_tokens=16).score(response=rows) for folder in folders)
    assert [(j.expected_score, j.completion) for j in own] == [(j.expected_score, j.completion) for j in theirs]

    assert TOKEN not in pushed.stdout + pushed.stderr + used.stdout + used.stderr
    assert not holds_token(tmp_path)
    assert not any(TOKEN.encode() in content for content in hub.repos[REPO].values())


@pytest.mark.slow
def test_an_adapter_is_used_from_the_hub_with_its_base_model(hub, tmp_path):
    base, repo = f"{USER}/base", f"{USER}/adapter"
    adapter = write_adapter(tmp_path / "my-lora", str(tmp_path / "base"))
    hub.repos[base] = {path.name: path.read_bytes() for path in (tmp_path / "base").iterdir()}
    options = ("-m", "real_trl.scripts.push", str(adapter), "--repo_id", repo, "--base_model", base)
    pushed = command(hub, tmp_path, *options)
    assert pushed.returncode == 0, pushed.stderr
    assert "adapter_model.safetensors" in hub.repos[repo] and "model.safetensors" not in hub.repos[repo]
    own = Judge.from_pretrained(adapter, max_new_tokens=16).score(response=LINES[0])
    code = ModelCard(hub.repos[repo]["README.md"].decode()).text.split("```python\n")[1].split("```")[0]
    code += f"\nj = Judge.from_pretrained({repo!r}, max_new_tokens=16).score(response={LINES[0]!r})\nprint('again', j.expected_score)"
    used = command(hub, tmp_path, "-c", code)
    assert used.returncode == 0, used.stderr
    assert re.findall(r"^again (.*)$", used.stdout, re.MULTILINE) == [str(own.expected_score)]


@pytest.mark.slow
def test_an_error_that_quotes_the_token_is_shown_without_it(hub, judge, tmp_path):
    hub.refuse = ("/commit/", 403)
    failed = command(hub, tmp_path, "-m", "real_trl.scripts.push", str(judge), "--repo_id", REPO)
    assert failed.returncode == 1 and "Traceback" in failed.stderr  # REAL_TRL_DEBUG shows everything
    assert f"{REPO}: {hub.endpoint} refused" in failed.stderr and "'authorization': '[redacted]'" in failed.stderr
    assert TOKEN not in failed.stdout + failed.stderr
    assert not holds_token(tmp_path)


@pytest.mark.parametrize("status", [400, 401, 403, 413])
@pytest.mark.parametrize(
    "where", ["whoami", "repos/create", "validate-yaml", "preupload", "objects/batch", "/storage/"]
)
def test_no_error_holds_the_token(hub, judge, where, status, caplog):
    hub.refuse = (where, status)
    with pytest.raises(ValueError, match=f"{hub.endpoint} refused") as error:
        upload(publication(judge))
    seen = "".join(map(str, (error.value, error.value.__cause__, caplog.text)))
    assert TOKEN not in seen and error.value.__suppress_context__
    assert not any(call.startswith("POST") and "/commit/" in call for call in hub.calls)


def test_nothing_is_created_unless_everything_is_there(hub, judge, monkeypatch):
    (judge / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="not whole"):
        upload(publication(judge))
    assert not hub.calls


def test_without_a_token_nothing_starts(hub, judge, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("real_trl.publishing.push.get_token", lambda: None)
    with pytest.raises(ValueError, match="token: there is none.*HF_TOKEN"):
        upload(publication(judge))
    assert not hub.calls


def test_a_wrong_token_and_a_foreign_account_are_told(hub, judge, monkeypatch):
    with pytest.raises(ValueError, match="may not write there"):
        upload(publication(judge, "somebody-else/judge"))
    monkeypatch.setenv("HF_TOKEN", "hf_" + "wrong" * 5)
    with pytest.raises(ValueError, match=r"^token: .*The token is not valid"):
        upload(publication(judge))
    assert not hub.repos


def test_a_hub_that_was_out_of_reach_when_the_training_began_is_tried_again(hub, judge, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        look_for_hub("someone/a-model")
    assert constants.HF_HUB_OFFLINE and why_offline()
    upload(publication(judge))
    assert REPO in hub.repos and why_offline() is None


def test_an_unreachable_hub_is_told(judge, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    api = HfApi(endpoint="http://127.0.0.1:9", token=TOKEN)
    with pytest.raises(ValueError, match="Check the connection"):
        upload(publication(judge), api=api)
    assert issubclass(httpx.ConnectError, httpx.TransportError)


def test_pushing_again_changes_what_changed(hub, judge):
    upload(publication(judge))
    upload(Publication(find_judge_files(judge), REPO, license="mit"))
    assert ModelCard(hub.repos[REPO]["README.md"].decode()).data.license == "mit"
    assert hub.messages == ["Publish judge"] * 2
    assert sum(call.startswith("PUT /storage/") for call in hub.calls) == 1


def test_weights_of_an_earlier_judge_do_not_stay(hub, judge):
    old = ("adapter_config.json", "adapter_model.safetensors", "model.safetensors.index.json", "added_tokens.json")
    old += ("model-00001-of-00002.safetensors", "pytorch_model.bin", "additional_chat_templates/tool.jinja")
    others = ("notes.md", "gguf/model.safetensors", ".gitattributes")
    hub.repos[REPO] = dict.fromkeys((*old, *others), b"old")
    upload(publication(judge))
    assert set(hub.repos[REPO]) == PUBLISHED | set(others)
    assert hub.messages == ["Publish judge"]  # one commit


def test_what_should_be_private_is_never_put_into_a_public_repository(hub, judge):
    hub.repos[REPO] = {}
    with pytest.raises(ValueError, match=rf"^--private \(hub_private_repo\): {REPO} exists, and is public"):
        upload(publication(judge), private=True)
    assert hub.repos[REPO] == {} and not hub.objects
    upload(publication(judge, f"{USER}/new"), private=True)
    upload(publication(judge, f"{USER}/new"), private=True)
    assert hub.private == {f"{USER}/new"} and set(hub.repos[f"{USER}/new"]) == PUBLISHED


def test_a_given_token_of_any_form_is_searched_for(hub, judge, monkeypatch):
    token = "no-known-form-of-a-token"
    hub.token = token
    config = judge / "tokenizer_config.json"
    config.write_text(config.read_text().replace("{", f'{{"note": "{token}",', 1))
    with pytest.raises(ValueError, match=r"tokenizer_config\.json: it holds an access token"):
        upload(publication(judge), token=token)
    assert not hub.repos


def training(output: Path, **kwargs: object) -> RAFTTrainer:
    data = prompt_dataset([1.0, 2.0, 3.0, 4.0])
    texts = [f" 1) 7+4 is 12, right. So the overall score is {score:.0f}" for score in data["score"]]
    args = RAFTConfig(
        output_dir=str(output),
        **{
            "push_to_hub": True,
            "hub_model_id": REPO,
            "per_device_train_batch_size": 2,
            "max_steps": 2,
            "save_steps": 1,
            "report_to": "none",
            "use_cpu": True,
            "gradient_checkpointing": False,
            "score_labels": "1-5",
            **kwargs,
        },
    )
    return RAFTTrainer(
        model=warm_model(), args=args, train_dataset=data.add_column("completion", texts), processing_class=TOKENIZER
    )


def test_every_save_publishes_the_judge_and_not_the_checkpoint(hub, tmp_path):
    trainer = training(tmp_path / "my-raft", hub_strategy="every_save", hub_token=TOKEN)
    trainer.train()
    trainer.push_to_hub()
    assert set(hub.repos[REPO]) == PUBLISHED
    assert hub.messages[:2] == ["Training in progress, step 1", "Training in progress, step 2"]
    card = ModelCard(hub.repos[REPO]["README.md"].decode())
    assert "**Data:** not recorded" in card.text and "**RAFT.**" in card.text
    assert len(list((tmp_path / "my-raft").glob("**/training_args.bin"))) == 3
    assert not holds_token(tmp_path) and trainer.args.hub_token == TOKEN
    assert find_lineage(trainer.judge_config).base_model is None


def test_a_checkpoint_that_cannot_be_published_does_not_end_the_training(hub, tmp_path, caplog):
    trainer = training(tmp_path / "my-raft", hub_strategy="every_save", hub_token=TOKEN)
    hub.refuse = ("/commit/", 503)
    trainer.train()
    assert trainer.state.global_step == 2
    assert "step 1: not published" in caplog.text and "step 2: not published" in caplog.text
    assert TOKEN not in caplog.text
    with pytest.raises(ValueError, match="refused"):
        trainer.push_to_hub()
    assert not hub.repos[REPO]


def test_a_recipe_with_push_to_hub_publishes_the_judge(hub, tmp_path, monkeypatch):
    data = prompt_dataset([1.0, 2.0, 3.0, 4.0]).add_column("feedback", ["7+4 is 12, right."] * 4)
    data.to_json(tmp_path / "scores.jsonl")
    monkeypatch.chdir(tmp_path)
    warm_model().save_pretrained("models/base")
    TOKENIZER.save_pretrained("models/base")
    recipe = {
        "model_name_or_path": "models/base",
        "output_dir": str(tmp_path / "my-raft"),
        "dataset_name": str(tmp_path / "scores.jsonl"),
        "score_labels": "1-5",
        "max_steps": 1,
        "use_cpu": True,
        "report_to": "none",
        "push_to_hub": True,
        "hub_model_id": REPO,
        "hub_token": TOKEN,
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.delenv("HF_TOKEN")
    sft.main(["--config", str(tmp_path / "recipe.yaml")])
    assert set(hub.repos[REPO]) == PUBLISHED
    card = ModelCard(hub.repos[REPO]["README.md"].decode())
    assert "`scores.jsonl`, split `train`, 4 rows" in card.text and "`base`, a local model" in card.text
    assert JudgeConfig.load(tmp_path / "my-raft").base_model == "./models/base"
    assert b"/tmp" not in hub.repos[REPO]["judge_config.json"]
    assert holds_token(tmp_path) == [tmp_path / "recipe.yaml"]  # where the user wrote it


def test_checkpoints_are_not_uploaded(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(ValueError, match="hub_strategy: got 'checkpoint'"):
        training(tmp_path, hub_strategy="checkpoint")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("real_trl.trainers.publishing_mixin.get_token", lambda: None)
    with pytest.raises(ValueError, match="push_to_hub: got true, but there is no access token"):
        training(tmp_path)
