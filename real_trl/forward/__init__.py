# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Forward passes and generation. Suggested reading order:

- `dense`: log-probabilities of completions, and of their scores' labels, each with its own copy of the prompt: the reference.
- `tree_forward`: labels of several tokens, read in the same forward; `positions`: how a model knows where a token stands.
- `token_selection`: what is asked of the LM head; `logits`: its product, in float32 where scores are read;
  `selected_log_probs`, `rest_log_probs`: log-probabilities of single tokens, and of all tokens but a few.
- `support`: what of all this, and of the following, is exact for which model.
- `shared_prefix`: as `dense`, with the prompt of a group read once; `sft_inputs`: sequences with given completions, without
  padding. Both rows come from `packing`; `packed_attention` is the attention within such a row, `kernels` its arithmetic.
- `generation`: `generate` with prefills that are shared; `shared_cache`: its steps; `prompt_cache`: attention of all rows of a
  group to one copy of their prompt's keys and values; `tree_after_generation`: label probabilities that are still missing after
  generation, read with one extra forward.

In shapes: `N` rows of `T` tokens, `P` of a prompt and `C` of a completion; `H` heads of queries, `J` heads of keys and values, `D`
wide; `V` tokens in the vocabulary; of a label tree `M` inner nodes, `E` edges, `L` labels. In `logits`, `selected_log_probs` and
`token_selection`, which know no heads, `H` is the hidden size and `R` the positions that are read, and `S` the rests of the tree.
"""
