# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The files of a model or judge on this disk, looked at before anything is made of them: whole, of a possible size, and no pickles."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from real_trl.templates.limited import MAX_SOURCE
from real_trl.text.json_text import unique_names

CONFIGS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER, ADAPTER_INDEX, ADAPTER_CONFIG = (
    "adapter_model.safetensors",
    "adapter_model.safetensors.index.json",
    "adapter_config.json",
)
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "adapter_model.bin", "adapter_model.pt")
MAX_BYTES = 2**26
"""Bytes of a file of settings."""
_MAX_VOCABULARY = 2**29
_MAX_DEPTH = 64
_AGAIN = "Copy it again, or restore it from the training's output."


def read_json(path: str | Path, kind: type = dict, max_bytes: int = MAX_BYTES, *, unique: bool = True) -> Any:
    """
    The content of a JSON file of settings.

    Args:
        kind (`type`, *optional*, defaults to `dict`):
            What it must hold.
        max_bytes (`int`, *optional*, defaults to 64 MiB):
            How large it may be.
        unique (`bool`, *optional*, defaults to `True`):
            Refuse a key that stands twice ([`~real_trl.text.json_text.unique_names`]).

    Raises:
        `ValueError`: naming the file and what is wrong: it is too large, no JSON, nested too deep, or says a thing twice.
    """
    path = Path(path)
    _check_size(path, max_bytes)
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique_names if unique else None)
    except (ValueError, RecursionError, OSError) as error:  # no JSON, no UTF-8, nested too deep
        raise ValueError(f"{path}: not valid JSON ({error}). {_AGAIN}") from error
    if not isinstance(content, kind):
        wanted = "an object" if kind is dict else "a list"
        raise ValueError(f"{path}: it holds a {type(content).__name__}, not {wanted} of JSON. {_AGAIN}")
    level, depth = [[content]], 0
    while level:
        level = [each for one in level for each in _inner(one) if isinstance(each, dict | list)]
        depth += 1
        if depth > _MAX_DEPTH:
            raise ValueError(f"{path}: nested deeper than {_MAX_DEPTH} levels, the limit. {_AGAIN}")
    return content


def _inner(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _check_size(path: Path, limit: int) -> None:
    if not path.is_file():
        raise ValueError(f"{path}: it is missing, or no regular file. {_AGAIN}")
    size = path.stat().st_size
    if size > limit:
        raise ValueError(f"{path}: it has {size:,} bytes; the limit is {limit:,}. {_AGAIN}")


def check_settings(folder: Path) -> None:
    """`ValueError` if a file beside the weights is broken, or larger or deeper than a model's is: it could stop whoever reads it."""
    for name in (*CONFIGS, ADAPTER_CONFIG, INDEX, ADAPTER_INDEX):
        if (folder / name).exists():
            read_json(folder / name, unique=False)  # of the many models there are, some say a thing twice
    for path in (*folder.glob("chat_template.jinja"), *folder.glob("additional_chat_templates/*.jinja")):
        _check_size(path, 4 * MAX_SOURCE)  # bytes of a character
    for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "merges.txt", "chat_template.json"):
        if (folder / name).exists():
            _check_size(folder / name, _MAX_VOCABULARY)


def weight_files(folder: Path) -> list[str]:
    """
    Names of the files that hold the weights in `folder`, an adapter's or a model's, each whole; of an index, itself first.

    Raises:
        `ValueError`: if there are none, they are pickles, one is damaged or lacking, or an index names a file elsewhere.
    """
    present = {path.name for path in folder.iterdir()}
    is_adapter = ADAPTER_CONFIG in present and bool(
        {ADAPTER, ADAPTER_INDEX} & present or not {WEIGHTS, INDEX} & present
    )
    single, index = (ADAPTER, ADAPTER_INDEX) if is_adapter else (WEIGHTS, INDEX)
    if single not in present and index not in present:
        pickle = next((name for name in PICKLES if name in present), None)
        wanted = f"{ADAPTER} with {ADAPTER_CONFIG}" if is_adapter else f"{WEIGHTS}, or {ADAPTER} with {ADAPTER_CONFIG}"
        fix = "Give a finished training's output_dir."
        if pickle is not None:
            fix = (
                "Take the model's safetensors, or, if you trust it, load and save it once with Transformers "
                "(`from_pretrained`, `save_pretrained`), which writes them."
            )
            pickle = f"; {pickle} is a pickle, which can run code when it is loaded, and is not read or published"
        raise ValueError(f"{folder}: no weights ({wanted}){pickle or ''}. {fix}")
    shards = [single]
    if single not in present:
        entries = read_json(folder / index).get("weight_map")
        if not isinstance(entries, dict) or not entries or not all(isinstance(name, str) for name in entries.values()):
            raise ValueError(f"{folder / index}: its weight_map is no object of file names. {_AGAIN}")
        shards = sorted(set(entries.values()))
        for name in shards:
            check_inside(folder / index, name)
            if not name.endswith(".safetensors"):
                raise ValueError(f"{folder / index}: {name!r} in it is no safetensors file. {_AGAIN}")
    for name in shards:
        if not (folder / name).is_file():
            raise ValueError(f"{folder}: {name} is missing, which {index} lists. Copy or train it again.")
        try:
            with safe_open(folder / name, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{folder}: {name} is not whole ({error}). Copy or train it again.") from error
    return shards if shards == [single] else [index, *shards]


def check_weights(folder: str | Path) -> None:
    """[`weight_files`] of a model or adapter on this disk, and of the model that the adapter is for; of anything else, nothing."""
    seen: set[Path] = set()
    while (folder := Path(folder)).is_dir() and folder.resolve() not in seen:
        seen.add(folder.resolve())
        weight_files(folder)
        if not (folder / ADAPTER_CONFIG).is_file():
            return
        folder = str(read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path"))


def check_inside(says: Path, name: str) -> None:
    """`ValueError` if `name`, which the file `says` gives as that of one beside it, is another place."""
    if not name or name in (".", "..") or any(sign in name for sign in "/\\:\0"):
        raise ValueError(f"{says}: it names {name[:200]!r}, which is no file beside it. {_AGAIN}")
