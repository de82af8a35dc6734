# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Loading what others trained: tokenizers, chat templates, devices, and what to say when it cannot be had."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

from real_trl.option_values import FieldError
from real_trl.templates.limited import check_chat_template
from real_trl.weights.files import check_settings, check_weights
from real_trl.weights.hub import look_for_hub, why_offline
from real_trl.weights.whole import whole_weights


def load_tokenizer(name: str | None, revision: str | None, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """
    The tokenizer of a model, padding and truncating on the left.

    Raises:
        `ValueError`: if there is no such directory, or nothing on the Hub that can be reached.
    """
    if not name:
        raise FieldError("model", None, "Give a Hub id or a local directory.")
    is_path = name.count("/") > 1 or name.startswith((".", "/", "~", "outputs/"))
    if is_path and not Path(name).is_dir():  # the Hub would be asked for it, for minutes without a network
        raise ValueError(
            f"model: the directory {name!r} does not exist. Run the stage that writes it first, or correct the path."
        )
    if Path(name).is_dir():
        check_settings(Path(name))
    else:
        look_for_hub(name)
    with loading(name, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(
            name,
            revision=revision,
            trust_remote_code=trust_remote_code,
            padding_side="left",
            truncation_side="left",
        )
    check_chat_template(tokenizer, name)
    if tokenizer.eos_token is None:
        use_eos_of(tokenizer, saved_generation_config(name, revision, trust_remote_code))
    return tokenizer


def eos_ids(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig | GenerationConfig | None) -> list[int]:
    """
    The tokens that end a completion: the tokenizer's end of text, if it has one, and those that the model's configuration
    names.
    """
    named = getattr(config, "eos_token_id", None)
    named = [] if named is None else [named] if isinstance(named, int) else list(named)
    own = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return list(dict.fromkeys([*own, *named]))


def use_eos_of(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig | GenerationConfig | None) -> None:
    """Gives a tokenizer without an end of text the one that the model's configuration names, if it does."""
    if tokenizer.eos_token is None and (ids := eos_ids(tokenizer, config)):
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ids[0])


def saved_generation_config(
    name: str, revision: str | None, trust_remote_code: bool
) -> PreTrainedConfig | GenerationConfig | None:
    """The generation config saved with a model, else its configuration, else, where there is only a tokenizer, `None`."""
    try:
        config = GenerationConfig.from_pretrained(name, revision=revision)
        if config.eos_token_id is not None:
            return config
    except Exception:  # whatever a broken file makes of it; the model's configuration is asked next
        pass
    try:
        return AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
    except Exception:  # as above; who loads the model is told
        return None


def uses_chat(chat: bool | None, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether prompts go through the chat template: as asked for, else if the tokenizer has one."""
    if chat and not tokenizer.chat_template:
        said = ": got true, but the tokenizer has no chat template"
        raise FieldError("chat", True, "Set it to false, or use a chat model.", said)
    return bool(tokenizer.chat_template) if chat is None else chat


def distributed_state() -> PartialState:
    """The state of this process among those that accelerate launched."""
    return PartialState(cpu=not torch.accelerator.is_available())


@contextmanager
def loading(name: str, what: str, within: str | None = None) -> Iterator[None]:
    """
    Turns what a library raises at broken or foreign files into a `ValueError` that says which model and why. It may be anything:
    `SafetensorError`, a plain `Exception` of tokenizers, `KeyError`, `RecursionError`. Too little memory is no fault of the files, nor is
    an argument that a library does not know. With `within`, only what is raised inside of functions of this name is turned. A
    model that lacks weights is refused, see [`~real_trl.weights.whole.check_whole`].
    """
    try:
        with whole_weights():
            yield
    except (torch.OutOfMemoryError, MemoryError, ImportError):
        raise
    except Exception as error:
        # Neither this nor the code of a model's own has an error of its own: here, and in `cannot_load`, their texts are looked at
        if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
            raise
        if within and within not in (frame.name for frame in traceback.extract_tb(error.__traceback__)):
            raise
        try:
            if what == "model":
                check_weights(name)  # which names the file
        except (ValueError, OSError) as named:
            error = named
        raise ValueError(cannot_load(name, what, error)) from error


def cannot_load(name: str, what: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "trust_remote_code" in str(error):
        return (
            f"trust_remote_code: {name!r} has code of its own, which is not run unless you ask for it. Read it, then set "
            "trust_remote_code to true, or use a model that Transformers knows."
        )
    if Path(name).is_dir():
        return f"model: no {what} could be loaded from the directory {name!r} ({reason})"
    return (
        f"model: no {what} could be loaded from {name!r}: it is neither a local directory with a model nor a "
        f"model on the Hub that can be had ({why_offline() or reason}). Check the name. Without a network, download it elsewhere (hf download "
        f"{name} --local-dir DIR) and give the path of its directory; with HF_HUB_OFFLINE=1 in the environment, what is in the Hub's cache on "
        "this machine is used without asking."
    )
