# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Which rationales are kept: the nearest of each row within the bound, and what is said of the others."""

from dataclasses import replace

import pytest
from datasets import Dataset

from real_trl.engines import Decoding, Judgment, TransformersEngine
from real_trl.engines.base import PromptError
from real_trl.report.rationale_yield import rationale_yield, yield_lines
from real_trl.runs.rationales import Rationales
from real_trl.scale import Scale
from real_trl.score_space import ScoreSpace
from tests.tiny import TOKENIZER, prompt_dataset, warm_model

SPACE = ScoreSpace.from_labels("1-5", TOKENIZER)
MARKER = "So the overall score is"
DATA = Dataset.from_dict({"prompt": list("abcd"), "score": [4.0, 1.0, 2.5, 4.0]})


def completion(row, sample, rationale, expected, status="ok", mass=0.5):
    end = "" if status in ("missing", "cut") else f" {MARKER} 4"
    scores = {"sampled_score": 4.0, "expected_score": expected, "mass": None if expected is None else mass}
    return {
        "row": row,
        "sample": sample,
        "status": status,
        "completion": f"{rationale}{end}",
        "rationale": rationale,
        **scores,
    }


GENERATED = [
    completion(0, 0, "right.", 3.0),  # 1.0 away
    completion(0, 1, "close.", 3.75),  # 0.25
    completion(0, 2, "wrong.", 4.25, mass=0.25),  # 0.25, but later
    completion(1, 0, "right.", 2.25),  # 1.25
    completion(1, 1, "right.", 4.5, mass=0.75),  # 3.5
    completion(2, 0, "right, close", 2.5, status="missing"),  # 0
    completion(2, 1, "", None),
    completion(2, 2, "4", None),
    completion(2, 3, "right and", None, status="cut"),
    completion(3, 0, "right.", None),
    completion(3, 1, "Right, since the score is 4.", 4.0),
]


def made(malformed="keep", **options):
    return Rationales(DATA, SPACE, malformed, **options).make_rows(reversed(GENERATED))


def test_the_nearest_of_each_row_is_kept_within_the_bound():
    rows, dropped, counts = made(max_distance=1.0)
    assert [
        (row["prompt"], row["score"], row["feedback"], row["expected_score"], row["distance"]) for row in rows
    ] == [
        ("a", 4.0, "close.", 3.75, 0.25),
        ("c", 2.5, "right, close", 2.5, 0.0),
        ("d", 4.0, "Right, since the score is 4.", 4.0, 0.0),
    ]
    assert [(each["row"], each["sample"], each["reason"]) for each in dropped] == [
        (0, 0, "not the nearest"),
        (0, 2, "not the nearest"),
        (1, 0, "too far"),
        (1, 1, "too far"),
        (2, 1, "empty"),
        (2, 2, "empty"),
        (2, 3, "too long"),
        (3, 0, "not read"),
    ]
    assert counts["dropped"] == {"not the nearest": 2, "too far": 2, "empty": 2, "too long": 1, "not read": 1}
    assert (counts["prompts"], counts["completions"], counts["rows"]) == (4, 11, 3)
    assert counts["malformed"] == {"missing": 1, "cut": 1}
    selection = counts["selection"]
    assert (selection["kept"], selection["too_far"], selection["unusable"]) == (3, 1, 0)
    assert selection["max_distance"] == 1.0 and selection["mean_mass"] == 0.5  # (5 x 0.5 + 0.25 + 0.75) / 7
    # 0, 0, 0.25, 0.25, 1, 1.25, 3.5; of the rows 0, 0, 0.25, 1.25
    assert selection["distance"]["all"]["mean"] == pytest.approx(6.25 / 7)
    assert selection["distance"]["all"]["50"] == 0.25 and selection["distance"]["all"]["number"] == 7
    assert selection["distance"]["nearest"]["mean"] == 0.375 and selection["distance"]["nearest"]["50"] == 0.125
    assert selection["distance"]["kept"]["number"] == 3
    assert selection["by_score"] == [
        {"score": "1", "rows": 1, "kept": 0, "too_far": 1, "unusable": 0, "nearest": 1.25},
        {"score": "2", "rows": 1, "kept": 1, "too_far": 0, "unusable": 0, "nearest": 0.0},
        {"score": "4", "rows": 2, "kept": 2, "too_far": 0, "unusable": 0, "nearest": 0.125},
    ]


def test_a_bound_counts_with_the_bound_itself():
    rows, dropped, _ = made(max_distance=0.25)
    assert [row["prompt"] for row in rows] == ["a", "c", "d"]
    assert dropped[0]["reason"] == "too far"  # not the nearest either
    assert [row["prompt"] for row in made(max_distance=0.24)[0]] == ["c", "d"]
    assert [row["prompt"] for row in made(max_distance=1.25)[0]] == ["a", "b", "c", "d"]


def test_what_is_not_marked_is_dropped_or_kept():
    rows, dropped, counts = made("drop", max_distance=1.0)
    assert [row["prompt"] for row in rows] == ["a", "d"]
    assert counts["dropped"]["unmarked"] == 1 and counts["selection"]["unusable"] == 1


def test_rationales_that_let_on_are_dropped_where_the_score_was_shown():
    rows, dropped, counts = made(max_distance=1.0, show_score=True)
    assert [row["prompt"] for row in rows] == ["a", "c"]
    assert counts["dropped"]["lets on"] == 1 and dropped[-1]["reason"] == "lets on"


def test_without_a_bound_all_are_kept():
    rows, dropped, counts = made()
    assert len(rows) == 9 and [each["reason"] for each in dropped] == ["empty", "too long"]
    assert "selection" not in counts and "distance" not in rows[0]


# --- the report ----------------------------------------------------------------------------------------------------------


def test_a_score_that_is_seldom_kept_is_pointed_out():
    scores = [1.0] * 5 + [4.0] * 15
    distances = {row: [0.5 if row > 4 else 2.0, 3.0] for row in range(20) if row != 7}
    selection = rationale_yield(scores, distances, 1.0, Scale.parse("1-5"))
    lines = list(yield_lines(selection))
    assert lines[0] == "kept 14 of 20 rows (70%); of 5 every rationale is too far, 1 have no usable one"
    assert [line.split() for line in lines[1:8]] == [
        ["|expected", "-", "true", "score|", "number", "mean", "10%", "25%", "50%", "75%", "90%"],
        ["all", "rationales", "38", "1.947", "0.500", "0.500", "2.500", "3.000", "3.000"],
        ["nearest", "of", "each", "row", "19", "0.895", "0.500", "0.500", "0.500", "1.250", "2.000"],
        ["kept", "14", "0.500", "0.500", "0.500", "0.500", "0.500", "0.500"],
        ["true", "score", "rows", "kept", "too", "far", "unusable", "nearest"],
        ["1", "5", "0", "0%", "5", "0", "2.000"],
        ["4", "15", "14", "93%", "0", "1", "0.500"],
    ]
    assert lines[8].startswith("warning: of rows with the true scores 1 (0 of 5) less than half as many are kept")
    assert len(list(yield_lines(rationale_yield(scores, distances, 2.0, Scale.parse("1-5"))))) == 8


def test_a_long_scale_is_counted_in_parts_and_nothing_kept_is_said():
    selection = rationale_yield([0.0, 9.9, 10.0, 100.0], {0: [40.0]}, 5.0, Scale.parse("0-100"))
    assert [(each["score"], each["rows"], each["nearest"]) for each in selection["by_score"]] == [
        ("0 to 10", 2, 40.0),
        ("10 to 20", 1, None),
        ("90 to 100", 1, None),
    ]
    lines = list(yield_lines(selection))
    assert lines[0].startswith("kept 0 of 4 rows (0%); of 1 every") and lines[4].split() == ["kept", "0"]


# --- reading the score ---------------------------------------------------------------------------------------------------


class Counting(TransformersEngine):
    """Counts what is read a second time."""

    read_again = 0

    def read(self, prompts, rationales=None):
        self.read_again += len(prompts)
        return super().read(prompts, rationales)


@pytest.fixture(scope="module")
def engine():
    return Counting(warm_model(), TOKENIZER, SPACE, Decoding(max_new_tokens=24))


def read(engine, show_score, rewrite=lambda judgment: judgment):
    data, engine.read_again = prompt_dataset([4.0, 2.0, 1.0]), 0
    rationales = Rationales(data, SPACE, "keep", max_distance=4.0, show_score=show_score)
    units = [(row, sample) for row in range(3) for sample in range(2)]
    judgments = engine.judge([rationales.asked()[row] for row, _ in units], seed=1)
    return dict(rationales.read(engine, units, ((index, rewrite(judgment)) for index, judgment in judgments)))


def test_a_distribution_that_came_with_the_generation_is_not_read_again(engine):
    found = read(engine, show_score=False)
    own = dict(engine.judge([prompt for prompt in prompt_dataset([0.0] * 3)["prompt"] for _ in range(2)], seed=1))
    assert engine.read_again == 0 and found == own and {each.status for each in own.values()} == {"ok"}


def test_what_is_not_just_that_is_read_and_gives_the_same(engine):
    """The text that the tiny judge writes is what its tokens say, so that reading it again changes nothing but rounding."""
    own = read(engine, show_score=False)
    again = read(engine, False, lambda judgment: replace(judgment, status="outside"))
    assert engine.read_again == 6
    for index, judgment in again.items():
        assert judgment.probabilities == pytest.approx(own[index].probabilities, abs=1e-6)
        assert judgment.expected_score == pytest.approx(own[index].expected_score, abs=1e-5)
        assert (judgment.status, judgment.sampled_score) == ("outside", own[index].sampled_score)


def test_other_blanks_than_in_training_are_read_again(engine):
    read(engine, False, lambda judgment: replace(judgment, completion=judgment.completion.replace(" So", "\n\nSo")))
    assert engine.read_again == 6
    read(engine, False, lambda judgment: replace(judgment, status="missing", completion=judgment.rationale))
    assert engine.read_again == 0
    read(engine, False, lambda judgment: replace(judgment, status="missing", completion=f"\n{judgment.rationale}"))
    assert engine.read_again == 6


def test_what_was_written_with_the_score_in_sight_is_always_read(engine):
    own = read(engine, show_score=False)
    rationale = {index: judgment.rationale for index, judgment in own.items()}
    shown = read(engine, True, lambda judgment: replace(judgment, status="ok", rationale="7+4 is 12, right."))
    assert engine.read_again == 6
    same = [index for index, text in rationale.items() if text == "7+4 is 12, right."]
    for index in same:  # the distribution does not depend on what was shown
        assert shown[index].probabilities == pytest.approx(own[index].probabilities, abs=1e-6)


def test_a_completion_that_the_length_limit_cut_is_not_read(engine):
    cut = read(engine, False, lambda judgment: replace(judgment, status="missing", num_tokens=24))
    assert engine.read_again == 0
    assert all(each.status == "cut" and each.expected_score is None for each in cut.values())


def test_what_cannot_be_read_is_asked_again_or_dropped(engine, monkeypatch):
    """An engine without an answer says nothing of the rationale; one that finds a text too long says it of that text."""
    read_all = TransformersEngine.read

    def refusing(self, prompts, rationales=None):
        found = list(read_all(self, prompts, rationales))
        yield from ((index, Judgment.unscored("busy") if index == 1 else judgment) for index, judgment in found)

    def too_long(self, prompts, rationales=None):
        if len(prompts) == 6:
            raise PromptError(2, " is too long")
        yield from read_all(self, prompts, rationales)

    def outside(judgment):
        return replace(judgment, status="outside")

    # The engine judges long prompts first: units 4, 5, 2, 3, 0, 1
    for behaviour, index, status, error in ((refusing, 5, "unscored", "busy"), (too_long, 2, "outside", None)):
        monkeypatch.setattr(Counting, "read", behaviour)
        found = read(engine, False, outside)
        assert sorted(found) == list(range(6))
        assert (found[index].status, found[index].error, found[index].expected_score) == (status, error, None)
        assert all(judgment.expected_score is not None for place, judgment in found.items() if place != index)
