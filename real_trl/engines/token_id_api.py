# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What vLLM's server has beyond the OpenAI API: prompts as token ids, and log-probabilities of chosen tokens."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from real_trl.engines.distribution_checks import IMPOSSIBLE, NoDistribution, checked_log_probs
from real_trl.engines.score_requests import MAX_TOKEN_IDS, root_tokens
from real_trl.engines.server_answer import NoAnswer, StaysBusy, is_finished
from real_trl.engines.server_client import ServerClient
from real_trl.engines.token_alignment import spelled
from real_trl.score_space import ScoreSpace
from real_trl.text.tokens import decoded

logger = logging.getLogger(__name__)


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
    """
    Log-probabilities by token at one position of an answer, where tokens are named `"token_id:17"`.

    Raises:
        [`NoDistribution`]: if there are none of that form, or if the numbers cannot be log-probabilities.
    """
    try:
        top = choice["logprobs"]["top_logprobs"][position]
        named = [(int(name.removeprefix("token_id:")), log_prob) for name, log_prob in top.items()]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise NoDistribution(
            f"the server's log-probabilities have not the form that was asked for ({type(error).__name__}: {error})"
        ) from error
    return dict(checked_log_probs(named))


def completion_ids(choice: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """
    Tokens of a completion.

    Raises:
        [`NoDistribution`]: if there are none, if there are not as many as log-probabilities, or if they do not spell the text of
            the completion, as with another tokenizer than the server's.
    """
    ids = choice.get("token_ids")
    if not isinstance(ids, list) or not all(isinstance(token, int) and not isinstance(token, bool) for token in ids):
        raise NoDistribution(f"the server returned {ids!r:.60} in place of the tokens of its completion")
    top = (choice.get("logprobs") or {}).get("top_logprobs") or []
    if len(top) != len(ids):
        raise NoDistribution(f"the server returned log-probabilities at {len(top)} positions of {len(ids)} tokens")
    text, finished, shown = choice["text"], is_finished(choice), ids
    if finished and not text.strip():  # one token has ended it, not any number of them
        finished, shown = False, ids[:-1]
    written = decoded(tokenizer, shown, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    spelled([written.encode()], text, finished=finished)
    return ids


def has_extensions(client: ServerClient, space: ScoreSpace) -> bool:
    """
    Whether the server answers such a request, which is tried with one token.

    Raises:
        `ValueError`: if it does, but with the probabilities that top-p leaves over, or with numbers that are none.
    """
    tokens = list(dict.fromkeys([*root_tokens(space), *space.marker_ids]))[:MAX_TOKEN_IDS]
    request = {**token_id_request(list(space.marker_ids), tokens), "temperature": 1.0, "top_p": 1e-6, "max_tokens": 1}
    try:
        choice = client.post("completions", request, retries=1)["choices"][0]
        top = ((choice.get("logprobs") or {}).get("top_logprobs") or [None])[0]
        if "token_ids" not in choice or not isinstance(top, Mapping) or not _named_by_id(top) >= set(tokens):
            logger.info("%s has no extensions for exact scores: it ignores what was asked for", client.url)
            return False
    except NoAnswer as error:
        if error.about == "busy":  # to take it for a server without them would change how all scores are read
            raise StaysBusy(f"{client.url}: {error}. Try again later.") from error
        logger.info("%s has no extensions for exact scores: %s", client.url, error)
        return False
    except (LookupError, TypeError, AttributeError) as error:
        logger.info("%s has no extensions for exact scores: %s", client.url, error)
        return False
    try:
        log_probs = log_probs_by_id(choice, 0)
    except NoDistribution as error:
        raise ValueError(f"{client.url} has log-probabilities that cannot be: {error}.") from error
    if min(log_probs.values()) <= IMPOSSIBLE:
        raise ValueError(
            f"{client.url} returns log-probabilities of what top-p leaves over. Start it without --logprobs-mode, which is "
            "raw_logprobs then."
        )
    return True


def _named_by_id(top: Mapping[str, Any]) -> set[int]:
    names = [name.removeprefix("token_id:") for name in top]
    return {int(name) for name in names if name.isdecimal()}
