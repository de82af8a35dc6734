# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`push_to_hub` of the trainers: the machinery of Transformers, with the card and the files of a judge."""

import logging
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import get_token
from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy
from transformers.utils.hub import hf_api

from real_trl.judge_config import JudgeConfig
from real_trl.option_values import FieldError
from real_trl.publishing.card import build_card
from real_trl.publishing.files import find_judge_files
from real_trl.publishing.lineage import mark_local
from real_trl.publishing.push import CARD_NAME, Publication, upload
from real_trl.publishing.results import public_data_name
from real_trl.text.redaction import redact_text
from real_trl.trainers.mixed_in import JudgeTrainer

logger = logging.getLogger(__name__)


def check_publishing(args: TrainingArguments) -> None:
    """`ValueError` for arguments that would upload checkpoints, or to no possible place."""
    if not args.push_to_hub:
        return
    if args.hub_strategy not in (HubStrategy.END, HubStrategy.EVERY_SAVE):
        said = f": got {args.hub_strategy.value!r}, which uploads optimizer states and pickles"
        raise FieldError("hub_strategy", args.hub_strategy.value, "Set it to end or every_save.", said)
    if not args.hub_token and not get_token():
        said = ": got true, but there is no access token"
        fix = "Set the environment variable HF_TOKEN, run `hf auth login`, or set push_to_hub to false and publish later with `real-trl push`."
        raise FieldError("push_to_hub", True, fix, said)


class PublishingMixin(JudgeTrainer):
    """
    Publishes a judge out of a trainer: only the files that belong to it, with a card of its own. Expects `self.judge_config`,
    and `self.recipe` for what it says about the data.

    `hub_strategy: end` publishes at the end, `every_save` each time that a checkpoint is written too (its judge, not its
    optimizer); the others upload optimizer states, and are refused. A checkpoint that cannot be published is a warning, and the
    training goes on; at the end it is an error.
    """

    judge_config: JudgeConfig

    def _describe_origin(self) -> None:
        """
        Put into `judge_config.json` what the card says about where the judge comes from: whether the base model is a local
        directory, and of the data a name without its path, the split, the rows.
        """
        base = self.judge_config.base_model
        if base is not None:
            self.judge_config.base_model = mark_local(base, is_local=Path(base).is_dir())
        recipe = getattr(self, "recipe", None)
        if recipe:
            name = recipe["data"]["dataset_name"]
            public = public_data_name(name)
            self.judge_config.training["data"] = {
                "dataset_name": public,
                "hub_dataset": name if name == public and "/" in name else None,
                "split": recipe["data"]["dataset_train_split"],
                "rows": recipe["training_data"]["rows"],
            }

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        super()._save(output_dir, state_dict=state_dict)
        self._describe_origin()

    def create_model_card(
        self, model_name: str | None = None, dataset_name: str | None = None, tags: Any = None, **unused: Any
    ) -> None:
        """Write the judge's card (`README.md`) into `output_dir`; see [`~real_trl.publishing.build_card`]."""
        if self.is_world_process_zero():
            card = build_card(self.judge_config, self.hub_model_id or model_name or Path(self.args.output_dir).name)
            card.save(Path(self.args.output_dir, CARD_NAME))

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        **unused: Any,
    ) -> str | None:
        """
        Save the judge and upload it; see [`~real_trl.publishing.upload`].

        Returns:
            `str`, *optional*: Address of the judge, in the process that uploads.
        """
        token = token if token is not None else self.args.hub_token
        if self.hub_model_id is None:
            self.init_hf_repo(token=token)
        self.save_model(_internal_call=True)
        self.create_model_card()
        return self._publish(self.args.output_dir, commit_message, token, revision)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self.args.hub_strategy == HubStrategy.EVERY_SAVE:
            message = f"Training in progress, step {self.state.global_step}"
            try:
                self._publish(checkpoint_folder, message, self.args.hub_token, None)
            except (ValueError, OSError) as error:  # hours of training weigh more than a checkpoint's upload
                logger.warning(f"{message}: not published. {redact_text(error, self.args.hub_token)}")

    def _publish(self, folder: str, message: str | None, token: str | None, revision: str | None) -> str | None:
        if not self.is_world_process_zero():
            return None
        publication = Publication(find_judge_files(folder), self.hub_model_id)
        return upload(
            publication,
            private=self.args.hub_private_repo,
            message=message or "End of training",
            token=token,
            revision=revision or self.args.hub_revision,
            api=hf_api(),
        )
