# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Which files of a training output make a published judge, and a folder with nothing else.

What is left behind: checkpoints, optimizer states, `training_args.bin` (a pickle), logs, curves, evaluations, and every path of
this machine.
"""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HfHubHTTPError
from peft import AutoPeftModelForCausalLM
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, GenerationConfig

from real_trl.json_text import to_json
from real_trl.judge_config import JUDGE_CONFIG_NAME, JudgeConfig
from real_trl.merged_weights import merge_whole
from real_trl.publishing.lineage import find_lineage, is_hub_id, mark_local, public_name

_MODEL = ("config.json", "generation_config.json")
_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model"),
    *("vocab.json", "vocab.txt", "merges.txt", "spiece.model", "chat_template.jinja"),
)
_TEMPLATES = "additional_chat_templates"
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_ADAPTER, _ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
_OTHER_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json", "adapter_model.bin")
# Patterns of what a judge that was published before may have left in its place: any of it could be loaded with this one's files
REPLACED = (
    *_MODEL,
    *_TOKENIZER,
    f"{_TEMPLATES}/*.jinja",
    *("model.safetensors", "model-*.safetensors", _INDEX, _ADAPTER, _ADAPTER_CONFIG),
    *("pytorch_model-*.bin", *_OTHER_WEIGHTS),
)


@dataclass(frozen=True)
class JudgeFiles:
    """
    The files of a judge that are published as they are, or merged.

    Attributes:
        folder (`Path`):
            The judge's directory.
        config ([`JudgeConfig`]):
            Its `judge_config.json`.
        names (`list[str]`):
            Files, relative to it.
        adapter_base (`str`, *optional*):
            For a LoRA adapter, the model that it is put on.
    """

    folder: Path
    config: JudgeConfig
    names: list[str]
    adapter_base: str | None = None


def find_judge_files(folder: str | Path) -> JudgeFiles:
    """
    The files of a judge, each checked to be there.

    Raises:
        `ValueError`: naming what is missing and how it comes about.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise ValueError(
            f"judge {str(folder)!r}: no such directory. Give the output_dir of a training stage (`real-trl sft`, `real-trl rl`)."
        )
    if not (folder / JUDGE_CONFIG_NAME).is_file():
        raise ValueError(
            f"judge {str(folder)!r}: no {JUDGE_CONFIG_NAME}, which says on which scale it scores. Give the output_dir of a training "
            "stage, which holds one."
        )
    config = JudgeConfig.load(folder)
    present = {path.name for path in folder.iterdir() if path.is_file()}
    tokenizer = [name for name in _TOKENIZER if name in present]
    if not {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"} & present:
        raise ValueError(
            f"judge {str(folder)!r}: no tokenizer (tokenizer.json). Save it there: `tokenizer.save_pretrained({str(folder)!r})`."
        )
    tokenizer += [str(path.relative_to(folder)) for path in sorted(folder.glob(f"{_TEMPLATES}/*.jinja"))]
    weights, adapter_base = _weights(folder, present)
    if adapter_base is not None and config.base_model == mark_local(adapter_base, is_local=True):
        adapter_base = config.base_model  # PEFT writes down a relative directory as it writes a model id
    if adapter_base is None:
        tokenizer += [name for name in _MODEL if name in present] + _own_code(folder)
    return JudgeFiles(folder, config, [JUDGE_CONFIG_NAME, *tokenizer, *weights], adapter_base)


def _weights(folder: Path, present: set[str]) -> tuple[list[str], str | None]:
    """The files of the weights, each opened, and an adapter's base model."""
    adapter_base = None
    if _ADAPTER in present and _ADAPTER_CONFIG in present:
        adapter_base = json.loads((folder / _ADAPTER_CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"]
        files, names = [_ADAPTER], [_ADAPTER_CONFIG, _ADAPTER]
    elif _INDEX in present:
        files = sorted(set(json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
        names = [_INDEX, *files]
    elif _WEIGHTS in present:
        files, names = [_WEIGHTS], [_WEIGHTS]
    else:
        other = [name for name in _OTHER_WEIGHTS if name in present]
        fix = "Train it with this library, or load and save it with `save_pretrained`, which writes safetensors."
        raise ValueError(
            f"judge {str(folder)!r}: no weights ({_WEIGHTS}, or {_ADAPTER} with {_ADAPTER_CONFIG})"
            + (
                f"; {other[0]} is a pickle, which is not published. {fix}"
                if other
                else ". Give a finished training's output_dir."
            )
        )
    for name in files:
        if not (folder / name).is_file():
            raise ValueError(
                f"judge {str(folder)!r}: {name} is missing, which {_INDEX} lists. Copy or train it again."
            )
        try:
            with safe_open(folder / name, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"judge {str(folder)!r}: {name} is not whole ({error}). Copy or train it again."
            ) from error
    if adapter_base is None and "config.json" not in present:
        raise ValueError(f"judge {str(folder)!r}: no config.json beside the weights. Copy or train it again.")
    return names, adapter_base


def _own_code(folder: Path) -> list[str]:
    """The modules of a model with code of its own, which `config.json` names."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not config.get("auto_map"):
        return []
    return sorted(path.name for path in folder.glob("*.py"))


def write_judge_files(judge: JudgeFiles, target: Path, *, merge: bool = False, base_model: str | None = None) -> None:
    """
    Write the files that are published into `target`.

    Args:
        judge ([`JudgeFiles`]):
            The judge.
        target (`Path`):
            An empty folder.
        merge (`bool`, *optional*, defaults to `False`):
            Write a LoRA judge as a whole model.
        base_model (`str`, *optional*):
            Model id on the Hub of an adapter's base, or of what the first stage started from.

    Raises:
        `ValueError`: for an adapter whose base model is on this machine only, or if there is nothing to merge.
    """
    check_adapter_base(judge, merge, base_model)
    target.mkdir(parents=True, exist_ok=True)
    for name in judge.names:
        if merge and name in (_ADAPTER, _ADAPTER_CONFIG):
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(judge.folder / name, target / name)
    if merge:
        _merge(judge, target)
    public_judge_config(judge.config, base_model).save(target)
    _edit(target / "config.json", remove=("_name_or_path",))
    _edit(target / "tokenizer_config.json", remove=("name_or_path",))
    if base_model and not merge:
        _edit(target / _ADAPTER_CONFIG, base_model_name_or_path=base_model)
    if judge.adapter_base is not None and not merge:
        _write_base_config(judge.adapter_base, target)
    if not (target / "generation_config.json").is_file() and not list(target.glob("*.py")):
        config = AutoConfig.from_pretrained(target, trust_remote_code=False)
        GenerationConfig.from_model_config(config).save_pretrained(target)


def check_adapter_base(judge: JudgeFiles, merge: bool, base_model: str | None) -> None:
    """Errors of [`write_judge_files`], before anything is written."""
    if merge and judge.adapter_base is None:
        raise ValueError(f"--merge: {str(judge.folder)!r} is a whole model, not a LoRA adapter. Leave --merge out.")
    base = base_model or judge.adapter_base
    if judge.adapter_base is not None and not merge and not is_hub_id(base):
        raise ValueError(
            f"base_model: the adapter in {str(judge.folder)!r} is for {judge.adapter_base!r}, which only this machine has. Merge it "
            "(--merge), or give the same model's id on the Hub (--base_model user/name)."
        )


def public_judge_config(config: JudgeConfig, base_model: str | None = None) -> JudgeConfig:
    """A copy without paths of this machine: the base model by its id or name, the template by its file's name."""
    public = JudgeConfig(**vars(config))
    if config.base_model is not None:
        keep = is_hub_id(config.base_model)
        public.base_model = config.base_model if keep else public_name(config.base_model)
    if base_model is not None and len(find_lineage(config).stages) == 1:
        public.base_model = base_model
    if config.prompt_template is not None:
        public.prompt_template = Path(config.prompt_template).name
    return public


def _merge(judge: JudgeFiles, target: Path) -> None:
    try:
        model = AutoPeftModelForCausalLM.from_pretrained(judge.folder, dtype="auto")
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise ValueError(
            f"--merge: the base model {judge.adapter_base!r} of the adapter could not be loaded ({error}). Put it there, or publish "
            "the adapter without --merge."
        ) from error
    merge_whole(model, "--merge", "Publish the adapter without --merge").save_pretrained(target)


def _write_base_config(base: str, target: Path) -> None:
    """The configuration of an adapter's base model, which tells what the adapter is for before any weights are loaded."""
    try:
        AutoConfig.from_pretrained(base).save_pretrained(target)
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise ValueError(
            f"base_model: the configuration of {base!r}, which the adapter is for, could not be loaded ({error}). Put the model there, or "
            "check the connection."
        ) from error


def _edit(path: Path, remove: Iterable[str] = (), **values: Any) -> None:
    """Change entries of a JSON file, if it is there and needs it."""
    if not path.is_file():
        return
    content = json.loads(path.read_text(encoding="utf-8"))
    changed = {name: value for name, value in content.items() if name not in remove} | values
    if changed != content:
        path.write_text(to_json(changed, indent=2) + "\n", encoding="utf-8")
