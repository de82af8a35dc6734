# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Stands for the vLLM at the end of TRL's `VLLMGeneration`: counts what it is asked, and notices what a real one would not survive."""

from types import SimpleNamespace

import torch

from tests.tiny import TOKENIZER, encode


class CountingEngine:
    """
    Answers the prompts of `groups` as it says there. Its log-probabilities are those of `model`, which is to be set to the trainer's, minus `shift`.
    """

    def __init__(self, groups, asleep=False, shift=0.25):
        self.groups = {tuple(TOKENIZER(group.prompt)["input_ids"]): group.texts for group in groups}
        self.model, self.shift = None, shift
        self.awake = set() if asleep else {"weights", "kv_cache"}
        self.syncs, self.generations, self.sleeps, self.loaded = 0, 0, 0, not asleep
        runner = SimpleNamespace(model=self)
        executor = SimpleNamespace(driver_worker=SimpleNamespace(model_runner=runner))
        self.llm_engine = SimpleNamespace(model_executor=executor)

    def load_weights(self, weights):
        assert "weights" in self.awake
        self.loaded = True

    def reset_prefix_cache(self):  # TRL's last call of a sync
        self.syncs += 1

    def wake_up(self, tags):
        assert not self.awake & set(tags)
        self.awake |= set(tags)

    def sleep(self, level):
        assert level == 2 and self.awake == {"weights", "kv_cache"}
        self.awake, self.loaded = set(), False
        self.sleeps += 1

    def generate(self, prompts, sampling_params, use_tqdm):
        assert self.awake == {"weights", "kv_cache"} and self.loaded
        self.generations += 1
        return [self._answer(prompt["prompt_token_ids"], sampling_params) for prompt in prompts]

    def _answer(self, prompt, sampling):
        outputs = []
        texts = self.groups[tuple(prompt)]
        assert sampling.n == len(texts)
        for ids in map(encode, texts):
            log_probs = None
            if sampling.logprobs is not None:
                with torch.no_grad():
                    all_log_probs = self.model(torch.tensor([prompt + ids])).logits[0].float().log_softmax(-1)
                log_probs = [
                    {
                        token: SimpleNamespace(
                            logprob=all_log_probs[len(prompt) - 1 + i, token].item() - self.shift, rank=1
                        )
                    }
                    for i, token in enumerate(ids)
                ]
            outputs.append(SimpleNamespace(token_ids=ids, logprobs=log_probs))
        return SimpleNamespace(prompt_token_ids=prompt, outputs=outputs)
