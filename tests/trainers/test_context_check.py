# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What does not fit the model is refused, to the token, by trainers that have not trained a step."""

import pytest
from datasets import Dataset, IterableDataset
from transformers import GPT2Config, GPT2LMHeadModel

from real_trl import RAFTConfig, RAFTTrainer, REALConfig, REALTrainer
from real_trl.score_space import ScoreSpace
from real_trl.trainers.context_check import ContextCheck, Limit, prompt_fits, row_fits
from tests.tiny import DIGITS, LINES, PROMPT, TOKENIZER, build_model, chat_tokenizer
from tests.tokenizers_zoo import qwen

SPACE = ScoreSpace.from_labels("1-5", TOKENIZER)
TEXT = "\n".join([PROMPT, *LINES])
SIZE = len(TOKENIZER(TEXT)["input_ids"])
COMPLETION = " 1) 7+4 is 11, close. So the overall score is 4"
OPTIONS = {"bf16": False, "use_cpu": True, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}


def real_config(path="unused", **kwargs):
    return REALConfig(
        str(path),
        **{**OPTIONS, "num_generations": 2, "per_device_train_batch_size": 2, "max_completion_length": 20, **kwargs},
    )


def reads(tokens):
    """A model with that context."""
    model = build_model()
    model.config.max_position_embeddings = tokens
    return model


def rows(*prompts):
    return [{"prompt": prompt, "score": 4.0, "completion": COMPLETION} for prompt in prompts]


def refused(check, *prompts):
    try:
        check(rows(*prompts), [f"row {i}" for i in range(len(prompts))], "train_dataset")
    except ValueError as error:
        return str(error)
    return None


def test_a_prompt_fits_to_the_token():
    def check(context, **kwargs):
        model = reads(context)
        return refused(prompt_fits(model, real_config(**kwargs), SPACE, TOKENIZER), PROMPT, TEXT)

    assert check(SIZE + 20) is None
    message = check(SIZE + 19)
    assert message.startswith(f"train_dataset: row 1 has {SIZE} tokens in its prompt, 1 too many.")
    assert f"The model reads {SIZE + 19} tokens, of which 20 are kept for the completion." in message
    assert "lower max_completion_length (now 20)" in message
    # A marker that is forced takes its own 5 tokens, and one that may have to be between
    assert check(SIZE + 26, malformed="force") is None
    assert "1 too many" in check(SIZE + 25, malformed="force")


def test_a_chat_template_takes_room_too():
    tokenizer = chat_tokenizer()
    turns = [{"role": "user", "content": TEXT}]
    size = len(tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"])
    assert size > SIZE
    fits = [refused(prompt_fits(reads(size + 20 - less), real_config(), SPACE, tokenizer), turns) for less in (0, 1)]
    assert fits[0] is None and f"row 0 has {size} tokens in its prompt, 1 too many" in fits[1]


def test_labels_of_several_tokens_are_read_behind_the_completion():
    space = ScoreSpace.from_labels("1-10", DIGITS)
    size = len(DIGITS(TEXT)["input_ids"])
    checks = [prompt_fits(reads(size + 20 + room), real_config(), space, DIGITS) for room in (1, 0)]
    assert refused(checks[0], TEXT) is None
    assert "1 too many" in refused(checks[1], TEXT)


def test_vllm_has_a_limit_of_its_own():
    args = real_config(use_vllm=True, vllm_mode="colocate", vllm_max_model_length=SIZE + 19)
    message = refused(prompt_fits(build_model(), args, SPACE, TOKENIZER), TEXT)
    assert "1 too many" in message and "raise vllm_max_model_length" in message
    args.vllm_max_model_length += 1
    assert refused(prompt_fits(build_model(), args, SPACE, TOKENIZER), TEXT) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"max_completion_length": 256},
            "max_completion_length: got 256. The model reads 256 .* none is left for a prompt",
        ),
        ({"max_completion_length": 5}, "max_completion_length: got 5, but marker and label alone have 6 tokens"),
    ],
)
def test_completion_limits_that_cannot_be(tmp_path, options, message):
    data = Dataset.from_list(rows(TEXT)).remove_columns("completion")
    with pytest.raises(ValueError, match=message):
        REALTrainer(build_model(), real_config(tmp_path, **options), data, processing_class=TOKENIZER)
    with pytest.raises(ValueError, match="max_completion_length: got null"):
        prompt_fits(build_model(), real_config(max_completion_length=None), SPACE, TOKENIZER)
    if options["max_completion_length"] == 5:  # forced, marker and label need no room in the completion
        prompt_fits(build_model(), real_config(malformed="force", **options), SPACE, TOKENIZER)


def test_texts_that_cannot_be_too_long_are_not_tokenized():
    seen = []

    def encode(turns):
        seen.extend(turns)
        return [[0] * len(text.encode()) for text in turns]

    check = ContextCheck([Limit(50, "The model reads", 10, "")], encode, "prompt", lambda row: row["prompt"])
    assert refused(check, "a" * 30, "b" * 39) is None
    assert seen == ["x"]  # what stands around a text
    assert "row 1 has 41 tokens in its prompt, 1 too many (and at least 1 more rows are too long)" in refused(
        check, "a" * 40, "b" * 41, "c" * 99
    )
    assert seen == ["x", "a" * 40, "b" * 41, "c" * 99]


@pytest.mark.parametrize(
    "text", ["ﷺ" * 40, "日本語" * 40, "🙂" * 40, "½ ǆ ﬃ" * 20], ids=["ligature", "japanese", "emoji", "forms"]
)
def test_the_bound_holds_for_every_script(text):
    """A tokenizer of bytes, which has a token for each where it knows no word."""
    size = len(qwen()(text)["input_ids"])
    args, space = real_config(), ScoreSpace.from_labels("1-5", qwen())
    for less in (0, 1):
        model = reads(size + 20 - less)
        assert bool(refused(prompt_fits(model, args, space, qwen()), text)) == bool(less)


def test_a_row_of_supervised_training_fits_to_the_token():
    size = len(TOKENIZER(TEXT + COMPLETION)["input_ids"]) + 1  # TRL closes it with EOS

    def check(context, **kwargs):
        args = RAFTConfig("unused", **OPTIONS, **kwargs)
        return refused(row_fits(reads(context), args, TOKENIZER), TEXT)

    assert check(size) is None
    message = check(size - 1)
    assert message.startswith(f"train_dataset: row 0 has {size} tokens in its prompt and completion, 1 too many.")
    assert f"set max_length (now 3000) to at most {size - 1}" in message
    assert "1 too many" in check(size - 1, max_length=None)
    assert check(size - 1, max_length=size - 1) is None  # cut, which is counted


def gpt2():
    sizes = {"vocab_size": len(TOKENIZER), "n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": 64}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=None, eos_token_id=TOKENIZER.eos_token_id))


@pytest.mark.parametrize("model", [gpt2, lambda: reads(64)], ids=["learned", "rope"])
@pytest.mark.parametrize("method", ["REAL", "RAFT"])
@pytest.mark.parametrize("held_out", [False, True])
def test_trainers_refuse_when_they_are_built(tmp_path, model, method, held_out):
    short, long = rows(PROMPT), rows(PROMPT, PROMPT + " " + LINES[0] * 30)
    data = {"train_dataset": Dataset.from_list(short if held_out else long)}
    if held_out:
        data["eval_dataset"] = {"other": Dataset.from_list(short), "own": Dataset.from_list(long)}
    name = r"eval_dataset\['own'\]" if held_out else "train_dataset"
    with pytest.raises(ValueError, match=f"{name}: row 1 has .* The model reads 64 tokens"):
        if method == "REAL":
            REALTrainer(model(), real_config(tmp_path), **data, processing_class=TOKENIZER)
        else:
            RAFTTrainer(model(), RAFTConfig(str(tmp_path), **OPTIONS), **data, processing_class=TOKENIZER)


@pytest.mark.parametrize("method", ["REAL", "RAFT"])
def test_a_row_of_a_stream_that_does_not_fit_is_named(tmp_path, method):
    texts = [PROMPT, TEXT, PROMPT + (" " + LINES[0]) * 90, TEXT]
    stream = IterableDataset.from_generator(lambda: iter(rows(*texts)))
    options = {"max_steps": 4, "per_device_train_batch_size": 1, "lr_scheduler_type": "constant"}
    if method == "REAL":
        options |= {"per_device_train_batch_size": 2, "shuffle_dataset": False, "malformed": "force"}
        trainer = REALTrainer(build_model(), real_config(tmp_path, **options), stream, processing_class=TOKENIZER)
    else:
        args = RAFTConfig(str(tmp_path), **OPTIONS, **options)
        trainer = RAFTTrainer(build_model(), args, stream, processing_class=TOKENIZER)
    with pytest.raises(ValueError, match="train_dataset: row 2 of the stream has .* The model reads 256 tokens"):
        trainer.train()
    assert trainer.state.global_step <= 2
