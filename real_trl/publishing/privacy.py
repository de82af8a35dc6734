# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Keeps what is private out of what is shown and uploaded: tokens, and the paths of this machine."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import get_token

_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "WANDB_API_KEY")
_TOKEN = re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}\b")
_TEXTS = (".json", ".md", ".jinja", ".txt", ".py", ".yaml")
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json")
_MASK = "<token>"


def known_tokens(*more: str | None) -> list[str]:
    """The tokens of this process: from the environment, from `hf auth login`, and `more`; the longest first."""
    tokens = {os.environ.get(name) for name in _VARIABLES} | {get_token(), *more}
    return sorted({token.strip() for token in tokens if token and token.strip()}, key=len, reverse=True)


def redact(text: object, *more: str | None) -> str:
    """`text` with every token replaced: the known ones, `more`, and whatever has a token's form."""
    shown = str(text)
    for token in known_tokens(*more):
        shown = shown.replace(token, _MASK)
    return _TOKEN.sub(_MASK, shown)


def check_nothing_private(folder: Path, local_paths: Iterable[str | Path], *more: str | None) -> None:
    """
    Refuse a folder with a token in a file's bytes, or one of `local_paths` in its texts (vocabularies apart).

    Raises:
        `ValueError`: naming the file, and never the token.
    """
    tokens = [token.encode() for token in known_tokens(*more)]
    paths = sorted({str(Path(path).expanduser().resolve()) for path in local_paths})
    paths = [path for path in paths if len(Path(path).parts) > 2]  # "/" and "/root" are in many texts
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder)
        is_text = file.suffix in _TEXTS and file.name not in _VOCABULARIES
        content = file.read_bytes() if is_text or file.stat().st_size < 2**20 else b""
        if any(token in content for token in tokens) or (is_text and _TOKEN.search(content.decode(errors="replace"))):
            raise ValueError(
                f"{name}: it holds an access token, which would become public. Remove it from the judge's files, and revoke the "
                "token if the file was ever shared."
            )
        found = [path for path in paths if is_text and path.encode() in content]
        if found:
            raise ValueError(
                f"{name}: it holds the path {found[0]!r} of this machine. Replace it by a name, then publish again."
            )
