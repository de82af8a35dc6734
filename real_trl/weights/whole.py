# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Whether the files of a model hold all of its weights, and no more layers than it has. Transformers makes what is missing at random and only
logs it: such a judge gives another score at every start.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

_LAYER = re.compile(r"\.\d+\.")
_NEVER_QUANTIZED = re.compile(r"norm\w*\.weight$|embed_tokens\.weight$")  # what else is missing may be in another form
_watched: ContextVar[bool] = ContextVar("watched", default=False)
_finalize = PreTrainedModel._finalize_model_loading


def check_whole(model: PreTrainedModel, name: str, info: Any, quantized: bool = False) -> None:
    """
    Check what Transformers says about a load.

    Args:
        info:
            What it found, with `missing_keys`, `mismatched_keys` and `unexpected_keys`.
        quantized (`bool`, *optional*, defaults to `False`):
            Whether weights may lie in the files under other names.

    Raises:
        `ValueError`: if weights are missing or of another shape, which are random now, or if the files have layers that the model has not.
    """
    missing = sorted({*info.missing_keys, *(key for key, *_ in info.mismatched_keys)})
    if quantized:
        missing = [key for key in missing if _NEVER_QUANTIZED.search(key)]
    if missing:
        raise ValueError(
            f"{name}: {len(missing):,} weights of the model are not in its files, or not in its shape (first {missing[0]}), and would "
            "be random. Copy the model again, whole, or correct its config.json (num_hidden_layers, architectures)."
        )
    extra = sorted(info.unexpected_keys)
    own = {_LAYER.sub(".#.", key) for key, _ in model.named_parameters()} if extra else set()
    layers = [key for key in extra if _LAYER.search(key) and _LAYER.sub(".#.", key) in own]
    if layers:
        raise ValueError(
            f"{name}: its files have {len(layers):,} weights of layers that config.json leaves out (first {layers[0]}). Correct its "
            "config.json (num_hidden_layers), or copy the model again."
        )
    if extra:
        logger.warning("%s: %d weights of its files are no part of the model (first %s)", name, len(extra), extra[0])


def _finalize_and_check(model: PreTrainedModel, load_config: Any, loading_info: Any) -> Any:
    loading_info = _finalize(model, load_config, loading_info)
    if _watched.get():
        name = str(load_config.pretrained_model_name_or_path)
        check_whole(model, name, loading_info, load_config.hf_quantizer is not None)
    return loading_info


# The one place that every load goes through: of a name, of an adapter's base, of a trainer's reference model
PreTrainedModel._finalize_model_loading = staticmethod(_finalize_and_check)


@contextmanager
def whole_weights() -> Iterator[None]:
    """[`check_whole`] of every model that is loaded within; what else the process loads is left alone."""
    token = _watched.set(True)
    try:
        yield
    finally:
        _watched.reset(token)
