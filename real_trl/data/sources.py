# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Where rows come from: the Hub, a local file or directory, or the embedded generator; and grouped hold-out splits."""

import hashlib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset

from real_trl.data.files import EXTENSIONS, Source, read_file, read_saved
from real_trl.option_values import FieldError
from real_trl.text.keys import key_of
from real_trl.text.shown import first_few
from real_trl.weights.hub import look_for_hub, why_offline

SYNTHETIC = "synthetic"


class HubUnreachable(ValueError):
    """A dataset is not on this machine, and the Hub does not give it."""


def read_source(
    name: str, config: str | None, split: str, options: Mapping[str, Any], holdout: "HoldOut | None" = None
) -> Source:
    """
    Reads one split.

    Args:
        name (`str`):
            `"synthetic"`, a file, a directory with one file per split (`train.jsonl`, …) or written by `save_to_disk`, or a
            Hub id.
        config (`str` or `None`):
            Configuration of a Hub dataset.
        split (`str`):
            Split name. A single file has the split `"all"`, also called `"train"` when nothing is held out; with
            `holdout` it has `"train"`, `"test"` and `"all"`.
        options (`Mapping[str, Any]`):
            Keyword arguments of the generator or of [`~datasets.load_dataset`].
        holdout ([`HoldOut`], *optional*):
            How `"train"` and `"test"` are divided.

    Raises:
        [`HubUnreachable`], a `ValueError`: if the dataset is neither on this machine nor to be had from the Hub.
        `ValueError`: if there is no such split, or if a file cannot be parsed, naming the line where it has one.
    """
    part = holdout is not None and split in ("train", "test")
    path = Path(name).expanduser()
    if name == SYNTHETIC:
        if holdout is not None:
            raise ValueError("holdout_fraction: the synthetic dataset has its own test splits; remove the field.")
        return Source.from_dataset(name, _generate(split, options))
    if path.is_file() or path.is_dir():
        if options or config:
            raise ValueError(
                f"dataset_options and dataset_config do not apply to the local dataset_name={name!r}; remove them."
            )
        whole = holdout.split if part else split
        saved = read_saved(path) if path.is_dir() else None
        single = path.is_file() or (saved is not None and None in saved)
        if single and split not in ("train", "all", *(("test",) if holdout else ())):
            raise ValueError(
                f"dataset split {split!r} is unknown: {name!r} is a single file or dataset, whose splits are 'train' and "
                f"'all' (the whole of it), or 'train', 'test' and 'all' with holdout_fraction. Set holdout_fraction, name "
                f"one of these splits, or name a directory with one file per split."
            )
        if saved is None:
            source = read_file(path if single else _file_of_split(path, whole))
        elif not single and whole not in saved:
            raise ValueError(
                f"dataset split {whole!r} is unknown: {name!r} is a DatasetDict of the splits {', '.join(map(repr, saved))}. "
                f"Name one of them."
            )
        else:
            source = saved[None if single else whole]
    elif path.suffix.lower() in EXTENSIONS or name.startswith((".", "/", "~")):
        said = f"={name!r} is neither an existing file or directory nor a dataset id of the Hub"
        raise FieldError("dataset_name", name, "Check the path.", said)
    else:
        source = Source.from_dataset(name, _download(name, config, holdout.split if part else split, options))
    return holdout.part(source, split) if part else source


def read_splits(name: str, config: str | None = None) -> dict[str, Source]:
    """
    Split → rows of a dataset on the Hub.

    Raises:
        As [`read_source`].
    """
    splits = _download(name, config, None, {})
    return {split: Source.from_dataset(f"{name}, {split}", dataset) for split, dataset in splits.items()}


def in_hash_order(keys: Iterable[str], seed: int) -> list[str]:
    """`keys` in an order that depends on them and `seed` only: neither on the order of the rows nor on the process."""
    return sorted(keys, key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())


@dataclass(frozen=True)
class HoldOut:
    """
    Divides one split into `"train"` and `"test"` so that rows of the same group stay on the same side.

    Groups are ordered by a hash of the seed and of the group's value, and the first `fraction` of them is the test
    part. The outcome depends on neither the order of the rows nor the process.

    Args:
        fraction (`float`):
            Share of the groups in the test part, between 0 and 1.
        group (`str` or `None`):
            Column whose value makes a group; `None` makes every row a group of its own.
        split (`str`, *optional*, defaults to `"train"`):
            The split that is divided, where the source has several.
    """

    fraction: float
    group: str | None
    seed: int
    split: str = "train"

    def part(self, source: Source, split: str) -> Source:
        """Returns the `"train"` or the `"test"` rows of `source`."""
        if self.group is not None:
            source = source.with_paths([self.group])
        if self.group is None:
            keys = [str(number) for number in source.numbers]
        elif self.group not in source.columns:
            said = f"={self.group!r} is not a column of {source.name!r}"
            raise FieldError("holdout_group", self.group, f"Existing columns: {source.columns}.", said)
        else:
            named = [key_of(row[self.group]) for row in source.iterate([self.group])]
            empty = [source.where(i) for i, key in enumerate(named) if key is None]
            if empty:
                raise ValueError(
                    f"holdout_group={self.group!r} is empty in {len(empty)} rows ({first_few(empty)}); "
                    f"every row needs a group."
                )
            keys = [key for key in named if key is not None]
        groups = in_hash_order(set(keys), self.seed)
        if len(groups) < 2:
            raise ValueError(
                f"holdout_group={self.group!r}: {source.name!r} has {len(groups)} group; a hold-out split needs at "
                f"least 2."
            )
        held_out = set(groups[: min(max(round(self.fraction * len(groups)), 1), len(groups) - 1)])
        return source.select([i for i, key in enumerate(keys) if (key in held_out) == (split == "test")])


def _generate(split: str, options: Mapping[str, Any]) -> Dataset:
    """Calls the embedded generator; `size` may be a mapping from split to number of rows."""
    from real_trl.data.homework import make_dataset

    options = dict(options)
    if isinstance(options.get("size"), Mapping):
        if split not in options["size"]:
            raise ValueError(f"dataset_options: size={options['size']} has no entry for the split {split!r}; add one.")
        options["size"] = options["size"][split]
    try:
        inspect.signature(make_dataset).bind(split, **options)
    except TypeError as error:
        known = [name for name in inspect.signature(make_dataset).parameters if name != "split"]
        raise ValueError(f"dataset_options: {error}. The synthetic dataset takes {known}.") from error
    return make_dataset(split, **options)


def _download(
    name: str, config: str | None, split: str | None, options: Mapping[str, Any]
) -> Dataset | dict[str, Dataset]:
    reserved = {"path", "name", "split", "streaming"} & options.keys()
    if reserved:
        raise ValueError(f"dataset_options must not contain {sorted(reserved)}; dataset_* fields set these.")
    look_for_hub(name)
    try:
        return load_dataset(name, config, split=split, **options)
    except (FileNotFoundError, ConnectionError, OSError) as error:
        raise HubUnreachable(
            f"dataset_name={name!r} is neither an existing file or directory nor a dataset that can be reached on "
            f"the Hub ({why_offline() or f'{type(error).__name__}: {error}'}). Check the name, the connection and, for a gated dataset, "
            f"the login. Without a network, give a file or a folder of this machine; with HF_HUB_OFFLINE=1 in the environment, what is in the "
            "Hub's cache is used without asking."
        ) from error
    except ValueError as error:
        said = f", split {split!r}" if split else ""
        raise ValueError(f"dataset_name={name!r}, dataset_config={config!r}{said}: {error}") from error


def _file_of_split(directory: Path, split: str) -> Path:
    files = sorted(path for path in directory.iterdir() if path.suffix.lower() in EXTENSIONS)
    matching = [path for path in files if path.stem == split]
    if len(matching) != 1:
        raise ValueError(
            f"dataset split {split!r}: {str(directory)!r} must hold exactly one file {split} with one of the extensions "
            f"{', '.join(EXTENSIONS)}; it holds {[path.name for path in files]}."
        )
    return matching[0]
