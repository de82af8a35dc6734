# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Keeps what is private out of what is shown and uploaded: tokens, and the paths of this machine."""

import mmap
from collections.abc import Iterable
from pathlib import Path

from real_trl.text.redaction import holds_secret, known_secrets

_TEXTS = (".json", ".md", ".jinja", ".txt", ".py", ".yaml")
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json")


def check_nothing_private(folder: Path, local_paths: Iterable[str | Path], *more: str | None) -> None:
    """
    Refuse a folder that holds something private: a known secret
    ([`~real_trl.text.redaction.known_secrets`] and `more`) anywhere in a file, however large; or, in
    texts (vocabularies apart) and the headers of safetensors files, any other secret
    ([`~real_trl.text.redaction.holds_secret`]) or one of `local_paths`.

    Raises:
        `ValueError`: naming the file, and never the token.
    """
    tokens = [token.encode() for token in known_secrets(*more)]
    paths = sorted({str(Path(path).expanduser().resolve()) for path in local_paths})
    paths = [path for path in paths if len(Path(path).parts) > 2]  # "/" and "/root" are in many texts
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder)
        is_text = file.suffix in _TEXTS and file.name not in _VOCABULARIES
        text = file.read_bytes() if is_text else _header(file)
        if file.suffix == ".md":  # where Markdown's signs are escaped
            text += b"\n" + text.replace(b"\\", b"")
        if holds_secret(text.decode("utf-8", "replace")) or _holds(file, tokens):
            raise ValueError(
                f"{name}: it holds an access token, which would become public. Remove it from the judge's files, and revoke the "
                "token if the file was ever shared."
            )
        found = [path for path in paths if path.encode() in text]
        if found:
            raise ValueError(
                f"{name}: it holds the path {found[0]!r} of this machine. Replace it by a name, then publish again."
            )


def _header(file: Path) -> bytes:
    """The JSON at the start of a safetensors file, after its length; nothing of any other file."""
    if file.suffix != ".safetensors":
        return b""
    with file.open("rb") as stream:
        return stream.read(int.from_bytes(stream.read(8), "little"))


def _holds(file: Path, tokens: Iterable[bytes]) -> bool:
    """Whether one of `tokens` is in the file, which may be larger than the memory."""
    if file.stat().st_size == 0:  # cannot be mapped
        return False
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(token) >= 0 for token in tokens)
