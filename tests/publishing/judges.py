# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Outputs of a training as they lie on a disk: a judge, and all that must not be published with it."""

import json
from pathlib import Path

import torch
from peft import get_peft_model

from real_trl.judge_config import JudgeConfig
from real_trl.prompts.template import PromptTemplate
from real_trl.runs.folder import GeneratedFolder
from real_trl.score_space import ScoreSpace
from tests.tiny import TOKENIZER, build_model, lora_config, warm_model

TOKEN = "hf_" + "PrivateTokenOfTheTests" * 2
TEMPLATE = "Grade this homework from 1 to 5.\n{{ response }}"
PUBLISHED = {
    *("README.md", "config.json", "generation_config.json", "judge_config.json", "model.safetensors"),
    *("tokenizer.json", "tokenizer_config.json"),
}


def judge_config(base_model: str, **kwargs: object) -> JudgeConfig:
    space = ScoreSpace.from_labels("1-5", TOKENIZER)
    training = {"seed": 3, "learning_rate": 1e-6, "num_generations": 8, "group_filter": None}
    config = JudgeConfig.from_space(
        space, **{"method": "regression", "base_model": base_model, "training": training, **kwargs}
    )
    config.use_template(PromptTemplate(TEMPLATE, "/somewhere/private/homework.jinja"))
    return config


def write_judge(folder: Path, base_model: str = "acme/base-8b", **kwargs: object) -> Path:
    """A judge that answers [`TEMPLATE`] in the right form, in the company of what a training leaves behind."""
    folder.mkdir(parents=True)
    warm_model().save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    judge_config(base_model, **kwargs).save(folder)
    write_leftovers(folder)
    return folder


def write_leftovers(folder: Path) -> None:
    torch.save({"hub_token": "no"}, folder / "training_args.bin")
    torch.save({}, folder / "optimizer.pt")
    (folder / "trainer_state.json").write_text(json.dumps({"path": str(folder)}))
    (folder / "training_curves.png").write_bytes(b"png")
    (folder / "completions").mkdir()
    (folder / "completions" / "completions_00001.parquet").write_bytes(b"rows")
    (folder / "runs").mkdir()
    (folder / "runs" / "events.out.tfevents.1").write_bytes(b"events")
    checkpoint = folder / "checkpoint-10"
    checkpoint.mkdir()
    (checkpoint / "model.safetensors").write_bytes(b"older weights")
    (checkpoint / "scheduler.pt").write_bytes(b"state")


def write_adapter(folder: Path, base: str) -> Path:
    """A LoRA judge on the model in the directory `base`, which is written if it is not there."""
    if not Path(base).is_dir():
        warm_model().save_pretrained(base)
        TOKENIZER.save_pretrained(base)
    model = build_model(initializer_range=0.02)
    model.load_state_dict(warm_model().state_dict())
    torch.manual_seed(0)
    adapted = get_peft_model(model, lora_config())
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:  # zero at the start: an adapter that does nothing
            torch.nn.init.normal_(parameter, std=0.05)
    adapted.peft_config["default"].base_model_name_or_path = base
    folder.mkdir(parents=True)
    adapted.save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    judge_config(base).save(folder)
    write_leftovers(folder)
    return folder


def write_evaluation(folder: Path, config: JudgeConfig, *names: str, **fingerprints: str) -> dict[str, float]:
    """
    An `evaluation.json` as `real-trl evaluate` makes it, out of made-up predictions, and of the judges in `fingerprints`
    the provenance; returns the RAIL figures.
    """
    names = (*names, *fingerprints) or ("my-real",)
    import pandas as pd

    from real_trl.evaluation.assemble import assemble_evaluation
    from real_trl.scale import Scale
    from real_trl.scripts.evaluate import write_report

    rows = []
    for row in range(20):
        target = 1.0 + row % 5
        expected = 1.2 + 0.8 * (row % 5) + 0.05 * (row % 3)
        rows.append(
            {
                "row": row,
                "id": str(row),
                "group": str(row // 2),
                "target": target,
                "sampled_score": float(round(expected)),
                "most_likely_score": float(round(expected)),
                "expected_score": expected,
                "probabilities": [0.2] * 5,
                "mass": 1.0,
                "missing_mass": 0.0,
                "status": "ok",
                "num_tokens": 12,
                "entropy": 0.5,
                "completion": "So the overall score is 3",
                "rationale": "",
            }
        )
    frames = {"test": {name: pd.DataFrame(rows) for name in names}}
    evaluation = assemble_evaluation(frames, scale=Scale.parse("1-5"), num_resamples=100)
    said = {field: value for field, value in vars(config).items() if field != "versions"}
    evaluation |= {
        "judges": {name: {"model": "outputs/my-real", "judge": said} for name in names},
        "settings": {
            "arguments": {"benchmarks": None},
            "data": {"dataset_name": "/home/someone/secret-project/scores.jsonl"},
        },
        "versions": {},
        "command": "real-trl evaluate",
    }
    folder.mkdir(parents=True)
    write_report(folder, evaluation, frames)
    for name, fingerprint in fingerprints.items():
        made_with = {"model": {"name_or_path": "outputs/my-real", "fingerprint": fingerprint}}
        predictions = GeneratedFolder(folder / "predictions" / name / "test", made_with, "predictions.parquet")
        predictions.start({})
        predictions.finish({}, {})
    return evaluation["results"]["test"][names[0]]["rail"]
