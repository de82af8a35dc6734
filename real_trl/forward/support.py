# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
What is exact for which model: every question of this kind is answered here, and nowhere else.

| May ...                                                                        |                            |
|--------------------------------------------------------------------------------|----------------------------|
| sequences stand in one row, and share a prefix?                                | [`why_not_exact`]          |
| the same, before the model is loaded                                           | [`why_config_not_exact`]   |
| a query have a mask of its own, as the nodes of a label tree do?               | [`why_not_masked`]         |
| labels have several tokens?                                                    | [`check_tree_attention`]   |
| a score be read from the cache that `generate` leaves behind?                  | [`can_read_from_cache`]    |
| this call of `generate` drop rows that have ended, and share prefills?         | [`why_not_row_wise`]       |
| the logits be computed here from the hidden states?                            | [`why_head_unknown`]       |

All of them build on [`~real_trl.forward.positions.why_positions_not_plain`].
"""

import logging
from typing import Literal

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList, PreTrainedConfig, PreTrainedModel
from transformers import generation as hf
from transformers.cache_utils import DynamicLayer
from transformers.generation import GenerationMode
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from real_trl.forward.logits import HeadOptions, precise_logits, replaced_forward
from real_trl.forward.packed_attention import PREFIX_ATTENTION
from real_trl.forward.positions import why_positions_not_plain
from real_trl.label_tree import LabelTree
from real_trl.option_values import FieldError

logger = logging.getLogger(__name__)

# Rotary or learned positions taken from `position_ids`, attention through the interface, nothing that mixes tokens elsewhere.
# Each is compared with the dense forward in the tests.
MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3", "smollm3", "gpt2")

# These take a mask of their own for every query
MASKED_ATTENTION = ("sdpa", "eager", PREFIX_ATTENTION)
# And these architectures obey it; each is compared with plain forwards over every label in the tests. Others may take it for
# something else without a word: GPT-Neo's local attention, the state of Mamba.
MASKED_MODEL_TYPES = (
    *MODEL_TYPES,
    *("biogpt", "codegen", "cohere", "falcon", "gemma", "glm", "glm4", "gpt_bigcode", "gpt_neox", "gptj", "granite"),
    *("ministral3", "mixtral", "nemotron", "olmo2", "opt", "persimmon", "phi", "phi3", "qwen2_moe", "qwen3_moe"),
    *("stablelm", "starcoder2", "xglm"),
)

# What these do to a row does not depend on the other rows, nor on which row it is
_ROW_WISE = (
    hf.EpsilonLogitsWarper,
    hf.EtaLogitsWarper,
    hf.ExponentialDecayLengthPenalty,
    hf.ForcedEOSTokenLogitsProcessor,
    hf.InfNanRemoveLogitsProcessor,
    hf.LogitNormalization,
    hf.MinLengthLogitsProcessor,
    hf.MinNewTokensLengthLogitsProcessor,
    hf.MinPLogitsWarper,
    hf.NoBadWordsLogitsProcessor,
    hf.NoRepeatNGramLogitsProcessor,
    hf.RepetitionPenaltyLogitsProcessor,
    hf.SequenceBiasLogitsProcessor,
    hf.SuppressTokensAtBeginLogitsProcessor,
    hf.SuppressTokensLogitsProcessor,
    hf.TemperatureLogitsWarper,
    hf.TopHLogitsWarper,
    hf.TopKLogitsWarper,
    hf.TopPLogitsWarper,
    hf.TypicalLogitsWarper,
)

Dropout = Literal["of shared tokens", "of attention", "none"]


def why_not_exact(model: PreTrainedModel, dropout: Dropout = "of shared tokens") -> str | None:
    """
    Why forwards of `model` would not be exact with an [`AttentionLayout`], for a log line; `None` if they are.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Causal LM without wrappers.
        dropout (`str`, *optional*, defaults to `"of shared tokens"`):
            Which dropout would make a difference: every kind, where tokens are shared; that of attention, which a layout
            does not apply; none, outside of training.
    """
    implementation = model.config._attn_implementation
    if implementation not in ("sdpa", PREFIX_ATTENTION):
        return (
            f"attn_implementation is {implementation!r}, which shared attention does not stand in for; set it to sdpa"
        )
    reason = why_config_not_exact(model.config, dropout)
    if reason is None and dropout == "of shared tokens":
        names = [name for name, module in model.named_modules() if isinstance(module, nn.Dropout) and module.p > 0]
        if names:
            where = "in the recipe, or in adapter_config.json of an adapter that training goes on from"
            kind = f"lora_dropout (0 {where})" if "lora_dropout" in names[0] else f"dropout ({names[0]}; set it to 0)"
            reason = f"the model has {kind}, which would drop parts of a prompt once for all its completions"
    return reason


def why_config_not_exact(config: PreTrainedConfig, dropout: Dropout = "of shared tokens") -> str | None:
    """Config-only part of [`why_not_exact`]."""
    if reason := why_positions_not_plain(config):
        return reason
    if config.model_type not in MODEL_TYPES:
        return f"the architecture {config.model_type!r} is not among {', '.join(MODEL_TYPES)}"
    if has_sliding_window(config):
        return "some layers have a sliding window"
    for name in ("attention_dropout", "attn_pdrop"):
        if dropout != "none" and getattr(config, name, 0.0):
            return f"{name} is {getattr(config, name)}, which shared attention does not apply; set it to 0"
    return None


def has_sliding_window(config: PreTrainedConfig) -> bool:
    """Whether some layers do not see the whole sequence."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return kinds != {"full_attention"} or bool(
        getattr(config, "sliding_window", None) and not hasattr(config, "layer_types")
    )


def why_not_masked(config: PreTrainedConfig) -> str | None:
    """Why a model cannot read a tree behind the sequence, or anything else by a mask for each query; `None` if it can."""
    if config._attn_implementation not in MASKED_ATTENTION:
        return f"attn_implementation is {config._attn_implementation!r}"
    if reason := why_positions_not_plain(config):
        return reason
    if has_sliding_window(config):
        return "some layers have a sliding window"
    if config.model_type not in MASKED_MODEL_TYPES:
        return f"it is not known whether the attention of {config.model_type!r} obeys a mask for each query"
    return None


def check_tree_attention(config: PreTrainedConfig, tree: LabelTree) -> None:
    """
    Refuse models whose attention cannot read a tree of labels, and say in the log why one reads it slowly.

    Raises:
        ValueError: if labels have several tokens and the attention implementation takes no mask for each query, or
            some layers do not see the whole sequence.
    """
    if not tree.context_tokens:
        return
    implementation = config._attn_implementation
    if implementation not in MASKED_ATTENTION:
        said = f": got {implementation!r}, but some score labels have several tokens, which are read with an attention mask that it does not take"
        fix = "Set attn_implementation to sdpa, or use labels of one token each."
        raise FieldError("attn_implementation", implementation, fix, said)
    if has_sliding_window(config):
        kinds = sorted({*(getattr(config, "layer_types", None) or [])} - {"full_attention"})
        raise ValueError(
            f"score_labels: some labels have several tokens, which needs attention over the whole sequence in every layer, but "
            f"this {config.model_type} model has {', '.join(kinds) or 'a sliding window'}. Use labels of one token each, such "
            "as '1-5' or 'A-E'."
        )
    if reason := why_not_masked(config):
        logger.warning(
            "Score labels of several tokens are read with %d copies of the sequence, which is slower: %s.",
            len(tree.context_tokens),
            reason,
        )


def can_read_from_cache(model: PreTrainedModel, cache: object) -> bool:
    """Whether `cache` holds every token that was read, and the model's attention obeys a mask for each query."""
    return (
        isinstance(cache, DynamicCache)
        and all(type(layer) is DynamicLayer for layer in cache.layers)
        and why_not_masked(model.config) is None
    )


def why_not_row_wise(
    logits_processor: LogitsProcessorList, generation_config: GenerationConfig, attention_mask: Tensor
) -> str | None:
    """
    Why a call of `generate` cannot go on with some of its rows only, for a log line; `None` if it can.

    Args:
        logits_processor ([`~transformers.LogitsProcessorList`]), generation_config ([`~transformers.GenerationConfig`]):
            Of the call.
        attention_mask (`torch.Tensor` of shape `(N, P)`):
            Of the prompts.
    """
    mode = generation_config.get_generation_mode()
    if mode not in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE):
        return f"the decoding method is {mode.value}"
    if generation_config.cache_implementation is not None:
        return f"cache_implementation is {generation_config.cache_implementation!r}"
    for name in ("output_scores", "output_logits", "output_attentions", "output_hidden_states"):
        if getattr(generation_config, name):
            return f"{name} is set"
    for processor in logits_processor:
        if type(processor) not in _ROW_WISE and not hasattr(processor, "keep_rows"):
            return f"{type(processor).__name__} may depend on which rows it is given"
    return None if attention_mask.any(1).all() else "a prompt is empty"


def why_head_unknown(model: PreTrainedModel) -> str | None:
    """
    Why the logits of `model` are not those of [`precise_logits`] with its [`HeadOptions`], for a message; `None` if they are.

    The model's own forward is asked, with random hidden states in the place of its layers'. Where the weights are not at hand
    (ZeRO-3 has spread them), the kind of the layer is looked at alone.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Causal LM without wrappers.
    """
    head = model.get_output_embeddings()
    weight, bias = (getattr(head, name, None) for name in ("weight", "bias"))
    if isinstance(head, BaseTunerLayer):  # whose `weight` is that of the layer under the adapter
        return f"the LM head has an adapter ({type(head).__name__}) of its own"
    if not isinstance(weight, Tensor) or isinstance(head, nn.Embedding):
        return f"the LM head is a {type(head).__name__}, whose weights are not those of a linear layer"
    if weight.dim() != 2 or hasattr(weight, "ds_id") or weight.is_meta or not weight.is_floating_point():
        spread = hasattr(weight, "ds_id") or weight.is_meta
        return None if spread else f"the weights of the LM head are {weight.dtype} of shape {tuple(weight.shape)}"
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, 2, weight.size(1), generator=generator).to(weight.device, weight.dtype)
    given = BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=hidden)
    given.router_logits = None  # what models with experts look for
    ids = torch.zeros(1, 2, dtype=torch.long, device=weight.device)
    with (
        replaced_forward(model.base_model, lambda *args, **kwargs: given),
        torch.no_grad(),
        torch.autocast(weight.device.type, enabled=False),
    ):
        # Experts are not asked: the layers are not run
        routers = {"output_router_logits": False} if hasattr(model.config, "output_router_logits") else {}
        logits = type(model).forward(model, input_ids=ids, **routers).logits.double()
        known = HeadOptions.of_config(model.config).apply(precise_logits(hidden, weight, bias))[0].double()
    tolerance = 8 * torch.finfo(weight.dtype).eps * (1 + logits.abs().max())
    if logits.shape != known.shape or (logits - known).abs().max() > tolerance:
        return f"{type(model).__name__} makes something else of its LM head's logits than a scale and a soft cap"
    return None
