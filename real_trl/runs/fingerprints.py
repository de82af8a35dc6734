# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Fingerprints of models and data by their contents, so that it can be told what a generated dataset was made with."""

import hashlib
import json
from pathlib import Path

from datasets import Dataset
from transformers.utils import cached_file
from transformers.utils.hub import extract_commit_hash

from real_trl.option_values import FieldError
from real_trl.text.json_text import to_json

# What decides what a model writes; not the log, optimizer and arguments of its training, which may lie beside it
_MODEL_FILES = (
    *("*.safetensors", "pytorch_model*.bin", "adapter_model.bin", "config.json", "adapter_config.json"),
    *("generation_config.json", "tokenizer*", "special_tokens_map.json", "vocab.*", "merges.txt", "chat_template*"),
)
_WHOLE_UP_TO = 64 * 2**20  # bytes
_BLOCKS, _BLOCK_SIZE = 256, 2**18


def model_fingerprint(name_or_path: str, revision: str | None = None) -> str:
    """
    What tells a model from others: of a local directory, a SHA-256 over weights, configuration and tokenizer (and over
    the base model, for a LoRA adapter); of a model on the Hub, its commit.

    Of files of more than 64 MiB, the size and 256 blocks spread over the file are read: training changes every part of a
    model, and reading all of a large one takes minutes.

    Args:
        name_or_path (`str`):
            Local directory, or model id on the Hub.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.

    Raises:
        ValueError: if there is no such model.
    """
    folder = Path(name_or_path)
    if not folder.is_dir():
        for name in ("config.json", "adapter_config.json"):
            cached = cached_file(name_or_path, name, revision=revision, _raise_exceptions_for_missing_entries=False)
            if cached is not None:
                return f"commit {extract_commit_hash(cached, None)}"
        said = f": {name_or_path!r} holds no config.json"
        raise FieldError("model", name_or_path, "Give a model.", said)
    digest = hashlib.sha256()
    for path in sorted({path for pattern in _MODEL_FILES for path in folder.glob(pattern) if path.is_file()}):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            if path.stat().st_size <= _WHOLE_UP_TO:
                digest.update(file.read())
                continue
            for block in range(_BLOCKS):
                file.seek(max(0, block * (path.stat().st_size - _BLOCK_SIZE) // (_BLOCKS - 1)))
                digest.update(file.read(_BLOCK_SIZE))
    adapter = folder / "adapter_config.json"
    if adapter.is_file() and (base := json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path")):
        digest.update(model_fingerprint(base).encode())
    return f"sha256 {digest.hexdigest()}"


def data_fingerprint(dataset: Dataset) -> str:
    """SHA-256 over all rows and columns; unlike `Dataset._fingerprint`, it does not change with a file's date or path."""
    digest = hashlib.sha256()
    for batch in dataset.iter(1000):
        digest.update(to_json(batch, sort_keys=True, default=str, ensure_ascii=True).encode())
    return digest.hexdigest()
