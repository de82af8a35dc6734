# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Whether the Hub can be reached: asked once, where its libraries would ask for every file, again and again for half a minute."""

import logging

import datasets
import httpx
from huggingface_hub import constants, get_session

logger = logging.getLogger(__name__)

_SECONDS = 5.0  # in which there has to be an answer
_unreachable: str | None = None  # why, if it was found here


def look_for_hub(name: str) -> None:
    """
    To be called before something that is called `name` on the Hub is loaded. If the Hub cannot be reached, its libraries are told so, as by
    the environment variable `HF_HUB_OFFLINE`: what is in the cache is used, and the rest fails at once. The next call looks again.
    """
    global _unreachable
    if constants.is_offline_mode() and _unreachable is None:  # as the environment says
        return
    before, _unreachable = _unreachable, None
    _tell_libraries(offline=False)
    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS)
    except httpx.TransportError as error:
        _unreachable = f"{constants.ENDPOINT} cannot be reached: {error}"
        _tell_libraries(offline=True)
        if before is None:
            logger.warning("%s: %s. Only what is in the cache on this machine is used.", name, _unreachable)


def forget_unreachable() -> None:
    """To be called before something is sent to the Hub, which may be reached by now: what was found when loading is no reason not to try."""
    global _unreachable
    if _unreachable is not None:
        _unreachable = None
        _tell_libraries(offline=False)


def why_offline() -> str | None:
    """Why nothing can be loaded from the Hub, if that is known; else `None`."""
    return _unreachable or ("HF_HUB_OFFLINE is set" if constants.is_offline_mode() else None)


def _tell_libraries(*, offline: bool) -> None:
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = offline
