# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Which files of a training output make a published judge, and a folder with nothing else.

What is left behind: checkpoints, optimizer states, `training_args.bin` (a pickle), logs, curves, evaluations, and every path of
this machine.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import AutoPeftModelForCausalLM, PeftConfig
from transformers import AutoConfig, GenerationConfig

from real_trl.judge_config import JUDGE_CONFIG_NAME, JudgeConfig
from real_trl.publishing.lineage import find_lineage, is_hub_id, mark_local, public_name
from real_trl.publishing.own_code import own_code
from real_trl.publishing.regular_files import check_regular
from real_trl.text.json_text import to_json
from real_trl.weights.files import (
    ADAPTER,
    ADAPTER_CONFIG,
    ADAPTER_INDEX,
    INDEX,
    PICKLES,
    WEIGHTS,
    check_weights,
    read_json,
    weight_files,
)
from real_trl.weights.merged import merge_whole
from real_trl.weights.pretrained import load_tokenizer, loading

_MODEL = ("config.json", "generation_config.json")
_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model"),
    *("vocab.json", "vocab.txt", "merges.txt", "spiece.model", "chat_template.jinja"),
)
_TEMPLATES = "additional_chat_templates"
# Patterns of what a judge that was published before may have left in its place: any of it could be loaded with this one's files
REPLACED = (
    *_MODEL,
    *_TOKENIZER,
    f"{_TEMPLATES}/*.jinja",
    *(WEIGHTS, "model-*.safetensors", INDEX, ADAPTER, "adapter_model-*.safetensors", ADAPTER_INDEX, ADAPTER_CONFIG),
    *("pytorch_model-*.bin", *PICKLES),
)


@dataclass(frozen=True)
class JudgeFiles:
    """
    The files of a judge that are published as they are, or merged.

    Attributes:
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
    # Every name is looked at before anything is read through it: what it stands for may be elsewhere, or no file at all
    candidates = (JUDGE_CONFIG_NAME, *_MODEL, *_TOKENIZER, WEIGHTS, INDEX, ADAPTER, ADAPTER_INDEX, ADAPTER_CONFIG)
    present = {name for name in candidates if check_regular(folder, name)}
    if JUDGE_CONFIG_NAME not in present:
        raise ValueError(
            f"judge {str(folder)!r}: no {JUDGE_CONFIG_NAME}, which says on which scale it scores. Give the output_dir of a training "
            "stage, which holds one."
        )
    config = JudgeConfig.load(folder)
    tokenizer = [name for name in _TOKENIZER if name in present]
    if not {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"} & present:
        raise ValueError(
            f"judge {str(folder)!r}: no tokenizer (tokenizer.json). Save it there: `tokenizer.save_pretrained({str(folder)!r})`."
        )
    tokenizer += [str(path.relative_to(folder)) for path in sorted(folder.glob(f"{_TEMPLATES}/*.jinja"))]
    weights = weight_files(folder)
    adapter_base = None
    if ADAPTER_CONFIG in present and {ADAPTER, ADAPTER_INDEX} & set(weights):
        weights.insert(0, ADAPTER_CONFIG)
        adapter_base = _adapter_base(folder)
        if config.base_model == mark_local(adapter_base, is_local=True):
            adapter_base = config.base_model  # PEFT writes down a relative directory as it writes a model id
    elif "config.json" not in present:
        raise ValueError(f"judge {str(folder)!r}: no config.json beside the weights. Copy or train it again.")
    else:
        tokenizer += [name for name in _MODEL if name in present] + own_code(folder)
    names = [JUDGE_CONFIG_NAME, *tokenizer, *weights]
    for name in names:
        check_regular(folder, name)
    _parse(folder, names, adapter_base is not None)
    return JudgeFiles(folder, config, names, adapter_base)


def _adapter_base(folder: Path) -> str:
    base = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ValueError(
            f"{folder / ADAPTER_CONFIG}: base_model_name_or_path is {base!r:.80}. Set it to the base model's name."
        )
    return base


def _parse(folder: Path, names: Iterable[str], is_adapter: bool) -> None:
    """`ValueError` for a file that is not what its name says; whoever loads the judge would find out, or worse."""
    names = set(names)
    for name in names:
        if name.endswith(".json"):
            read_json(folder / name, max_bytes=2**29 if name in ("tokenizer.json", "vocab.json") else 2**26)
        elif name.endswith((".txt", ".jinja")):
            try:
                (folder / name).read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"{folder / name}: it is not text in UTF-8 ({error}). Copy it again.") from error
        elif (
            name.endswith(".model") and (folder / name).read_bytes()[:1] != b"\n"
        ):  # the first field of its protocol buffer
            raise ValueError(f"{folder / name}: it is no SentencePiece model. Copy it again.")
    has_code = [
        name for name in ("config.json", "tokenizer_config.json") if name in names and _auto_map(folder / name)
    ]
    if is_adapter:
        with loading(str(folder / ADAPTER_CONFIG), "configuration of an adapter"):
            PeftConfig.from_pretrained(folder)
    elif not has_code:
        with loading(str(folder / "config.json"), "configuration"):
            AutoConfig.from_pretrained(folder)
    if "tokenizer_config.json" not in has_code:
        load_tokenizer(str(folder), None, False)


def _auto_map(path: Path) -> Any:
    return read_json(path).get("auto_map")


def write_judge_files(judge: JudgeFiles, target: Path, *, merge: bool = False, base_model: str | None = None) -> None:
    """
    Write the files that are published into `target`.

    Args:
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
        if merge and name.startswith("adapter_"):
            continue
        check_regular(judge.folder, name)
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(judge.folder / name, target / name)
    if merge:
        _merge(judge, target)
    public_judge_config(judge.config, base_model).save(target)
    _edit(target / "config.json", remove=("_name_or_path",))
    _edit(target / "tokenizer_config.json", remove=("name_or_path",))
    if base_model and not merge:
        _edit(target / ADAPTER_CONFIG, base_model_name_or_path=base_model)
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
        with loading(str(judge.adapter_base), "model"):
            check_weights(judge.folder)
            model = AutoPeftModelForCausalLM.from_pretrained(judge.folder, dtype="auto", use_safetensors=True)
    except ValueError as error:
        raise ValueError(
            f"--merge: the base model {judge.adapter_base!r} of the adapter could not be loaded ({error}). Put it there, or publish "
            "the adapter without --merge."
        ) from error
    merge_whole(model, "--merge", "Publish the adapter without --merge").save_pretrained(target)


def _write_base_config(base: str, target: Path) -> None:
    """The configuration of an adapter's base model, which tells what the adapter is for before any weights are loaded."""
    try:
        with loading(base, "configuration"):
            AutoConfig.from_pretrained(base).save_pretrained(target)
    except ValueError as error:
        raise ValueError(
            f"base_model: the configuration of {base!r}, which the adapter is for, could not be loaded ({error}). Put the model there, or "
            "check the connection."
        ) from error


def _edit(path: Path, remove: Iterable[str] = (), **values: Any) -> None:
    """Change entries of a JSON file, if it is there and needs it."""
    if not path.is_file():
        return
    content = read_json(path)
    changed = {name: value for name, value in content.items() if name not in remove} | values
    if changed != content:
        path.write_text(to_json(changed, indent=2) + "\n", encoding="utf-8")
