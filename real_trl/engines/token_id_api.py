# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What vLLM's server has beyond the OpenAI API: prompts as token ids, and log-probabilities of chosen tokens."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from real_trl.engines.score_reading import MAX_TOKEN_IDS, root_tokens
from real_trl.engines.server_client import ServerClient
from real_trl.score_space import ScoreSpace

logger = logging.getLogger(__name__)

_IMPOSSIBLE = -9000.0  # vLLM writes -9999 for minus infinity


def token_id_request(prompt_ids: list[int], tokens: Sequence[int]) -> dict[str, Any]:
    """The part of a request for a completion that asks for the log-probabilities of `tokens` at every position."""
    return {
        "prompt": prompt_ids,
        "logprobs": 1,
        "logprob_token_ids": list(tokens),
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }


def log_probs_by_id(choice: Mapping[str, Any], position: int) -> dict[int, float]:
    """Log-probabilities by token at one position of an answer, where tokens are named `"token_id:17"`."""
    top = choice["logprobs"]["top_logprobs"][position]
    return {int(name.removeprefix("token_id:")): log_prob for name, log_prob in top.items()}


def has_extensions(client: ServerClient, space: ScoreSpace) -> bool:
    """
    Whether the server answers such a request, which is tried with one token.

    Raises:
        `ValueError`: if it does, but with the probabilities that top-p leaves over.
    """
    tokens = list(dict.fromkeys([*root_tokens(space), *space.marker_ids]))[:MAX_TOKEN_IDS]
    request = {**token_id_request(list(space.marker_ids), tokens), "temperature": 1.0, "top_p": 1e-6, "max_tokens": 1}
    try:
        choice = client.post("completions", request, retries=1)["choices"][0]
        log_probs = log_probs_by_id(choice, 0)
        complete = "token_ids" in choice and log_probs.keys() >= set(tokens)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        logger.info("%s has no extensions for exact scores: %s", client.url, error)
        return False
    if complete and min(log_probs.values()) <= _IMPOSSIBLE:
        raise ValueError(
            f"{client.url} returns log-probabilities of what top-p leaves over. Start it without --logprobs-mode, which is "
            "raw_logprobs then."
        )
    return complete
