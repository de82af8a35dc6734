# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from real_trl.option_values import FieldError
from real_trl.prompts.template import PromptTemplate, add_score_reminder, load_template
from real_trl.scale import Scale

SCALE = {"scale": Scale.parse("1-5")}
ROW = {"instruction": "Say hi.", "response": "Hello!", "reference": "Hi.", "rubric": "[Is it short?]\nScore 1: No."}
FEEDBACK_COLLECTION_ROW = {
    "instruction": "the complete prompt, not the instruction",
    "orig_instruction": "Say hi.",
    "orig_response": "Hello!",
    "orig_reference_answer": "Hi.",
    "orig_criteria": "Is it short?",
    **{f"orig_score{number}_description": f"Length {number}." for number in range(1, 6)},
}
# The whole prompt, as Prometheus' evaluation sets hold it.
PROMETHEUS = """###Task Description:
An instruction (might include an Input inside it), a response to evaluate, a reference answer that gets a score of 5, \
and a score rubric representing a evaluation criteria are given.
1. Write a detailed feedback that assess the quality of the response strictly based on the given score rubric, \
not evaluating in general.
2. After writing a feedback, write a score that is an integer between 1 and 5. You should refer to the score rubric.
3. The output format should look as follows: "Feedback: (write a feedback for criteria) [RESULT] (an integer number \
between 1 and 5)"
4. Please do not generate any other opening, closing, and explanations.

###The instruction to evaluate:
Say hi.

###Response to evaluate:
Hello!

###Reference Answer (Score 5):
Hi.

###Score Rubrics:
[Is it short?]
Score 1: No.

###Feedback: """


def test_prometheus_prompt_is_the_published_one():
    assert load_template("prometheus").render(ROW, **SCALE) == PROMETHEUS


def test_feedback_collection_prompt_asks_for_the_marker():
    prompt = load_template("feedback_collection").render(ROW, **SCALE)
    old = '"Feedback: (write a feedback for criteria) [RESULT] (an integer number between 1 and 5)"'
    new = '"(write a feedback for criteria) So the overall score is (an integer number between 1 and 5)"'
    assert prompt == PROMETHEUS.replace(old, new)
    assert "criteria) Grade: (an" in load_template("feedback_collection").render(ROW, **SCALE, marker="Grade: ")


@pytest.mark.parametrize("name", ["feedback_collection", "prometheus"])
@pytest.mark.parametrize("reference", [None, "", "  ", float("nan")])
def test_reference_is_left_out_when_there_is_none(name, reference):
    with_reference = load_template(name).render(ROW, **SCALE)
    prompt = load_template(name).render({**ROW, "reference": reference}, **SCALE)
    assert prompt == with_reference.replace("###Reference Answer (Score 5):\nHi.\n\n", "").replace(
        "a reference answer that gets a score of 5, ", ""
    )
    assert "eference" in with_reference and "eference" not in prompt


@pytest.mark.parametrize("scale", ["0-9", "1-10", "0-100", ["1", "2", "3"]])
def test_whole_numbers_in_steps_of_one_are_integers(scale):
    """The published prompt with other ends."""
    scale = Scale.parse(scale)
    low, high = f"{scale.low:.0f}", f"{scale.high:.0f}"
    published = PROMETHEUS.replace("between 1 and 5", f"between {low} and {high}").replace(
        "score of 5", f"score of {high}"
    )
    published = published.replace("(Score 5)", f"(Score {high})")
    assert load_template("prometheus").render(ROW, scale=scale) == published


@pytest.mark.parametrize("name", ["feedback_collection", "prometheus"])
@pytest.mark.parametrize(
    ("scale", "shown", "best"),
    [
        (Scale.parse("1-5:0.5"), "a number between 1 and 5 in steps of 0.5", "5"),
        (Scale.parse("0.5-2.5"), "a number between 0.5 and 2.5 in steps of 1", "2.5"),
        (Scale.parse("0,50,100"), "a number between 0 and 100 in steps of 50", "100"),
        (Scale.parse([-1, 0, 1.5]), "one of: -1, 0, 1.5", "1.5"),
        (Scale.parse("poor,fair,very good", [1, 2, 4]), "one of: poor, fair, very good", "very good"),
        (Scale.parse("A-E", [5, 4, 3, 2, 1]), "one of: A, B, C, D, E", "A"),
        (Scale.parse("1-3", [0, 0.5, 1]), "between 1 and 3", "3"),  # what the judge writes, not what it stands for
    ],
)
def test_other_scales(name, scale, shown, best):
    prompt = load_template(name).render(ROW, scale=scale)
    assert f"write a score that is {'an integer ' * shown.startswith('between')}{shown}. You should" in prompt
    assert f'({"an integer number " * shown.startswith("between")}{shown})"\n4.' in prompt
    assert f"gets a score of {best}, and" in prompt and f"###Reference Answer (Score {best}):\n" in prompt
    assert prompt.count("integer") == 2 * shown.startswith("between")


def test_feedback_collection_columns_are_recognised():
    prompt = load_template("feedback_collection").render(FEEDBACK_COLLECTION_ROW, **SCALE)
    assert "###The instruction to evaluate:\nSay hi.\n" in prompt and "the complete prompt" not in prompt
    rubric = "\n".join(["[Is it short?]", *(f"Score {number}: Length {number}." for number in range(1, 6))])
    assert f"###Score Rubrics:\n{rubric}\n\n###Feedback: " in prompt


def test_rubric_from_criteria_with_brackets_and_some_descriptions():
    row = {**ROW, "criteria": "[Is it kind?]", "score5_description": "Very.", "score2_description": None}
    template = PromptTemplate("{{ rubric }}")
    assert template.render(row, **SCALE) == "[Is it kind?]\nScore 5: Very."
    assert template.render(row, {"rubric": "rubric"}, **SCALE) == ROW["rubric"]  # an explicit column wins


def test_rubric_names_the_label_that_a_description_belongs_to():
    row = {"criteria": "Is it kind?", **{f"score{number}_description": f"d{number}" for number in range(1, 6)}}
    template = PromptTemplate("{{ rubric }}")

    def lines(*args):
        return template.render(row, scale=Scale.parse(*args)).split("\n")[1:]

    assert lines("poor,fair,good", [1, 2.5, 4]) == ["Score poor: d1", "Score good: d4"]
    assert lines("A-C", [3, 2, 1]) == ["Score C: d1", "Score B: d2", "Score A: d3"]
    assert (
        lines("1-3:0.5")
        == lines("3,2,1")
        == lines("1-3", [0, 0.5, 1])
        == ["Score 1: d1", "Score 2: d2", "Score 3: d3"]
    )


def test_columns_mapping():
    row = {"q": "Say hi.", "a": "Hello!", "r": "Be short.", "response": "not this one"}
    columns = {"instruction": "q", "response": "a", "rubric": "r"}
    prompt = load_template("prometheus").render(row, columns, **SCALE)
    assert "evaluate:\nSay hi.\n" in prompt and "evaluate:\nHello!\n" in prompt and "Rubrics:\nBe short.\n" in prompt
    assert "not this one" not in prompt


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"answer": "a"}, "no column variable 'answer'"),
        ({"marker": "a"}, "no column variable 'marker'"),
        ({"labels": "a"}, "no column variable 'labels'"),
        ({"response": "b"}, r"'response' is mapped to column 'b', which does not exist. Existing columns: \['a'\]"),
        ({"score1_description": "c"}, "'score1_description' is mapped to column 'c'"),
    ],
)
def test_check_columns_refuses(columns, message):
    with pytest.raises(ValueError, match=message):
        load_template("prometheus").check_columns(columns, ["a"])


def test_check_columns_accepts_parts_of_the_rubric():
    columns = {"criteria": "a", "score1_description": "a", "response": "a"}
    load_template("prometheus").check_columns(columns, ["a"])
    with pytest.raises(ValueError, match="no column variable 'criteria'"):
        PromptTemplate("{{ response }}").check_columns({"criteria": "a"}, ["a"])


def test_undefined_variable_names_variable_template_and_columns(tmp_path):
    path = tmp_path / "mine.jinja"
    path.write_text("{{ question }} and {{ rubrik }}")
    with pytest.raises(ValueError) as error:
        load_template(path).render({"question": "Why?", "other": 1}, **SCALE)
    for part in ("'rubrik'", str(path), "['question', 'other']", "no column gives it"):
        assert part in str(error.value)


@pytest.mark.parametrize("empty", [None, float("nan")])
def test_empty_value_is_not_rendered_as_none(empty):
    with pytest.raises(ValueError, match="'response' is undefined .column 'orig_response' is empty."):
        load_template("prometheus").render({**FEEDBACK_COLLECTION_ROW, "orig_response": empty}, **SCALE)


def test_users_template(tmp_path):
    path = tmp_path / "mine.jinja"
    path.write_text("{% for turn in turns %}\n{{ turn }};\n{% endfor %}\n{{ low }}-{{ high }} {{ marker }}<b>\n")
    prompt = load_template(str(path)).render({"turns": ["a", "<b>"]}, scale=Scale.parse([1, 2.5]), marker="Score: ")
    assert prompt == "a;\n<b>;\n1-2.5 Score: <b>"


def test_labels_in_a_users_template():
    words = {"scale": Scale.parse("poor,fair,good", [1, 2, 3])}
    template = PromptTemplate(
        "{{ labels }}; {{ low }} to {{ high }};{% for label in labels %} <{{ label }}>{% endfor %}"
    )
    assert template.render({"labels": "no column"}, **words) == "poor, fair, good; poor to good; <poor> <fair> <good>"
    assert PromptTemplate("{{ labels }} {{ labels | length }}").render({}, **SCALE) == "1, 2, 3, 4, 5 5"
    assert PromptTemplate("{{ high + 1 }} {{ score_step }}").render({}, **SCALE) == "6 1"
    with pytest.raises(ValueError, match="'score_step' is undefined"):
        PromptTemplate("{{ score_step }}").render({}, **words)


def test_built_in_variables_must_be_text():
    with pytest.raises(ValueError, match="rubric: the column 'rubric' holds .* .a dict.. Turn it into text"):
        load_template("prometheus").render({**ROW, "rubric": {"criteria": "short"}}, **SCALE)


@pytest.mark.parametrize("name", ["promtheus", "missing.jinja", "../templates/prometheus", ""])
def test_unknown_template(name):
    with pytest.raises(
        ValueError,
        match=r"neither one of \['direct', 'direct_criteria', 'feedback_collection', .*, 'prometheus', .*\] nor an existing",
    ):
        load_template(name)


def test_not_a_jinja_file(tmp_path):
    (tmp_path / "prompt.txt").write_text("{{ response }}")
    with pytest.raises(ValueError, match="nor an existing .jinja file"):
        load_template(tmp_path / "prompt.txt")


def test_syntax_error_names_the_line(tmp_path):
    (tmp_path / "bad.jinja").write_text("fine\n{% if response %}")
    with pytest.raises(ValueError, match=r"bad.jinja', line 2"):
        load_template(tmp_path / "bad.jinja")


@pytest.mark.parametrize(
    "source", ["{{ response.__class__.__mro__ }}", "{{ items.append(1) }}", "{% include 'x' %}", "{{ 1 // 0 }}"]
)
def test_templates_are_sandboxed_and_failures_name_the_template(source):
    row = {"response": "a", "items": [0]}
    with pytest.raises(ValueError, match="prompt_template='x.jinja'"):
        PromptTemplate(source, "x.jinja").render(row, **SCALE)
    assert row["items"] == [0]


def test_score_reminder_ends_the_prompt():
    prompt = add_score_reminder("Judge this.\n###Feedback: ", "Grade: ")
    assert prompt.startswith("Judge this.\n###Feedback: Please") and prompt.endswith('"Grade: (score)".')


@pytest.mark.parametrize(
    ("changed", "field", "value"),
    [
        ({"rubric": 3}, "rubric", 3),
        ({"instruction": " "}, "instruction", " "),
        ({"response": None}, "response", None),
        ({"orig_criteria": ""}, "criteria", ""),
    ],
)
def test_an_error_has_the_field_and_its_value_whoever_asks(changed, field, value):
    """A recipe speaks of columns, a judge of its caller's rows."""
    row = {"instruction": "Say hi.", "response": "Hello!", "rubric": "short", **changed}
    template = load_template("prometheus")
    for words in ({}, {"strict": True}, {"where": "row 7"}):
        with pytest.raises(FieldError) as error:
            template.render(row, **SCALE, **words)
        assert (error.value.field, error.value.value) == (field, value)
        assert ("row 7" in str(error.value)) == ("where" in words)


def test_a_template_of_the_users_own_may_take_lists_unless_a_judge_reads_them():
    template = PromptTemplate("{{ response[0] }}", "mine.jinja")
    assert template.render({"response": ["a", "b"]}, **SCALE) == "a"
    with pytest.raises(FieldError, match="response: the column 'response' holds .* .a list.. Turn it into text"):
        template.render({"response": ["a", "b"]}, **SCALE, strict=True)


@pytest.mark.parametrize("name", ["feedback_collection", "prometheus", "direct"])
@pytest.mark.parametrize(
    ("labels", "values", "best"),
    [("6-1", None, 1), ("6,5,4,3,2,1", None, 1), ("1-6", [6, 5, 4, 3, 2, 1], 1), ("1-6", None, 6)],
)
def test_the_reference_has_the_best_score(name, labels, values, best):
    row = {"instruction": "I", "response": "R", "reference": "T", "rubric": "C"}
    prompt = load_template(name).render(row, scale=Scale.parse(labels, values))
    assert f"a reference answer that gets a score of {best}, and" in prompt
    assert f"###Reference Answer (Score {best}):" in prompt
    assert "an integer between 1 and 6" in prompt
    assert ("an integer between 1 and 6, of which 1 is the best and 6 the worst" in prompt) == (best == 1)
