# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Publish a judge: its files and card in a folder, and from there to the Hub."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id

from real_trl.option_values import FieldError
from real_trl.publishing.card import build_card
from real_trl.publishing.files import REPLACED, JudgeFiles, check_adapter_base, write_judge_files
from real_trl.publishing.lineage import find_lineage
from real_trl.publishing.privacy import check_nothing_private
from real_trl.runs.new_folder import new_folder
from real_trl.text.redaction import redact_text
from real_trl.weights.finite import check_finite_files
from real_trl.weights.hub import forget_unreachable

CARD_NAME = "README.md"


@dataclass(frozen=True)
class Publication:
    """
    What is published of a judge.

    Attributes:
        judge ([`~real_trl.publishing.files.JudgeFiles`]): Its files.
        name (`str`): Model id on the Hub, or the name of the folder; the card's code loads it.
        evaluation (`Mapping`, *optional*): From [`~real_trl.publishing.results.read_evaluation`].
        merge (`bool`): Whether a LoRA judge becomes a whole model.
        base_model (`str`, *optional*): Model id on the Hub that training started from, where the stages did not record one.
        license (`str`, *optional*): License, as the Hub names it.
    """

    judge: JudgeFiles
    name: str
    evaluation: Mapping[str, Any] | None = None
    merge: bool = False
    base_model: str | None = None
    license: str | None = None

    def check(self) -> None:
        """`ValueError` for what [`Publication.write`] would find out, without writing anything."""
        check_adapter_base(self.judge, self.merge, self.base_model)
        self._card()

    def write(self, target: Path, *tokens: str | None) -> list[str]:
        """
        Write everything into `target`, an empty folder. Of access tokens, those of this process are searched for, and `tokens`.

        Returns:
            `list[str]`: The files, relative to it.

        Raises:
            `ValueError`: if a part is missing, or a file holds a token or a path of this machine.
        """
        write_judge_files(self.judge, target, merge=self.merge, base_model=self.base_model)
        check_finite_files(target, str(self.judge.folder))
        self._card().save(target / CARD_NAME)
        bases = [stage.base_model for stage in find_lineage(self.judge.config).stages]
        local = [self.judge.folder, Path.cwd(), Path.home(), *(base for base in bases if base and Path(base).is_dir())]
        check_nothing_private(target, local, *tokens)
        return sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())

    def _card(self) -> Any:
        return build_card(
            self.judge.config,
            self.name,
            evaluation=self.evaluation,
            base_model=self.base_model,
            license=self.license,
            adapter=self.judge.adapter_base is not None and not self.merge,
        )


def check_repo_id(repo_id: str) -> str:
    """`repo_id`, if it is `user/name`; `ValueError` if it is not."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise FieldError("--repo_id", repo_id, f"{redact_text(error)} Write user/name.") from None
    if repo_id.count("/") != 1:
        fix = "Write user/name: your account or organisation, and the model's name."
        raise FieldError("--repo_id", repo_id, fix)
    return repo_id


def write_folder(publication: Publication, target: str | Path) -> list[str]:
    """
    Write what would be uploaded to a folder instead.

    Args:
        target (`str` or `Path`):
            A folder that does not exist yet, or is empty. It appears once everything in it is complete.

    Returns:
        `list[str]`: The files, relative to it.

    Raises:
        `ValueError`: if the folder holds something, or as [`Publication.write`].
    """
    target = Path(target).expanduser()
    with new_folder("--local_dir", target) as folder:
        return publication.write(folder)


def upload(
    publication: Publication,
    *,
    private: bool | None = None,
    message: str = "Publish judge",
    token: str | None = None,
    revision: str | None = None,
    api: HfApi | None = None,
) -> str:
    """
    Upload a judge to the Hub; everything is written and checked before the repository is created. Weights and tokenizer files of
    an earlier judge in the repository are deleted in the same upload, since they could be loaded instead of this one's.

    Args:
        publication ([`Publication`]):
            What; its `name` is the repository.
        private (`bool`, *optional*):
            Whether a new repository is private; with `True`, a public one that exists is refused. Defaults to the account's setting
            for a new repository, and leaves one that exists as it is.
        token (`str`, *optional*):
            Access token; by default that of the environment variable `HF_TOKEN`, or of `hf auth login`.
        revision (`str`, *optional*):
            Branch. Defaults to `main`.
        api ([`~huggingface_hub.HfApi`], *optional*):
            The Hub. Defaults to that of the environment variable `HF_ENDPOINT`.

    Returns:
        `str`: Address of the judge.

    Raises:
        `ValueError`: naming what is wrong and the fix, without a token in it, if something is missing or the Hub refuses.
    """
    forget_unreachable()  # found hours ago, when the training began
    api = api or HfApi()
    repo_id = check_repo_id(publication.name)
    if not token and not api.token and not get_token():
        raise ValueError(
            "token: there is none. Make one with write access on the Hub's settings page, and set the environment variable HF_TOKEN "
            "to it, or run `hf auth login`."
        )
    try:
        api.whoami(token=token, cache=True)  # the Hub limits how often it may be asked
    except Exception as error:
        raise ValueError(_refused("token", error, api, token)) from None
    publication.check()
    with tempfile.TemporaryDirectory() as folder:
        publication.write(Path(folder), token, api.token if isinstance(api.token, str) else None)
        try:
            address = api.create_repo(repo_id, token=token, private=private, exist_ok=True)
            is_public = bool(private) and not api.repo_info(repo_id, token=token).private
        except Exception as error:
            raise ValueError(_refused(f"--repo_id {repo_id}", error, api, token)) from None
        if is_public:
            raise ValueError(
                f"--private (hub_private_repo): {repo_id} exists, and is public; nothing was uploaded. Make it private on its settings page, choose another "
                "--repo_id, or leave --private out."
            )
        try:
            api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=message,
                token=token,
                revision=revision,
                delete_patterns=list(REPLACED),
            )
        except Exception as error:  # of the connection, of the Hub, or of its answer: any of them may quote a header
            raise ValueError(_refused(f"--repo_id {repo_id}", error, api, token)) from None
    return str(address)


def _refused(field: str, error: Exception, api: HfApi, token: str | None) -> str:
    """What went wrong between here and the Hub, without a token."""
    reason = redact_text(
        " ".join(str(error).split()) or type(error).__name__, token, api.token if isinstance(api.token, str) else None
    )
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
    if status == 401:
        fix = "The token is not valid: make a new one, and set HF_TOKEN or run `hf auth login`."
    elif status == 403:
        fix = "The token may not write there: give it write access, or choose a --repo_id of your own."
    elif isinstance(error, httpx.TransportError):
        fix = "Check the connection (and HF_ENDPOINT, if it is set), then run the command again."
    else:
        fix = "Nothing was lost: run the command again, or write the folder with --local_dir and upload it yourself."
    return f"{field}: {api.endpoint} refused ({reason[:500]}). {fix}"
