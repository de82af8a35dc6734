# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What stands around prompts: read off training data, refused where no judge could be asked that way, saved with the judge."""

import copy
import json

import pytest
from datasets import Dataset, IterableDataset

from real_trl import JudgeConfig, RAFTConfig, RAFTTrainer, REALConfig, REALTrainer
from real_trl.judge_source import find_judge
from real_trl.prompts.format import TRAINING_DATE, PromptFormat, prompt_text, training_format
from real_trl.trainers.evaluation_callback import JudgeEvaluationCallback
from real_trl.trainers.starting_judge import check_start
from tests.tiny import TOKENIZER, build_model, chat_tokenizer, encode, warm_model

TOOLS = [{"type": "function", "function": {"name": "look"}}]
OPTIONS = {
    "use_cpu": True,
    "bf16": False,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "max_steps": 1,
}
CHATS = {"per_device_train_batch_size": 2, **OPTIONS}


def user(text="Grade this homework.", *before):
    return [*before, {"role": "user", "content": text}]


def system(text):
    return {"role": "system", "content": text}


def rows(*prompts, **columns):
    """One row a prompt, each with a score and a completion of its kind."""
    made = []
    for index, prompt in enumerate(prompts):
        text = "right. So the overall score is 4"
        completion = [{"role": "assistant", "content": text}] if isinstance(prompt, list) else f" {text}"
        more = {name: values[index] for name, values in columns.items()}
        made.append({"prompt": prompt, "completion": completion, "score": 4.0, **more})
    return made


def make(trainer, data, tmp_path, stream=False, tokenizer=None, **kwargs):
    data = (
        IterableDataset.from_generator(lambda rows: iter(rows), gen_kwargs={"rows": tuple(data)})
        if stream
        else Dataset.from_list(data)
    )
    if trainer is REALTrainer:
        kwargs |= {"num_generations": 2, "max_completion_length": 8, "preflight_scored_rate": 0}
        args = REALConfig(str(tmp_path), **CHATS, **kwargs)
    else:
        args = RAFTConfig(str(tmp_path), **CHATS, **kwargs)
    tokenizer = tokenizer or chat_tokenizer()
    made = trainer(build_model(), args, data, processing_class=copy.deepcopy(tokenizer))
    if stream:
        made.train()
    return made


# --- training data


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("trainer", [REALTrainer, RAFTTrainer])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            [user(), user("a", {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"})],
            "messages of 'user', 'assistant', 'user' in row 1",
        ),
        (
            [user("a", system("Be kind.")), user("a", system("Be cruel."))],
            "system message 'Be cruel.' in row 1.*'Be kind.' in the first row",
        ),
        ([user("a", system("Be kind.")), user()], "system message None in row 1.*'Be kind.' in the first row"),
        ([user(), user("a", system("Be kind."))], "system message 'Be kind.' in row 1.*None in the first row"),
        ([user(), [system("Grade.")]], "messages of 'system' in row 1"),
        ([user(), [{"role": "tool", "content": "a"}]], "messages of 'tool' in row 1"),
    ],
)
def test_what_no_judge_could_be_asked_is_refused(trainer, given, message, stream, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        make(trainer, rows(*given), tmp_path, stream)
    assert str(error.value).startswith("train_dataset: ")


@pytest.mark.parametrize("trainer", [REALTrainer, RAFTTrainer])
@pytest.mark.parametrize("stream", [False, True])
def test_tools_and_arguments_of_rows_are_the_judges_if_they_are_all_the_same(trainer, stream, tmp_path):
    data = rows(
        user(), user("a"), tools=[json.dumps(TOOLS)] * 2, chat_template_kwargs=[{"enable_thinking": False}] * 2
    )
    judge = make(trainer, data, tmp_path, stream).judge_config
    assert judge.chat_template_kwargs == {"enable_thinking": False, "tools": TOOLS}
    for changed in (
        {"tools": None},
        {"tools": json.dumps(TOOLS * 2)},
        {"chat_template_kwargs": {"enable_thinking": True}},
    ):
        with pytest.raises(ValueError, match="tools or chat_template_kwargs .* in row 1"):
            make(trainer, [data[0], {**data[1], **changed}], tmp_path, stream)


def test_completions_are_one_answer(tmp_path):
    data = rows(user())
    for completion, found in [
        ([{**data[0]["completion"][0], "role": "user"}], "has user in row 0"),
        (data[0]["completion"] * 2, "has assistant, assistant in row 0"),
    ]:
        with pytest.raises(ValueError, match=f"column 'completion' {found}"):
            make(RAFTTrainer, [{**data[0], "completion": completion}], tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tokenize": False}, "'tokenize' is not for the chat template"),
        ({"tools": [print]}, "'tools' is .* cannot be saved with the judge"),
        ({"pair": (1, 2)}, "'pair' is .* cannot be saved"),
        (["enable_thinking"], "Set it to a mapping"),
    ],
)
def test_arguments_that_cannot_be_saved_are_refused(given, message):
    with pytest.raises(ValueError, match=f"chat_template_kwargs: .*{message}"):
        PromptFormat(chat=True, chat_template_kwargs=given)


@pytest.mark.parametrize("trainer", [REALTrainer, RAFTTrainer])
def test_arguments_without_a_chat_are_refused(trainer, tmp_path):
    with pytest.raises(ValueError, match="chat_template_kwargs: got .* but prompts do not go through a chat template"):
        make(trainer, rows("Grade this homework."), tmp_path, chat_template_kwargs={"enable_thinking": False})
    with pytest.raises(ValueError, match="system_prompt: got 'Be kind.', but prompts do not go through"):
        PromptFormat(system_prompt="Be kind.")


@pytest.mark.parametrize("trainer", [REALTrainer, RAFTTrainer])
def test_messages_without_a_chat_template_are_refused(trainer, tmp_path):
    with pytest.raises(ValueError, match="the tokenizer has (none|no chat template)"):
        make(trainer, rows(user()), tmp_path, tokenizer=TOKENIZER)


def test_the_first_row_of_a_stream_is_not_lost():
    read = []

    def generate():
        for index in range(3):
            read.append(index)
            yield {"prompt": user(str(index)), "score": 1.0}

    stream = IterableDataset.from_generator(generate)
    args = RAFTConfig("unused", **OPTIONS)
    assert training_format(stream, chat_tokenizer(), args) == PromptFormat(chat=True)
    assert [row["prompt"][0]["content"] for row in stream] == ["0", "1", "2"]
    assert training_format(IterableDataset.from_generator(lambda: iter(())), TOKENIZER, args) == PromptFormat()


def test_text_in_one_part_is_text():
    parts = [{"role": "user", "content": [{"type": "text", "text": "Grade."}]}]
    assert prompt_text({"prompt": parts}, PromptFormat(chat=True)) == "Grade."
    parts[0]["content"].append({"type": "image", "text": None})
    with pytest.raises(ValueError, match="A judge reads text"):
        prompt_text({"prompt": parts}, PromptFormat(chat=True), "row 3")


def test_a_template_with_the_date_of_today_gets_a_fixed_day(tmp_path):
    tokenizer = chat_tokenizer()
    args = RAFTConfig("unused", **OPTIONS)
    assert training_format(rows(user()), tokenizer, args).template_date is None
    tokenizer.chat_template = "{{ strftime_now('%Y') }}" + tokenizer.chat_template
    assert training_format(rows(user()), tokenizer, args).template_date == TRAINING_DATE


# --- judges


def judge_folder(path, **config):
    chat_tokenizer().save_pretrained(path)
    judge = JudgeConfig(list("12345"), [1.0, 2.0, 3.0, 4.0, 5.0], chat=True)
    judge.use_format(PromptFormat(chat=True, **config))
    judge.save(path)
    return path


def forget(path):
    """A judge as it was saved before."""
    config = json.loads((path / "judge_config.json").read_text())
    for name in ("system_prompt", "chat_template_kwargs", "template_date"):
        del config[name]
    (path / "judge_config.json").write_text(json.dumps(config))


def test_the_judge_brings_its_format_and_may_repeat_it(tmp_path):
    settings = {"system_prompt": "Be kind.", "chat_template_kwargs": {"enable_thinking": False}}
    judge_folder(tmp_path, **settings)
    for given in ({}, settings, {"chat_template_kwargs": '{"enable_thinking": false}'}):
        assert find_judge(tmp_path, **given).config.prompt_format() == PromptFormat(chat=True, **settings)
    for name, value in [
        ("system_prompt", "Be cruel."),
        ("chat_template_kwargs", {}),
        ("chat_template_kwargs", {"a": 1}),
    ]:
        with pytest.raises(ValueError, match=f"{name}: got .* was trained with"):
            find_judge(tmp_path, **{name: value})


def test_judges_of_before_are_asked_as_before_and_may_be_told_more(tmp_path):
    forget(judge_folder(tmp_path))
    judge = find_judge(tmp_path).config
    assert judge.prompt_format() == PromptFormat(chat=True) and not judge.knows_template_arguments
    told = find_judge(tmp_path, chat_template_kwargs={"enable_thinking": False}, system_prompt="Be kind.").config
    assert told.prompt_format() == PromptFormat(True, "Be kind.", {"enable_thinking": False})


def test_another_model_is_asked_as_it_is_said(tmp_path):
    chat_tokenizer().save_pretrained(tmp_path)
    judge = find_judge(tmp_path, score_labels="1-5", system_prompt="Be kind.", chat_template_kwargs={"a": 1}).config
    assert judge.prompt_format() == PromptFormat(True, "Be kind.", {"a": 1})
    with pytest.raises(
        ValueError, match="system_prompt: got 'Be kind.', but prompts do not go through a chat template"
    ):
        find_judge(tmp_path, score_labels="1-5", system_prompt="Be kind.", chat=False)


def test_training_goes_on_with_the_same_format(tmp_path):
    space = JudgeConfig(list("12345"), [1.0, 2.0, 3.0, 4.0, 5.0]).score_space(TOKENIZER)
    settings = {"system_prompt": "Be kind.", "chat_template_kwargs": {"enable_thinking": False}}
    judge_folder(tmp_path, **settings)
    assert check_start(str(tmp_path), None, space, None, **settings) is True
    for name, value in [("system_prompt", "Be cruel."), ("chat_template_kwargs", {"enable_thinking": True})]:
        with pytest.raises(ValueError, match=f"{name}: got .* that training starts from was trained with"):
            check_start(str(tmp_path), None, space, None, **{name: value})
    forget(tmp_path)
    assert check_start(str(tmp_path), None, space, None, **settings) is True


# --- sampling


def test_the_nucleus_of_training_is_that_of_judging(tmp_path):
    trainer = make(REALTrainer, rows(user()), tmp_path, top_p=0.9, temperature=0.8)
    assert (trainer.judge_config.top_p, trainer.judge_config.temperature) == (0.9, 0.8)
    trainer.judge_config.save(tmp_path)
    trainer.processing_class.save_pretrained(tmp_path)
    trainer.model.save_pretrained(tmp_path)
    source = find_judge(tmp_path)
    assert source.load_engine(max_new_tokens=8).decoding.top_p == 0.9
    assert source.load_engine(max_new_tokens=8, top_p=1.0).decoding.top_p == 1.0
    held_out = Dataset.from_list([{"prompt": "right", "score": 4.0}])
    assert JudgeEvaluationCallback(trainer, {"held out": held_out}, 1)._decoding.top_p == 0.9


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("top_k", {"top_k": 5}),
        ("min_p", {"min_p": 0.1}),
        ("repetition_penalty", {"repetition_penalty": 1.1}),
        ("no_repeat_ngram_size", {"generation_kwargs": {"no_repeat_ngram_size": 3}}),
        ("temperature", {"generation_kwargs": '{"temperature": 0.5}'}),
    ],
)
def test_sampling_that_no_judge_can_repeat_is_refused(name, given):
    with pytest.raises(ValueError, match=f"{name}: got .*, but no judge samples that way"):
        REALConfig("unused", bf16=False, use_cpu=True, **given)


def test_other_arguments_of_generation_are_left_alone():
    REALConfig("unused", bf16=False, use_cpu=True, generation_kwargs={"stop_strings": ["."]}, top_k=-1, min_p=0.0)


# --- held-out data, and tokenizers without an end of text


def test_held_out_data_are_asked_as_the_training_data_are(tmp_path):
    tokenizer = chat_tokenizer()
    tokenizer.chat_template = "{% if wrong %}wrong {% endif %}" + tokenizer.chat_template
    data = rows(user("right", system("Grade.")))
    trainer = make(REALTrainer, data, tmp_path, tokenizer=tokenizer, chat_template_kwargs={"wrong": True})
    seen = []
    trainer._generate_single_turn = lambda ids, *rest: seen.extend(ids) or [[tokenizer.eos_token_id]] * len(ids)
    trainer._generate([data[0]["prompt"]])
    held_out = Dataset.from_list([{"prompt": "right", "score": 4.0}])
    callback = JudgeEvaluationCallback(trainer, {"held out": held_out}, 1)
    judged = []
    import real_trl.trainers.evaluation_callback as module

    class Watched(module.TransformersEngine):
        def judge(self, prompts, seed=None):
            judged.extend(self.encode(prompts))
            return super().judge(prompts, seed)

    module.TransformersEngine, own = Watched, module.TransformersEngine
    try:
        callback.evaluate()
    finally:
        module.TransformersEngine = own
    assert judged == seen == [encode("wrong Grade\n\nright\n\n".replace("Grade", "Grade."), eos=False)]


@pytest.mark.parametrize("trainer", [REALTrainer, RAFTTrainer])
def test_a_tokenizer_without_an_end_of_text_takes_the_models(trainer, tmp_path):
    tokenizer = copy.deepcopy(TOKENIZER)
    tokenizer.eos_token = None
    made = make(trainer, rows("Grade this homework."), tmp_path, tokenizer=tokenizer)
    assert made._tokenizer.eos_token == "<eos>"
    if trainer is RAFTTrainer:
        assert made.train_dataset[0]["input_ids"][-1] == TOKENIZER.eos_token_id
    model = build_model()
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    tokenizer.eos_token = None
    args = RAFTConfig(str(tmp_path), **OPTIONS)
    with pytest.raises(ValueError, match="the tokenizer has no eos_token and the model names none"):
        RAFTTrainer(model, args, Dataset.from_list(rows("Grade this homework.")), processing_class=tokenizer)


def test_a_saved_tokenizer_without_an_end_of_text_takes_the_models(tmp_path):
    tokenizer = copy.deepcopy(TOKENIZER)
    tokenizer.eos_token = None
    warm_model().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    source = find_judge(tmp_path, score_labels="1-5")
    assert source.tokenizer.eos_token_id == TOKENIZER.eos_token_id
    assert source.load_engine(max_new_tokens=8).stop_ids == [TOKENIZER.eos_token_id]
