# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a judge was trained from: back from stage to stage, to a model on the Hub or to the name of a local one."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from huggingface_hub.utils import validate_repo_id

from real_trl.judge_config import JUDGE_CONFIG_NAME, JudgeConfig
from real_trl.option_values import shown
from real_trl.weights.files import read_json


class TrainingData(NamedTuple):
    """What a stage recorded about its data: a public name, its id on the Hub if it is there, its split, and its number of rows."""

    dataset_name: str
    hub_dataset: str | None
    split: str
    rows: int

    @classmethod
    def of(cls, config: JudgeConfig) -> "TrainingData | None":
        """From `training` of a judge's configuration; `None` if nothing was recorded, `ValueError` if it is malformed."""
        data = config.training.get("data")
        if data is None:
            return None
        fault = None if isinstance(data, dict) else f"it is {shown(data)}, not a mapping"
        for name, kind in {"dataset_name": str, "split": str, "rows": int, "hub_dataset": str}.items():
            value = None if fault else data.get(name)
            if fault is None and not (type(value) is kind or (value is None and name == "hub_dataset")):
                fault = f"{name} is {shown(value)}"
        if fault is None and data.get("hub_dataset") and not is_hub_id(data["hub_dataset"]):
            fault = f"hub_dataset is {shown(data['hub_dataset'])}, no id on the Hub"
        if fault:
            raise ValueError(
                f"{JUDGE_CONFIG_NAME}: training.data: {fault}. It says dataset_name, hub_dataset, split and rows: restore it from the "
                "training's output, or remove it."
            )
        return cls(*(data.get(name) for name in cls._fields))


@dataclass(frozen=True)
class Lineage:
    """
    Where a judge comes from.

    Attributes:
        stages (`list[JudgeConfig]`):
            The judges on the way, the first one trained first; the last is the judge itself.
        base_model (`str`, *optional*):
            Model id on the Hub that the first stage started from; `None` if that was a local directory.
        root (`str`, *optional*):
            What it started from, for people: the id, or the last part of the directory's path.
    """

    stages: list[JudgeConfig]
    base_model: str | None
    root: str | None


def find_lineage(config: JudgeConfig, base_model: str | None = None) -> Lineage:
    """
    Follow `base_model` back through the `judge_config.json` of the judges that it names, as far as they are on this machine.

    Args:
        config ([`JudgeConfig`]):
            The judge's own.
        base_model (`str`, *optional*):
            Model id on the Hub that the first stage started from, if it is known better.
    """
    stages, seen, start = [config], set(), config.base_model
    while start is not None and Path(start).is_dir() and Path(start).resolve() not in seen:
        folder = Path(start).resolve()
        seen.add(folder)
        if (folder / JUDGE_CONFIG_NAME).is_file():
            before = JudgeConfig.load(folder)
            stages.insert(0, before)
            start = before.base_model
        elif (folder / "adapter_config.json").is_file():
            start = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
            start = start if isinstance(start, str) and start else None
        else:
            break
    if base_model is not None:
        return Lineage(stages, base_model, base_model)
    if start is None:
        return Lineage(stages, None, None)
    hub_id = start if is_hub_id(start) else None
    return Lineage(stages, hub_id, hub_id or public_name(start))


def base_among(config: JudgeConfig, models: Mapping[str, str]) -> str | None:
    """
    The one of some models that a judge was trained from.

    Args:
        config ([`JudgeConfig`]): The judge's own.
        models (`Mapping[str, str]`): Name → directory or model id on the Hub.

    Returns:
        `str` or `None`: The name of the one that the earliest stage started from that started from any of them; none where a judge on
        the way cannot be read.
    """
    try:
        stages = find_lineage(config).stages
    except (ValueError, OSError):
        return None
    for stage in stages:
        for name, model in models.items():
            if stage.base_model is not None and _same_model(stage.base_model, model):
                return name
    return None


def _same_model(one: str, other: str) -> bool:
    return one == other or (Path(one).is_dir() and Path(one).resolve() == Path(other).resolve())


def is_hub_id(name: str) -> bool:
    """Whether `name` reads like `user/model` on the Hub, and is no directory here; trainings mark directories ([`mark_local`])."""
    if Path(name).is_dir() or name.startswith((".", "/", "~", "outputs/")) or name.count("/") != 1:
        return False
    try:
        validate_repo_id(name)
    except ValueError:
        return False
    return True


def mark_local(name: str, is_local: bool) -> str:
    """
    `name` of a base model as `judge_config.json` holds it: a relative directory (`models/qwen`) with `./` before it, since the
    judge may be published from elsewhere, where nothing else would tell it from a model id on the Hub.
    """
    return f"./{name}" if is_local and not name.startswith((".", "/", "~")) else name


def public_name(path: str) -> str:
    """What may be said in public about a local path: its last part."""
    return Path(path).name or "local model"
