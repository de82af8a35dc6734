# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""TRL's own generation with vLLM in the training process, on the CPU with a tiny model: the same completions, fewer requests."""

from types import SimpleNamespace

import pytest
import torch
import torch._dynamo
from accelerate import Accelerator
from transformers import AutoModelForCausalLM
from trl.extras.profiling import ProfilingContext
from trl.generation import vllm_generation as trl_vllm

from real_trl import REALTrainer
from real_trl.trainers.vllm_rollouts import engine_like_trainer, generate_groups_with_vllm
from tests.tiny import LINES, PROMPT, TOKENIZER, encode, save_for_vllm
from tests.trainers.test_real_gradient import K, make_trainer

MAX_LENGTH, NEW_TOKENS = 64, 6
A, B, C = (encode(f"{PROMPT} {line}", eos=False) for line in LINES)


class OtherVLLM:
    """A generation that is not this process's own: TRL must get it all as it is."""

    mode, tensor_parallel_size = "colocate", 1

    def __init__(self, returned=None, **attributes):
        self.generation_kwargs, self.received, self.returned = {"top_k": 5}, [], returned
        self.__dict__.update(attributes)

    def generate(self, prompts, images, num_generations, profiler):
        self.received.append((prompts, images, num_generations, profiler, self.generation_kwargs))
        return prompts, self.returned or [[7]] * len(prompts), None, None


@pytest.mark.parametrize("other", [{"mode": "server"}, {"tensor_parallel_size": 2}])
def test_servers_and_tensor_parallel_vllm_are_left_to_trl(other):
    vllm, profiler = OtherVLLM(**other), ProfilingContext("step", [], True, 0)
    assert generate_groups_with_vllm(vllm, [A] * 4, 4, profiler) == ([[7]] * 4, None)
    assert vllm.received == [([A] * 4, None, 4, profiler, {"top_k": 5})]


def test_another_number_of_completions_is_an_error():
    vllm = OtherVLLM([[7]] * 8, mode="server")
    with pytest.raises(RuntimeError, match="returned 8 completions for 4 prompts. Remove n from generation_kwargs"):
        generate_groups_with_vllm(vllm, [A, A, B, B], 2)


@pytest.fixture(scope="module")
def generation(tmp_path_factory):
    """TRL's `VLLMGeneration` as its trainers make it, which keeps what it asks vLLM for in `requests`."""
    pytest.importorskip("vllm")
    directory = tmp_path_factory.mktemp("model")
    save_for_vllm(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    accelerator = Accelerator(cpu=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        for name in ("RANK", "LOCAL_RANK"):  # TRL sets them, and a later Accelerator would believe them
            patch.setenv(name, "0")
        patch.setenv("WORLD_SIZE", "1")
        patch.setattr(torch._dynamo.config, "disable", True)  # compiling takes longer than all the tests
        with engine_like_trainer(SimpleNamespace(use_vllm=True, temperature=1.0, top_p=1.0)):
            generation = trl_vllm.VLLMGeneration(
                model,
                accelerator,
                TOKENIZER,
                mode="colocate",
                gpu_memory_utilization=0.1,
                max_model_length=MAX_LENGTH,
                max_completion_length=NEW_TOKENS,
                logprobs=0,
                generation_kwargs={"stop_token_ids": [TOKENIZER.eos_token_id]},
            )
        requests, generate = [], generation.llm.generate

        def record(prompts, sampling_params, **kwargs):
            requests.append(([prompt["prompt_token_ids"] for prompt in prompts], sampling_params))
            return generate(prompts, sampling_params=sampling_params, **kwargs)

        patch.setattr(generation.llm, "generate", record)
        yield SimpleNamespace(trl=generation, requests=requests)


@pytest.mark.vllm
@pytest.mark.parametrize(
    "rows, num_generations, asked, n",
    [
        ([A] * 4 + [B] * 4 + [C] * 4, 4, [A, B, C], 4),
        ([A] * 8 + [B] * 4, 4, [A, A, B], 4),  # two neighbouring groups have the same prompt
        ([A] * 8, 4, [A], 8),
        ([A] * 3, 6, [A], 3),  # half a group, the other half is another process's
        ([A] * 8 + [B] * 4, 8, [A, A, B], 4),
        ([A] * 2 + [B] * 4 + [A] * 2, 4, [A, B, B, A], 2),
        ([A, B, B, C], 2, [A, B, B, C], 1),
        ([A, B, C], 1, [A, B, C], 1),  # evaluation with one completion each
    ],
)
def test_completions_are_those_of_trl(generation, rows, num_generations, asked, n):
    generation.requests.clear()
    torch.manual_seed(0)
    _, expected, _, _ = generation.trl.generate(rows, None, num_generations)
    torch.manual_seed(0)
    completions, _ = generate_groups_with_vllm(generation.trl, rows, num_generations)
    assert completions == expected and len(completions) == len(rows)
    assert len(set(map(tuple, completions))) > len(rows) / 2  # they are samples
    (repeated, one), (prompts, many) = generation.requests
    assert (repeated, one.n, prompts, many.n) == (rows, 1, asked, n)
    one.n = n
    assert one == many  # and nothing else has changed
    assert generation.trl.generation_kwargs == {"stop_token_ids": [TOKENIZER.eos_token_id]}


@pytest.mark.vllm
def test_completions_of_a_group_are_independent_samples(generation):
    torch.manual_seed(0)
    completions, _ = generate_groups_with_vllm(generation.trl, [A] * 2000 + [B] * 2000, 2000)
    model = generation.trl.model
    for prompt, group in ((A, completions[:2000]), (B, completions[2000:])):
        with torch.no_grad():
            expected = model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
        first = torch.tensor([completion[0] for completion in group])
        observed = torch.bincount(first, minlength=len(expected)) / len(first)
        # 4 standard errors; vLLM runs the float32 checkpoint in half precision, which moves this by less
        assert ((observed - expected).abs() < 4 * (expected * (1 - expected) / len(first)).sqrt() + 2e-3).all()
        assert observed.max() < 0.5


@pytest.mark.vllm
def test_log_probabilities_are_those_of_a_float32_head(generation):
    """vLLM runs the model in bfloat16, but for its last product, which rounds nothing."""
    assert generation.trl.llm.llm_engine.model_config.head_dtype == torch.float32
    model, seen = generation.trl.llm.llm_engine.model_executor.driver_worker.model_runner.model, []
    hook = model.logits_processor.register_forward_hook(lambda _, given, logits: seen.append((given[1], logits)))
    completions, log_probs = generate_groups_with_vllm(generation.trl, [A] * 4, 4)
    hook.remove()
    hidden, logits = (torch.cat(parts) for parts in zip(*seen, strict=True))
    assert hidden.dtype == torch.bfloat16 and logits.dtype == torch.float32
    vocabulary = generation.trl.model.config.vocab_size
    exact = hidden.double() @ model.lm_head.weight[:vocabulary].double().T
    torch.testing.assert_close(logits[:, :vocabulary].double(), exact, rtol=1e-5, atol=1e-5)
    assert (exact.bfloat16() - exact).abs().max() > 1e-3  # as they would be otherwise
    # What comes back is of these logits, and near the trainer's own in float32
    possible = exact.log_softmax(-1)
    for completion, told in zip(completions, log_probs, strict=True):
        with torch.no_grad():
            own = generation.trl.model(torch.tensor([A + completion])).logits[0, len(A) - 1 : -1].log_softmax(-1)
        for token, log_prob, trainers in zip(completion, told, own, strict=True):
            assert (possible[:, token] - log_prob).abs().min() < 1e-5
            assert abs(trainers[token] - log_prob) < 0.05


@pytest.mark.vllm
def test_generation_kwargs_come_back_after_an_error(generation):
    own = generation.trl.generation_kwargs
    with pytest.raises(Exception, match="maximum context length is 64"):
        generate_groups_with_vllm(generation.trl, [A * MAX_LENGTH] * 2, 2)
    assert generation.trl.generation_kwargs is own
    assert len(generate_groups_with_vllm(generation.trl, [A] * 2, 2)[0]) == 2


@pytest.mark.vllm
def test_their_own_n_has_no_say(generation, monkeypatch):
    monkeypatch.setattr(generation.trl, "generation_kwargs", {"n": 3})
    assert len(generate_groups_with_vllm(generation.trl, [A, A, B, B], 2)[0]) == 4
    assert len(generate_groups_with_vllm(generation.trl, [A, B], 1)[0]) == 2
    assert generation.trl.generation_kwargs == {"n": 3}


@pytest.mark.vllm
def test_the_trainer_sends_one_request_for_each_group(generation, tmp_path):
    """`REALTrainer` with TRL's vLLM; only the weights are not handed over, which vLLM's CPU build cannot."""
    trainer = make_trainer(tmp_path, trainer_class=REALTrainer)
    trainer.use_vllm, trainer.vllm_generation = True, generation.trl
    trainer._last_loaded_step = trainer.state.global_step
    trainer.model.train()
    generation.requests.clear()
    rollouts = trainer._generate_and_score_completions([row for row in trainer.train_dataset for _ in range(K)])
    ((prompts, sampling),) = generation.requests
    assert len(prompts) == len(trainer.train_dataset) and sampling.n == K
    assert [rollout.prompt_ids for rollout in rollouts] == [prompt for prompt in prompts for _ in range(K)]
    assert all(0 < len(rollout.completion_ids) <= NEW_TOKENS for rollout in rollouts)
