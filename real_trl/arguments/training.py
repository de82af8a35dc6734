# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Arguments of a training stage."""

from dataclasses import dataclass, field

from trl import ModelConfig

from real_trl.arguments.held_out import HeldOutArguments
from real_trl.arguments.parser import RecipeParser
from real_trl.data.arguments import DataArguments


@dataclass
class StageArguments(HeldOutArguments):
    """
    Arguments of a training stage beside data, model and trainer: those of [`HeldOutArguments`], and

    Args:
        chat (`bool`, *optional*):
            Wrap prompts in the tokenizer's chat template. Defaults to whether the tokenizer has one.
        system_prompt (`str`, *optional*):
            A system message before each prompt, in the chat template. Its other arguments are `chat_template_kwargs`, of the
            trainer. Both are saved with the judge; a judge that training starts from brings its own.
        allow_changed_recipe (`bool`, *optional*, defaults to `False`):
            Go on from a checkpoint though the recipe or the data has changed since, in what training depends on.
    """

    chat: bool | None = field(
        default=None, metadata={"help": "Use the chat template. Default: if the tokenizer has one."}
    )
    system_prompt: str | None = field(
        default=None,
        metadata={"help": "System message of the chat template. Default: none, or the start judge's own."},
    )
    allow_changed_recipe: bool = field(
        default=False, metadata={"help": "Resume though the recipe or the data has changed."}
    )


def make_parser(config_class: type) -> RecipeParser:
    """Parser of a training stage's recipe and command line."""
    return RecipeParser((StageArguments, DataArguments, config_class, ModelConfig))
