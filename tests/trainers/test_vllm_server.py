# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
`REALTrainer` with `vllm_mode="server"` against a `vllm serve` started as docs/vllm.md says, on the CPU: all but how weights travel, which is
NCCL's and needs GPUs.
"""

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from real_trl import REALConfig, REALTrainer
from tests.helpers.vllm_serve import vllm_serve
from tests.tiny import TOKENIZER, prompt_dataset, save_for_vllm

pytestmark = pytest.mark.vllm
K = 4
PAGE = (Path(__file__).parents[2] / "docs" / "vllm.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The page's server, of a tiny model in float32, on one CPU."""
    pytest.importorskip("vllm")
    directory = tmp_path_factory.mktemp("model")
    save_for_vllm(directory)
    (command,) = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    words = shlex.split(command.replace("\\\n", " "))
    assert words[:4] == ["CUDA_VISIBLE_DEVICES=6,7", "VLLM_SERVER_DEV_MODE=1", "vllm", "serve"]
    options = words[5:]
    for name, value in {"--tensor-parallel-size": "1", "--max-model-len": "128"}.items():
        options[options.index(name) + 1] = value
    options += ["--dtype", "float32", "--enforce-eager"]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with vllm_serve(str(directory), options, log, VLLM_SERVER_DEV_MODE="1") as url:
        yield SimpleNamespace(url=url, model=str(directory))


def make_trainer(tmp_path, server, **options):
    args = REALConfig(
        str(tmp_path),
        num_generations=K,
        per_device_train_batch_size=2 * K,
        max_completion_length=8,
        use_vllm=True,
        vllm_mode="server",
        vllm_server_base_url=server.url,
        vllm_server_timeout=5.0,
        malformed="force",  # an untrained model shows no scores
        learning_rate=0.01,
        lr_scheduler_type="constant",
        max_steps=2,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        **options,
    )
    model = AutoModelForCausalLM.from_pretrained(server.model, dtype=torch.float32)
    return REALTrainer(model=model, args=args, train_dataset=prompt_dataset([4.0, 2.0]), processing_class=TOKENIZER)


def test_weights_need_nccl(tmp_path, server):
    with pytest.raises(NotImplementedError, match="NCCL weight-transfer engine, which needs a CUDA device"):
        make_trainer(tmp_path, server)


@pytest.fixture
def deaf(monkeypatch):
    """TRL's client, but weights are not sent; `sent` counts how often they would have been, and `asked` has what is asked for."""
    from trl.generation.vllm_client import VLLMClient

    seen = SimpleNamespace(sent=0, asked=[], resets=0)
    generate, reset = VLLMClient.generate, VLLMClient.reset_prefix_cache

    def update(client, metadata, named_params):
        names = [name for name, _ in named_params]
        assert names == [name for name, *_ in metadata] and "model.embed_tokens.weight" in names
        seen.sent += 1

    def ask(client, prompts, **options):
        seen.asked.append((len(prompts), options["n"], options["logprobs"]))
        return generate(client, prompts=prompts, **options)

    def count(client):
        reset(client)
        seen.resets += 1

    monkeypatch.setattr(VLLMClient, "init_communicator", lambda client, device: None)
    monkeypatch.setattr(VLLMClient, "update_named_params", update)
    monkeypatch.setattr(VLLMClient, "generate", ask)
    monkeypatch.setattr(VLLMClient, "reset_prefix_cache", count)
    return seen


def test_training_with_a_server(tmp_path, server, deaf):
    """The first batch is of the trainer's weights; the second is not, since none arrived, and the log shows it."""
    trainer = make_trainer(tmp_path, server)
    info = trainer.vllm_generation.vllm_client.get_server_info()["model_config"]
    assert info["hf_overrides"] == {"head_dtype": "float32"}
    trainer.train()
    assert deaf.asked == [(2, K, 0)] * 2 and deaf.sent == deaf.resets == 2
    first, second = [
        log["sampling/sampling_logp_difference/max"] for log in trainer.state.log_history if "reward" in log
    ]
    assert first < 1e-4 and second > 1e-2


def test_another_temperature_needs_another_mode(tmp_path, server, deaf, caplog):
    trainer = make_trainer(tmp_path, server, temperature=0.7)
    assert "Start it with --logprobs-mode processed_logprobs" in caplog.text
    trainer.train()
    assert [logprobs for *_, logprobs in deaf.asked] == [None, None]
    with pytest.raises(
        ValueError, match="vllm_importance_sampling_correction: the server gives .* mode raw_logprobs, which are not"
    ):
        make_trainer(tmp_path, server, temperature=0.7, vllm_importance_sampling_correction=True)
