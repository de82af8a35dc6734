# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
What the presets send is what the judges' authors send. The texts with placeholders here are theirs, as they publish them; where a text
comes from stands above it.
"""

import copy
import json
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from real_trl.engines.options import JudgeOptions
from real_trl.integrations import JudgeReward
from real_trl.judge import Judge
from real_trl.judge_source import PRESETS, find_judge
from real_trl.option_values import FieldError
from real_trl.prompts.encoding import PromptEncoding
from real_trl.score_space import ScoreSpace
from real_trl.scripts import score
from tests.tiny import build_model, teach
from tests.tokenizers_zoo import SUBWORD, TOKENIZERS, encode, mistral

# prometheus-eval/prometheus-eval, libs/prometheus-eval/prometheus_eval/prompts.py, commit 485d2b4eaeebbebf991d76ab6698bdd94799e213; the
# package prometheus-eval 0.1.20 has the same. Apache 2.0
ABS_SYSTEM_PROMPT = """\
You are a fair judge assistant tasked with providing clear, objective feedback based on specific criteria, ensuring each assessment reflects the absolute standards set for performance."""
REL_SYSTEM_PROMPT = """\
You are a fair judge assistant assigned to deliver insightful feedback that compares individual performances, highlighting how each stands relative to others within the same cohort."""
ABSOLUTE_PROMPT = """\
###Task Description:
An instruction (might include an Input inside it), a response to evaluate, a reference answer that gets a score of 5, and a score rubric representing a evaluation criteria are given.
1. Write a detailed feedback that assess the quality of the response strictly based on the given score rubric, not evaluating in general.
2. After writing a feedback, write a score that is an integer between 1 and 5. You should refer to the score rubric.
3. The output format should look as follows: "(write a feedback for criteria) [RESULT] (an integer number between 1 and 5)"
4. Please do not generate any other opening, closing, and explanations.

###The instruction to evaluate:
{instruction}

###Response to evaluate:
{response}

###Reference Answer (Score 5):
{reference_answer}

###Score Rubrics:
{rubric}

###Feedback: """
ABSOLUTE_PROMPT_WO_REF = """\
###Task Description:
An instruction (might include an Input inside it), a response to evaluate, and a score rubric representing a evaluation criteria are given.
1. Write a detailed feedback that assess the quality of the response strictly based on the given score rubric, not evaluating in general.
2. After writing a feedback, write a score that is an integer between 1 and 5. You should refer to the score rubric.
3. The output format should look as follows: "(write a feedback for criteria) [RESULT] (an integer number between 1 and 5)"
4. Please do not generate any other opening, closing, and explanations.

###The instruction to evaluate:
{instruction}

###Response to evaluate:
{response}

###Score Rubrics:
{rubric}

###Feedback: """
RELATIVE_PROMPT = """\
###Task Description:
An instruction (might include an Input inside it), a response to evaluate, a reference answer, and a score rubric representing a evaluation criteria are given.
1. Write a detailed feedback that assess the quality of two responses strictly based on the given score rubric, not evaluating in general.
2. After writing a feedback, choose a better response between Response A and Response B. You should refer to the score rubric.
3. The output format should look as follows: "(write a feedback for criteria) [RESULT] (A or B)"
4. Please do not generate any other opening, closing, and explanations.

###Instruction:
{instruction}

###Response A:
{response_A}

###Response B:
{response_B}

###Reference Answer:
{reference_answer}

###Score Rubric:
{rubric}

###Feedback: """
RELATIVE_PROMPT_WO_REF = """\
###Task Description:
An instruction (might include an Input inside it), a response to evaluate, and a score rubric representing a evaluation criteria are given.
1. Write a detailed feedback that assess the quality of two responses strictly based on the given score rubric, not evaluating in general.
2. After writing a feedback, choose a better response between Response A and Response B. You should refer to the score rubric.
3. The output format should look as follows: "(write a feedback for criteria) [RESULT] (A or B)"
4. Please do not generate any other opening, closing, and explanations.

###Instruction:
{instruction}

###Response A:
{response_A}

###Response B:
{response_B}

###Score Rubric:
{rubric}

###Feedback: """


def conversation(system: str, user: str) -> str:
    """
    FastChat's conversation template "mistral" (lm-sys/FastChat, fastchat/conversation.py, package fschat 0.2.36), through which
    prometheus-eval sends both: `"[INST] {system_message}\\n"`, the message and a blank, `"[/INST]"`.
    """
    return f"[INST] {system}\n{user} [/INST]"


# atla-ai/selene-mini, prompt-templates/absolute-scoring.yaml, absolute-scoring-with-reference.yaml and pairwise.yaml, commit
# ef20b3f49b9e220685ed31c7906fd13eb2319de4; there is no system prompt
SELENE = """\
You are tasked with evaluating a response based on a given instruction (which may contain an Input) and a scoring rubric that serve as the evaluation standard. Provide a comprehensive feedback on the response quality strictly adhering to the scoring rubric, without any general evaluation. Follow this with a score between 1 and 5, referring to the scoring rubric. Avoid generating any additional opening, closing, or explanations.

Here are some rules of the evaluation:
(1) You should prioritize evaluating whether the response satisfies the provided rubric. The basis of your score should depend exactly on the rubric. However, the response does not need to explicitly address points raised in the rubric. Rather, evaluate the response based on the criteria outlined in the rubric.

Your reply should strictly follow this format:
**Reasoning:** <Your feedback>

**Result:** <an integer between 1 and 5>

Here is the data:

Instruction:
```
{user_input}
```

Response:
```
{assistant_response}
```

Score Rubrics:
[{rubric_objective}]
Score 1: {rubric_score_1_description}
Score 2: {rubric_score_2_description}
Score 3: {rubric_score_3_description}
Score 4: {rubric_score_4_description}
Score 5: {rubric_score_5_description}"""
SELENE_WITH_REFERENCE = """\
You are tasked with evaluating a response based on a given instruction (which may contain an Input) and a scoring rubric and reference answer that serve as the evaluation standard. Provide a comprehensive feedback on the response quality strictly adhering to the scoring rubric, without any general evaluation. Follow this with a score between 1 and 5, referring to the scoring rubric. Avoid generating any additional opening, closing, or explanations.

Here are some rules of the evaluation:
(1) You should prioritize evaluating whether the response satisfies the provided rubric. The basis of your score should depend exactly on the rubric. However, the response does not need to explicitly address points raised in the rubric. Rather, evaluate the response based on the criteria outlined in the rubric.
(2) You should refer to the provided reference answer as a guide for evaluating the response.

Your reply should strictly follow this format:
**Reasoning:** <Your feedback>

**Result:** <an integer between 1 and 5>

Here is the data:

Instruction:
```
{user_input}
```

Response:
```
{assistant_response}
```

Score Rubrics:
[{rubric_objective}]
Score 1: {rubric_score_1_description}
Score 2: {rubric_score_2_description}
Score 3: {rubric_score_3_description}
Score 4: {rubric_score_4_description}
Score 5: {rubric_score_5_description}

Reference answer:
{reference_response}"""
SELENE_PAIRWISE = """\
You are a helpful assistant in evaluating the quality of the responses for a given instruction. Your goal is to select the best response for the given instruction.
Select Response A or Response B, that is better for the given instruction. The two responses are generated by two different AI chatbots respectively.
Do NOT say both / neither are good.

Here are some rules of the evaluation:
(1) You should prioritize evaluating whether the response satisfies the provided rubric. Then consider its helpfulness, accuracy, level of detail, harmlessness, etc.
(2) Responses should NOT contain more/less than what the instruction asks for, as such responses do NOT precisely execute the instruction.
(3) You should avoid any potential bias and your judgment should be as objective as possible. Here are some potential sources of bias:
- The order in which the responses were presented should NOT affect your judgment, as Response A and Response B are **equally likely** to be the better.
- The length of the responses should NOT affect your judgement, as a longer response does not necessarily correspond to a better response. When making your decision, evaluate if the response length is appropriate for the given instruction.

Your reply should strictly follow this format:
**Reasoning:** <feedback evaluating the responses>

**Result:** <A or B>

Here is the data.

Instruction:
```
{user_input}
```

Response A:
```
{assistant_response_a}
```

Response B:
```
{assistant_response_b}
```

Score Rubrics:
[{rubric_objective}]"""
# lm-sys/FastChat, fastchat/llm_judge/data/judge_prompts.jsonl, commit 0e6e7fdc78bf64aceea1508694ce4e6472810b8b: single-v1, single-math-v1,
# pair-v2. Apache 2.0
MT_BENCH_SYSTEM = "You are a helpful assistant."
MT_BENCH = """\
[Instruction]
Please act as an impartial judge and evaluate the quality of the response provided by an AI assistant to the user question displayed below. Your evaluation should consider factors such as the helpfulness, relevance, accuracy, depth, creativity, and level of detail of the response. Begin your evaluation by providing a short explanation. Be as objective as possible. After providing your explanation, you must rate the response on a scale of 1 to 10 by strictly following this format: "[[rating]]", for example: "Rating: [[5]]".

[Question]
{question}

[The Start of Assistant's Answer]
{answer}
[The End of Assistant's Answer]"""
MT_BENCH_WITH_REFERENCE = """\
[Instruction]
Please act as an impartial judge and evaluate the quality of the response provided by an AI assistant to the user question displayed below. Your evaluation should consider correctness and helpfulness. You will be given a reference answer and the assistant's answer. Begin your evaluation by comparing the assistant's answer with the reference answer. Identify and correct any mistakes. Be as objective as possible. After providing your explanation, you must rate the response on a scale of 1 to 10 by strictly following this format: "[[rating]]", for example: "Rating: [[5]]".

[Question]
{question}

[The Start of Reference Answer]
{ref_answer_1}
[The End of Reference Answer]

[The Start of Assistant's Answer]
{answer}
[The End of Assistant's Answer]"""
MT_BENCH_PAIRWISE_SYSTEM = """\
Please act as an impartial judge and evaluate the quality of the responses provided by two AI assistants to the user question displayed below. You should choose the assistant that follows the user's instructions and answers the user's question better. Your evaluation should consider factors such as the helpfulness, relevance, accuracy, depth, creativity, and level of detail of their responses. Begin your evaluation by comparing the two responses and provide a short explanation. Avoid any positional biases and ensure that the order in which the responses were presented does not influence your decision. Do not allow the length of the responses to influence your evaluation. Do not favor certain names of the assistants. Be as objective as possible. After providing your explanation, output your final verdict by strictly following this format: "[[A]]" if assistant A is better, "[[B]]" if assistant B is better, and "[[C]]" for a tie."""
MT_BENCH_PAIRWISE = """\
[User Question]
{question}

[The Start of Assistant A's Answer]
{answer_a}
[The End of Assistant A's Answer]

[The Start of Assistant B's Answer]
{answer_b}
[The End of Assistant B's Answer]"""
# flowaicom/flow-judge, flow_judge/utils/prompt_formatter.py, commit bf0212646678d286080076a8df673f7572b2427a; the package flow-judge 0.1.2 has
# the same. Apache 2.0
FLOW_JUDGE = """\
# GOAL
Your job is to evaluate a task carried out by an AI system powered by a large language model.

You will be provided with the inputs and output of the task, as well as the evaluation criteria and scoring rubric. Your task is to evaluate the output of the AI system based on the evaluation criteria and scoring rubric provided.

# INPUT
Below are the inputs required for performing the task:
<inputs>
{INPUTS}
</inputs>

# OUTPUT
Below is the output of the task:
<output>
{OUTPUT}
</output>

# EVALUATION CRITERIA AND SCORING RUBRIC
Here are the evaluation criteria and the rubric that you need to use for evaluating the task:
<evaluation_criteria>
{EVALUATION_CRITERIA}
</evaluation_criteria>

<scoring_rubric>
{RUBRIC}
</scoring_rubric>

# INSTRUCTIONS FOR THE EVALUATION
1. Understand the task and criteria: Familiarize yourself with the task to be evaluated. Review the evaluation criteria and scoring rubric to understand the different levels of performance and the descriptions for each score.
2. Review the inputs and output: Look at the inputs provided for the task. Examine the output generated from completing the task.
3. Compare output to score descriptions: Compare the output against the criteria and score descriptions in the scoring rubric. For each criterion,decide which description best matches the output.
4. After comparing the output to the score descriptions, pay attention to the small details that might impact the final score that you assign. Sometimes a small difference can dictate the final score.
5. Write verbal feedback justifying your evaluation that includes a detailed rationale, referring to specific aspects of the output and comparing them to the rubric.
6. Assign a final score based on the scoring rubric.

## FORMAT FOR THE EVALUATION
- Write the verbal feedback inside <feedback> tags without any additional surrounding text.
- Write the numeric score inside <score> tags, without any additional surrounding text and always after the feedback.

Please accurately evaluate the task. Strictly adhere to the evaluation criteria and rubric."""


CRITERIA = "Is it {short}?"
LEVELS = {number: f"Of length {number}." for number in range(1, 6)}
RUBRIC = "\n".join([f"[{CRITERIA}]", *(f"Score {number}: {text}" for number, text in LEVELS.items())])
TEXTS = {"instruction": "Name a prime.\n\nOnly one. ", "response": " 7 {{ 7 }}\n"}
PAIR = {"instruction": TEXTS["instruction"], "response_a": " 7 {{ 7 }}\n", "response_b": "8"}
REFERENCE = {"reference": "2, {for one}"}
DESCRIBED = {"criteria": CRITERIA, **{f"score{number}_description": text for number, text in LEVELS.items()}}

ASKED = {  # what the authors' placeholders are filled with
    "rubric": RUBRIC,
    "instruction": TEXTS["instruction"],
    "response": TEXTS["response"],
    "response_A": PAIR["response_a"],
    "response_B": PAIR["response_b"],
    "reference_answer": REFERENCE["reference"],
    "user_input": TEXTS["instruction"],
    "assistant_response": TEXTS["response"],
    "assistant_response_a": PAIR["response_a"],
    "assistant_response_b": PAIR["response_b"],
    "reference_response": REFERENCE["reference"],
    "rubric_objective": CRITERIA,
    **{f"rubric_score_{number}_description": text for number, text in LEVELS.items()},
    "question": TEXTS["instruction"],
    "answer": TEXTS["response"],
    "answer_a": PAIR["response_a"],
    "answer_b": PAIR["response_b"],
    "ref_answer_1": REFERENCE["reference"],
}


def asked_of_flow_judge(inputs: dict[str, str], levels: dict[int, str]) -> str:
    """`USER_PROMPT_TEMPLATE` as `FlowJudge` fills it: `format_vars` and `format_rubric` of the same file."""
    return FLOW_JUDGE.format(
        INPUTS="\n".join(f"<{name}>\n{text}\n</{name}>" for name, text in inputs.items()),
        OUTPUT=f"<response>\n{TEXTS['response']}\n</response>",
        EVALUATION_CRITERIA=CRITERIA,
        RUBRIC="\n".join(f"- Score {score}: {text}" for score, text in levels.items()),
    )


SENT = [
    # preset, row, system message, message
    ("prometheus", {**TEXTS, "rubric": RUBRIC, **REFERENCE}, ABS_SYSTEM_PROMPT, ABSOLUTE_PROMPT),
    ("prometheus", {**TEXTS, "rubric": RUBRIC}, ABS_SYSTEM_PROMPT, ABSOLUTE_PROMPT_WO_REF),
    ("prometheus_relative", {**PAIR, "rubric": RUBRIC, **REFERENCE}, REL_SYSTEM_PROMPT, RELATIVE_PROMPT),
    ("prometheus_relative", {**PAIR, "rubric": RUBRIC}, REL_SYSTEM_PROMPT, RELATIVE_PROMPT_WO_REF),
    ("selene", {**TEXTS, **DESCRIBED}, None, SELENE),
    ("selene", {**TEXTS, **DESCRIBED, **REFERENCE}, None, SELENE_WITH_REFERENCE),
    ("selene_pairwise", {**PAIR, "criteria": CRITERIA}, None, SELENE_PAIRWISE),
    ("mt_bench", TEXTS, MT_BENCH_SYSTEM, MT_BENCH),
    ("mt_bench", {**TEXTS, **REFERENCE}, MT_BENCH_SYSTEM, MT_BENCH_WITH_REFERENCE),
    ("mt_bench_pairwise", PAIR, MT_BENCH_PAIRWISE_SYSTEM, MT_BENCH_PAIRWISE),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A small model that answers anything, whose chat template is that of Mistral 7B Instruct v0.2, which takes no system message."""
    path = tmp_path_factory.mktemp("judge")
    tokenizer = copy.deepcopy(mistral())
    tokenizer.chat_template = (
        "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
        "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% endif %}{% endfor %}"
    )
    tokenizer.save_pretrained(path)
    torch.manual_seed(0)
    sizes = {"n_positions": 4096, "n_embd": 16, "n_layer": 1, "n_head": 2}
    ids = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **sizes, **ids)).save_pretrained(path)
    return path


def test_every_preset_is_compared_here_or_elsewhere():
    compared = {preset for preset, *_ in SENT}
    assert compared | {"flow_judge", "feedback_collection"} == set(PRESETS)
    said = next(field for field in fields(JudgeOptions) if field.name == "preset").metadata["help"]
    assert all(name in said for name in PRESETS)


@pytest.mark.parametrize(("preset", "row", "system", "message"), SENT)
def test_what_is_sent_is_what_the_authors_send(folder, preset, row, system, message):
    source, sent = find_judge(folder, preset=preset), message.format(**ASKED)
    prompt = source.config.template().render(row, scale=source.space.scale, marker=source.space.marker, strict=True)
    if preset.startswith("prometheus"):
        assert PromptEncoding(source.tokenizer, source.config.prompt_format()).texts([prompt]) == [
            conversation(system, sent)
        ]
    else:
        own = [{"role": "system", "content": system}] if system else []
        assert source.config.prompt_format().messages(prompt) == [*own, {"role": "user", "content": sent}]


QUERY = {"query": TEXTS["instruction"]}


@pytest.mark.parametrize(
    ("labels", "more", "inputs", "levels"),
    [
        (None, {}, QUERY, LEVELS),
        (None, REFERENCE, {**QUERY, "reference_answer": REFERENCE["reference"]}, LEVELS),
        (None, {"context": "2 < 3"}, {**QUERY, "context": "2 < 3"}, LEVELS),
        ("1-3", {}, QUERY, {score: LEVELS[score] for score in (1, 2, 3)}),
        ("0-1", {}, QUERY, {0: "No.", 1: "Yes."}),
    ],
)
def test_what_is_sent_to_flow_judge(folder, labels, more, inputs, levels):
    source = find_judge(folder, preset="flow_judge", score_labels=labels)
    row = {**TEXTS, **more, "criteria": CRITERIA} | {f"score{n}_description": text for n, text in levels.items()}
    prompt = source.config.template().render(row, scale=source.space.scale, marker=source.space.marker, strict=True)
    assert source.config.prompt_format().messages(prompt) == [
        {"role": "user", "content": asked_of_flow_judge(inputs, levels)}
    ]


@pytest.mark.parametrize(("preset", "low", "high"), [("prometheus", 0, 9), ("selene", 1, 3), ("mt_bench", 1, 5)])
def test_another_scale_is_in_the_prompt(folder, preset, low, high):
    judge = Judge.from_pretrained(folder, preset=preset, score_labels=f"{low}-{high}")
    prompt = judge.prompt({**TEXTS, **DESCRIBED}, "row 0")
    assert f"between {low} and {high}" in prompt or f"scale of {low} to {high}" in prompt
    assert "1 and 5" not in prompt and "1 to 10" not in prompt


def test_what_a_preset_says_beside_its_prompt(folder):
    found = {name: find_judge(folder, preset=name) for name in PRESETS}
    better = {name: dict(zip(found[name].space.labels, found[name].space.values, strict=True)) for name in found}
    assert better["prometheus_relative"] == better["selene_pairwise"] == {"A": 1, "B": 0}
    assert better["mt_bench_pairwise"] == {"A": 1, "C": 0.5, "B": 0}
    assert found["mt_bench"].space.values == tuple(range(1, 11))
    assert {name: each.config.top_p for name, each in found.items() if each.config.top_p != 1} == {
        "prometheus": 0.9,
        "prometheus_relative": 0.9,
    }
    # Whoever names other labels says their values too
    assert find_judge(folder, preset="selene_pairwise", score_labels=["A", "B"], score_values=[0, 1]).space.values == (
        0,
        1,
    )


def test_a_system_prompt_needs_a_chat_template(folder):
    with pytest.raises(
        FieldError, match="preset='mt_bench' comes with a system prompt, and prompts do not go through a chat"
    ):
        find_judge(folder, preset="mt_bench", chat=False)
    assert find_judge(folder, preset="mt_bench", system_prompt="Be strict.").config.system_prompt == "Be strict."


@pytest.mark.parametrize("preset", ["selene", "selene_pairwise"])
def test_a_row_is_judged(folder, preset):
    judge = Judge.from_pretrained(folder, preset=preset, max_new_tokens=4)
    first, second = judge.score([{**TEXTS, **PAIR, **DESCRIBED}, {**TEXTS, **PAIR, "rubric": "Is it short?"}])
    assert first.mass > 0 and first.normalized
    assert min(judge.values) < first.expected_score < max(judge.values)
    assert second.prompt_tokens < first.prompt_tokens
    with pytest.raises(FieldError, match="row 0 has none") as error:
        judge.score([PAIR if preset == "selene_pairwise" else TEXTS])
    assert error.value.field == "rubric"


VERDICTS = [
    ("prometheus", "4", "Good, if short. [RESULT] 4"),
    ("prometheus", "4", "Good, if short. [RESULT] **4**"),
    ("prometheus", "4", "Feedback: Good.\n\n**[RESULT]** 4"),
    ("prometheus", "4", "Good.\n[RESULT]\n4"),
    ("prometheus_relative", "A", "B is short. [RESULT] A"),
    ("prometheus_relative", "A", "B is short. [RESULT] **A**"),
    ("prometheus_relative", "B", "B is short.\n[RESULT]\nB"),
    ("selene", "4", "**Reasoning:** Good.\n\n**Result:** 4"),
    ("selene", "4", "**Reasoning:** Good.\n\n**Result:**\n4"),
    ("selene", "4", "**Reasoning:** Good.\n\n**Result:** **4**"),
    ("selene_pairwise", "B", "**Reasoning:** A is long.\n\n**Result:** B"),
    ("selene_pairwise", "B", "**Reasoning:** A is long.\n\n**Result:**\nB"),
    ("flow_judge", "4", "<feedback>\nGood.\n</feedback>\n<score>\n4\n</score>"),
    ("flow_judge", "4", "<feedback>\nGood.\n</feedback>\n\n<score>4</score>"),
    ("flow_judge", "4", "<feedback>\nGood.\n</feedback>\n<score>\n**4**\n</score>"),
    ("mt_bench", "8", "Good. Rating: [[8]]"),
    ("mt_bench", "10", "It is no [[5]]. Rating: [[10]]"),
    ("mt_bench", "8", "Good. Rating: **[[8]]**"),
    ("mt_bench", "8", "Good. Rating: [[**8**]]"),
    ("mt_bench_pairwise", "A", "B is short. [[A]]"),
    ("mt_bench_pairwise", "C", "Equal. Final verdict: **[[C]]**"),
]


@pytest.mark.parametrize("name", SUBWORD)
@pytest.mark.parametrize(("preset", "label", "completion"), VERDICTS)
def test_verdicts_are_read_at_the_label(name, preset, label, completion):
    """The form that the authors ask for, and what models make of it."""
    tokenizer, preset = TOKENIZERS[name](), PRESETS[preset]
    space = ScoreSpace.from_labels(preset.score_labels, tokenizer, preset.score_marker, preset.score_values)
    ids = [*encode(tokenizer, completion), tokenizer.eos_token_id]
    written_in, location = space.place(ids, [tokenizer.eos_token_id])
    assert location.ok and space.labels[location.label_index] == label
    path = written_in.token_ids[location.label_index]
    assert written_in.tree.longest_label(ids[location.position :]) == location.label_index
    before = tokenizer.decode(ids[: location.position]).rstrip(" ")
    assert completion.rpartition(label)[0].rstrip(" ") == before and tokenizer.decode(path).strip() == label


PAIRS = [
    {"instruction": "Name a prime.", "response_a": first, "response_b": second}
    for first, second in (("7", "8"), ("9", "11"))
]


@pytest.fixture(scope="module")
def relative(folder, tmp_path_factory) -> Path:
    """A model that has learned to answer the prompts about `PAIRS` with A or B on a line of its own."""
    source = find_judge(folder, preset="prometheus_relative")
    template, encoding = source.config.template(), PromptEncoding(source.tokenizer, source.config.prompt_format())
    prompts = [template.render({**row, "rubric": "Right?"}, scale=source.space.scale, strict=True) for row in PAIRS]
    answers = [
        [*encode(source.tokenizer, f"It is right. [RESULT]\n{label}"), source.tokenizer.eos_token_id] for label in "AB"
    ]
    rows = [ids + answer for ids, answer in zip(encoding(prompts), answers, strict=True)]
    model = build_model(tokenizer=source.tokenizer, initializer_range=0.02, max_position_embeddings=4096).train()
    teach(model, rows, len(answers[0]), torch.optim.AdamW(model.parameters(), lr=1e-2), 60)
    path = tmp_path_factory.mktemp("relative")
    model.save_pretrained(path)
    source.tokenizer.save_pretrained(path)
    return path


def test_pairs_are_judged(relative, tmp_path):
    judge = Judge.from_pretrained(relative, preset="prometheus_relative", do_sample=False, max_new_tokens=40)
    judgments = judge.score([{**row, "rubric": "Right?"} for row in PAIRS])
    assert [judgment.status for judgment in judgments] == ["ok", "ok"]
    assert {judgment.completion[:-1] for judgment in judgments} == {"It is right. [RESULT]\n"}
    for judgment in judgments:
        better, worse = (judgment.probabilities[label] for label in "AB")
        assert judgment.expected_score == pytest.approx(better / (better + worse), abs=1e-6)
        assert better + worse > 0.9

    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    options = [
        "--preset",
        "prometheus_relative",
        "--rubric",
        "Right?",
        "--do_sample",
        "false",
        "--max_new_tokens",
        "40",
    ]
    score.main([str(data), "--judge", str(relative), "--output", str(tmp_path / "out.jsonl"), *options])
    scored = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["expected_score"] for row in scored] == pytest.approx([j.expected_score for j in judgments], abs=1e-4)


def test_a_judge_of_pairs_is_no_reward(relative):
    with pytest.raises(FieldError, match="'prometheus_relative' does not show the response"):
        JudgeReward(relative, preset="prometheus_relative", rubric="Right?")
    judge = Judge.from_pretrained(relative, preset="prometheus_relative")
    with pytest.raises(FieldError, match="response_b: row 0 has none"):
        judge.score([{"instruction": "Name a prime.", "response_a": "7", "rubric": "Right?"}])
    with pytest.raises(FieldError, match=r"response_b: that of row 0 holds \['8'\]"):
        judge.score([{**PAIRS[0], "response_b": ["8"], "rubric": "Right?"}])
