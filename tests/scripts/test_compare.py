# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`real-trl compare` from a file to its reports."""

import csv
import json

import numpy as np
import pandas as pd
import pytest

from real_trl.runs.folder import PROVENANCE_NAME
from real_trl.scripts.compare import main

QUALITY, BIAS = {"careful": 4.0, "plain": 3.0, "twin": 3.0}, {"careful": -1.2, "plain": 0.4, "twin": 0.0}


def scored_rows(questions=120, labels=150, seed=0, labels_of=None):
    """What `score` writes, of three systems; people scored some rows. The judge favours the worse ones."""
    random, rows = np.random.default_rng(seed), []
    for question in range(questions):
        level = random.normal(0, 0.3)
        for system, quality in QUALITY.items():
            true = quality + level + random.normal(0, 0.4)
            p = np.exp(
                -((np.arange(1, 6) - true - BIAS[system] - random.normal(0, 0.3)) ** 2) / random.uniform(0.2, 2)
            )
            p /= p.sum()
            mean = float(p @ np.arange(1, 6))
            row = {
                "question": f"q{question}",
                "model": system,
                "response": f"=answer {question}",
                "rating": round(true, 1),
            }
            row |= {"expected_score": mean, "sampled_score": 3.0, "most_likely_score": 3.0}
            row |= {"probabilities": {str(k): float(share) for k, share in enumerate(p, 1)}}
            row |= {"spread": float(np.sqrt(p @ (np.arange(1, 6) - mean) ** 2)), "mass": 1.0, "missing_mass": 0.0}
            rows.append(row | {"rationale": "", "status": "ok", "error": None})
    chosen = set(random.choice(len(rows), labels, replace=False)) if labels_of is None else labels_of(rows)
    return [row | {"rating": row["rating"] if index in chosen else None} for index, row in enumerate(rows)], rows


def write(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        frame = pd.DataFrame(rows)
        frame["probabilities"] = frame["probabilities"].map(json.dumps)
        frame.to_csv(path, index=False)
    return path


def compare(path, *options):
    main([str(path), "--system", "model", "--group", "question", *options])
    return json.loads((path.with_suffix(".compared") / "comparison.json").read_text())


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_the_better_system_is_found_against_the_judge(tmp_path, capsys, suffix):
    rows, _ = scored_rows()
    found = compare(write(tmp_path / f"scored{suffix}", rows), "--human", "rating", "--detect", "0.2")
    assert [each["name"] for each in found["systems"]][0] == "careful" and found["by"] == "combined"
    assert found["alike"] == [["careful"], sorted(("plain", "twin"), key=[s["name"] for s in found["systems"]].index)]
    assert found["systems"][0]["places"] == [1, 1] and found["systems"][1]["places"] == [2, 3]
    for each in found["systems"]:
        low, high = each["combined"]["interval"]
        assert low < QUALITY[each["name"]] < high and each["effective_labels"] > each["n_labels"]
        assert each["judge"]["mean"] - each["combined"]["mean"] == pytest.approx(each["bias"]["mean"])
    pair = found["differences"][0]
    assert (pair["a"], pair["b"], pair["better"]) == ("careful", "plain", "careful")
    assert pair["judge"]["interval"][1] < 0 < pair["combined"]["interval"][0]  # the judge is sure of the contrary
    assert pair["win_rate"]["judge"]["mean"] < 0.5 < pair["win_rate"]["corrected"]["mean"]
    assert pair["labels_needed"] > 20 and pair["detectable"] > 0
    assert found["warnings"] == [] and "random sample" in " ".join(found["notes"])
    out = capsys.readouterr().out
    assert "Decision: careful is better than" in out and "Cannot be told apart:" in out
    page = (tmp_path / "scored.compared" / "report.html").read_text()
    assert "Judge and people" in page and "data:image/png" in page and "<script" not in page
    assert "| careful |" in (tmp_path / "scored.compared" / "report.md").read_text()


def test_without_people_it_is_the_judge_s_word(tmp_path, capsys):
    found = compare(write(tmp_path / "scored.jsonl", scored_rows()[0]))
    assert found["by"] == "judge" and "combined" not in found["systems"][0]
    assert found["systems"][0]["name"] != "careful" and "Decision by the judge alone" in capsys.readouterr().out
    assert "A judge that favours a system is not seen" in found["warnings"][0]


def test_labels_that_are_no_random_sample_are_warned_of(tmp_path):
    def liked(rows):
        return {index for index, row in enumerate(rows) if row["expected_score"] > 3.2}

    found = compare(write(tmp_path / "scored.jsonl", scored_rows(labels_of=liked)[0]), "--human", "rating")
    assert any("no random sample" in warning and "higher" in warning for warning in found["warnings"])


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_rows_to_label_next_are_scored_and_compared(tmp_path, suffix):
    rows, complete = scored_rows(labels=60)
    path = write(tmp_path / f"scored{suffix}", rows)
    before = compare(path, "--human", "rating", "--label_next", "60")
    chosen = tmp_path / "scored.compared" / f"label_next{suffix}"
    if suffix == ".csv":
        with chosen.open(encoding="utf-8", newline="") as file:
            table = list(csv.DictReader(file))
        assert table[0]["response"].startswith("'=answer")  # no formula
    else:
        table = [json.loads(line) for line in chosen.open(encoding="utf-8")]
    assert len(table) == len(rows) and [int(row["label_next"]) for row in table[:60]] == list(range(1, 61))
    assert not any(row["rating"] for row in table[:60]) and not any(row["label_next"] for row in table[60:])
    assert [row["row"] for row in before["next"]] == [
        next(i for i, row in enumerate(complete) if (row["question"], row["model"]) == (t["question"], t["model"]))
        for t in table[:60]
    ]
    spreads = [float(row["spread"]) for row in table]
    assert np.mean(spreads[:60]) > np.mean(spreads[60:])  # where the judge is in doubt
    true = {(row["question"], row["model"]): row["rating"] for row in complete}
    for row in table[:60]:
        row["rating"] = true[row["question"], row["model"]]
    with chosen.open("w", encoding="utf-8", newline="") as file:
        if suffix == ".csv":
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
        else:
            file.writelines(json.dumps(row) + "\n" for row in table)
    after = compare(chosen, "--human", "rating", "--probability", "label_probability")
    assert after["n_labels"] == 120 and after["warnings"] == []
    for old, new in zip(before["differences"], after["differences"], strict=True):
        assert np.ptp(new["combined"]["interval"]) < np.ptp(old["combined"]["interval"])
        low, high = new["combined"]["interval"]
        assert low < QUALITY[new["a"]] - QUALITY[new["b"]] < high
    table[3]["rating"] = "" if suffix == ".csv" else None
    partly = write(tmp_path / f"partly{suffix}", [row | {"probabilities": None} for row in table])
    found = compare(partly, "--human", "rating", "--probability", "label_probability")
    assert "1 of 60 rows that were drawn to be scored" in found["warnings"][0]
    with pytest.raises(SystemExit):  # it may hold scores that people gave
        compare(path, "--human", "rating", "--label_next", "60")


def test_what_the_judge_did_not_score_is_left_out_and_said(tmp_path):
    rows, _ = scored_rows()
    for row in rows[:9]:
        row |= {
            "expected_score": None,
            "spread": None,
            "probabilities": None,
            "status": "unscored",
            "error": "refused",
        }
    rows[20]["status"] = "no_score"
    found = compare(write(tmp_path / "scored.jsonl", rows), "--human", "rating")
    labelled = sum(row["rating"] is not None for row in rows[:9])
    assert found["n_rows"] == len(rows) - 9
    assert (
        f"9 of {len(rows)} rows have no score of the judge and count in nothing, {labelled} with" in found["notes"][0]
    )
    assert "1 answers of the judge were malformed" in found["notes"][1]


def test_several_raters_count_with_their_mean_and_a_falling_scale_is_turned(tmp_path):
    rows, _ = scored_rows()
    for row in rows:
        row["first"], row["second"] = row.pop("rating"), None
        if row["first"] is not None:
            row["first"], row["second"] = 6 - row["first"] - 0.2, 6 - row["first"] + 0.2
        row["expected_score"] = 6 - row["expected_score"]
        row["probabilities"] = {str(6 - int(label)): p for label, p in row["probabilities"].items()}
    found = compare(write(tmp_path / "scored.jsonl", rows), "--human", "first,second")
    assert found["lower_is_better"] and found["systems"][0]["name"] == "careful"
    assert found["systems"][0]["combined"]["mean"] == pytest.approx(2, abs=0.2)
    pair = found["differences"][0]
    assert pair["better"] == "careful" and pair["combined"]["difference"] < 0
    assert pair["win_rate"]["corrected"]["mean"] > 0.5


def test_scores_of_people_in_another_unit_and_without_any_spread(tmp_path):
    rows, _ = scored_rows()
    for row in rows:
        if row["rating"] is not None:
            row["rating"] = 50 if row["model"] == "twin" else 20 * row["rating"]
    found = compare(write(tmp_path / "scored.jsonl", rows), "--human", "rating")
    (careful,) = (each for each in found["systems"] if each["name"] == "careful")
    low, high = careful["combined"]["interval"]
    assert low < 80 < high and found["weight"] > 5
    assert careful["bias"]["mean"] is None and careful["bias"]["interval"] == [None, None]  # of 80 and 3
    assert any(
        "the judge's from 1 to 5: what is estimated is in the unit of people" in each for each in found["warnings"]
    )
    assert any("human scores of twin are 50: how much they vary" in warning for warning in found["warnings"])


@pytest.mark.parametrize(("low", "high"), [(20, 100), (0, 1), (0, 100)])
def test_another_unit_is_seen_without_distributions(tmp_path, capsys, low, high):
    rows, _ = scored_rows()
    for row in rows:
        row["rating"] = None if row["rating"] is None else low + (high - low) * (row["rating"] - 1) / 4
        del row["probabilities"]
    found = compare(write(tmp_path / "scored.jsonl", rows), "--human", "rating")
    assert any("in the unit of people" in each for each in found["warnings"])
    assert all(each["bias"]["mean"] is None for each in found["systems"])
    assert any("in the unit of people" in line for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize("distributions", [True, False])
def test_a_judge_that_is_mild_scores_in_the_unit_of_people(tmp_path, distributions):
    rows, _ = scored_rows()
    for row in rows:
        row["expected_score"] = 4 + row["expected_score"] / 5
        row["rating"] = row["rating"] and min(5, max(1, row["rating"]))
        if not distributions:
            del row["probabilities"]
    found = compare(write(tmp_path / "scored.jsonl", rows), "--human", "rating")
    assert found["warnings"] == [] and all(each["bias"]["mean"] > 0 for each in found["systems"])


@pytest.mark.parametrize("distributions", [True, False])
def test_a_slip_of_a_human_score_is_named(tmp_path, distributions):
    rows, _ = scored_rows()
    place = next(index for index, row in enumerate(rows) if row["rating"] is not None)
    for row in rows:
        row["rating"] = row["rating"] and min(5, max(1, row["rating"]))
        if not distributions:
            del row["probabilities"]
    rows[place]["rating"] = 44
    found = compare(write(tmp_path / "scored.jsonl", rows), "--human", "rating")
    (warning,) = (each for each in found["warnings"] if "slips" in each)
    assert "1 of 150 human scores is far outside of" in warning and f"44 in row {place}" in warning
    assert all(each["bias"]["mean"] is not None for each in found["systems"])


def test_a_row_that_only_people_scored_needs_no_probability(tmp_path):
    """The file that --label_next writes can be compared, where the judge gave no score to a row that has a human one."""
    rows, _ = scored_rows()
    place = next(index for index, row in enumerate(rows) if row["rating"] is not None)
    rows[place] |= {"expected_score": None, "spread": None, "probabilities": None, "status": "unscored"}
    compare(write(tmp_path / "scored.jsonl", rows), "--human", "rating", "--label_next", "20")
    found = compare(
        tmp_path / "scored.compared" / "label_next.jsonl", "--human", "rating", "--probability", "label_probability"
    )
    assert found["n_labels"] == 149 and found["n_rows"] == len(rows) - 1


def test_a_sample_that_is_not_random_is_said_before_the_decision(tmp_path, capsys):
    """Labels of one system alone were chosen by the judge's score; the decision and the figures of all are in doubt."""

    def liked(rows):
        return {
            i for i, row in enumerate(rows) if (row["expected_score"] > 3.3 if row["model"] == "twin" else i % 5 == 0)
        }

    found = compare(write(tmp_path / "scored.jsonl", scored_rows(labels_of=liked)[0]), "--human", "rating")
    assert found["random_sample"] is False
    assert sum("look like no random sample" in each for each in found["warnings"]) >= 1
    assert "figures of all systems" in found["warnings"][-1]
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "Decision, if the labelled rows were a random sample, which they do not look like: careful is better" in shown
    )
    assert compare(write(tmp_path / "fair.jsonl", scored_rows()[0]), "--human", "rating")["random_sample"] is True


def test_labels_needed_are_shown_with_how_many_more(tmp_path, capsys):
    path = write(tmp_path / "scored.jsonl", scored_rows()[0])
    for detect in ("0.2", "1", "0.01"):
        found = compare(path, "--human", "rating", "--detect", detect)
        page = (tmp_path / "scored.compared" / "report.md").read_text()
        for pair in found["differences"]:
            assert pair["n_labels"] == sum(
                s["n_labels"] for s in found["systems"] if s["name"] in (pair["a"], pair["b"])
            )
            needed, more = pair["labels_needed"], (pair["labels_needed"] or 0) - pair["n_labels"]
            said = "not with these rows" if needed is None else f"{needed} ({f'+{more}' if more > 0 else 'enough'})"
            assert f"| {said} |" in page
    assert needed is None  # 0.01
    rows = scored_rows()[0]
    assert not any("is rough" in note for note in found["notes"])
    found = compare(write(tmp_path / "again.jsonl", rows + rows), "--human", "rating", "--detect", "0.2")
    assert any("how many labels 0.2 needs is rough" in note for note in found["notes"])


def test_what_labels_are_worth_is_one_figure_of_all_systems(tmp_path):
    found = compare(write(tmp_path / "scored.jsonl", scored_rows()[0]), "--human", "rating")
    ratios = [each["effective_labels"] / each["n_labels"] for each in found["systems"]]
    variances = [
        sum(np.ptp(each[way]["interval"]) ** 2 for each in found["systems"]) for way in ("humans", "combined")
    ]
    assert ratios == pytest.approx([ratios[0]] * 3)
    assert ratios[0] == pytest.approx(variances[0] / variances[1], rel=0.05)  # up to degrees of freedom
    assert "≈" in (tmp_path / "scored.compared" / "report.md").read_text()
    few = compare(write(tmp_path / "few.jsonl", scored_rows(labels=15)[0]), "--human", "rating")
    assert all(each["effective_labels"] is None for each in few["systems"])


def test_nothing_is_decided_with_human_scores_that_are_all_the_same(tmp_path, capsys):
    rows, _ = scored_rows()
    for row in rows:
        row["rating"] = None if row["rating"] is None else 4
    found = compare(write(tmp_path / "scored.jsonl", rows), "--human", "rating", "--detect", "0.2")
    assert all(pair["better"] is None and pair["labels_needed"] is None for pair in found["differences"])
    assert all(np.isnan(float(pair["detectable"] or "nan")) for pair in found["differences"])
    out = capsys.readouterr().out
    assert "no system is shown to be better" in out and "Cannot be told apart" not in out
    assert sum("nothing is decided about it" in warning for warning in found["warnings"]) == 3


def test_a_system_that_nobody_scored_is_not_known(tmp_path, capsys):
    rows, _ = scored_rows()
    for row in rows:
        row["rating"] = None if row["model"] == "twin" else row["rating"]
    found = compare(write(tmp_path / "scored.jsonl", rows), "--human", "rating", "--detect", "0.2")
    assert not any("twin" in each for each in found["alike"])
    for pair in found["differences"]:
        known = "twin" not in (pair["a"], pair["b"])
        assert (pair["detectable"] is not None, pair["labels_needed"] is not None) == (known, known)
    assert "not known" in capsys.readouterr().out


def test_few_human_scores_of_a_system_give_no_interval(tmp_path, capsys):
    """Nominal 95% would cover 55% of the means of a system with 2 labels beside others with many."""

    def labels_of(rows):
        of = {name: [index for index, row in enumerate(rows) if row["model"] == name] for name in QUALITY}
        return {*of["careful"][:30], *of["plain"][:8], *of["twin"][:3]}

    rows, _ = scored_rows(labels_of=labels_of)
    found = compare(
        write(tmp_path / "scored.jsonl", rows), "--human", "rating", "--label_next", "9", "--detect", "0.2"
    )
    systems = {each["name"]: each for each in found["systems"]}
    assert {name: each["labels_lacking"] for name, each in systems.items()} == {"careful": 0, "plain": 0, "twin": 5}
    assert found["min_labels"] == 8
    for name, each in systems.items():
        assert (None in each["combined"]["interval"], None in each["bias"]["interval"]) == (name == "twin",) * 2
        assert None not in each["humans"]["interval"] and None not in each["judge"]["interval"]
    assert systems["twin"]["effective_labels"] is None and systems["plain"]["effective_labels"] > 8
    for pair in found["differences"]:
        few = "twin" in (pair["a"], pair["b"])
        assert (None in pair["combined"]["interval"], pair["p_adjusted"] is None, pair["detectable"] is None) == (
            few,
        ) * 3
        assert not few or (pair["better"] is None and pair["labels_needed"] is None)
    assert not any("twin" in each for each in found["alike"])
    (warning,) = [each for each in found["warnings"] if "too few" in each]
    assert warning.startswith("twin has 3 human scores, 5 too few: below 8 of a system")
    assert len(found["next"]) == 9 and "twin has 3 human scores, 5 too few" in " ".join(
        capsys.readouterr().out.split()
    )
    assert "± n/a" in (tmp_path / "scored.compared" / "report.md").read_text()


@pytest.mark.parametrize(("column", "questions"), [("group", 120), ("instruction", 120), ("topic", None)])
def test_which_rows_are_about_one_question_without_group(tmp_path, capsys, column, questions):
    rows = [{column if name == "question" else name: cell for name, cell in row.items()} for row in scored_rows()[0]]
    path = write(tmp_path / "scored.jsonl", rows)
    main([str(path), "--system", "model", "--human", "rating"])
    found = json.loads((tmp_path / "scored.compared" / "comparison.json").read_text())
    out = " ".join(capsys.readouterr().out.split())
    assert found["n_questions"] == questions and ("win_rate" in found["differences"][0])
    assert (found["differences"][0]["win_rate"] is not None) == (questions is not None)
    assert (f"rows with the same {column} are taken as being about one question" in out) == (questions is not None)
    assert ("360 rows, no question column: rows are taken as independent of each other." in out) == (questions is None)
    assert ("360 questions" in out) is False and ("whole questions varying" in out) == (questions is not None)


@pytest.mark.parametrize(
    ("scores", "questions", "said"),
    [([5.0], ["q0"], "has a single score"), ([4.9, 5.0], ["q0", "q0"], "The 2 scores of lucky are of one question"),
     ([5.0] * 3, ["q0", "q1", "q2"], "The scores of lucky are 5 for every question")],
)  # fmt: skip
def test_nothing_is_decided_about_a_system_whose_scores_do_not_tell_how_much_they_vary(
    tmp_path, scores, questions, said
):
    rows = [row | {"rating": None} for row in scored_rows()[0] if row["model"] != "twin"]
    lucky = [
        {**rows[0], "model": "lucky", "question": q, "expected_score": s}
        for q, s in zip(questions, scores, strict=True)
    ]
    found = compare(write(tmp_path / "scored.jsonl", rows + lucky))
    for pair in found["differences"]:
        assert (pair["better"] is None) == ("lucky" in (pair["a"], pair["b"]))
        assert (pair["judge"]["p_value"] is None) == (None in pair["judge"]["interval"]) == (pair["better"] is None)
    assert not any("lucky" in each for each in found["alike"])
    assert sum(said in each and "nothing is decided about it" in each for each in found["warnings"]) == 1


def of_scale(rows, labels, values, change=dict):
    """The rows as a judge on another scale of five gives them, with the best label at 5; `change` makes what is written of the distributions."""
    for row in rows:
        p = np.array(list(row["probabilities"].values()))
        by_value = dict(
            zip(sorted(values, reverse=values[0] > values[-1] and labels[0] == str(values[0])), p, strict=True)
        )
        given = {label: float(by_value[value]) for label, value in zip(labels, values, strict=True)}
        row["expected_score"] = float(sum(by_value[value] * value for value in values))
        row["probabilities"] = change(given)
        row["rating"] = None
    return rows


def with_a_gap(given):
    return given | {min(given, key=given.get): None}


def with_sorted_keys(given):
    return dict(sorted(given.items()))


@pytest.mark.parametrize(
    ("change", "options", "told"),
    [(dict, [], True), (with_a_gap, [], True), (with_sorted_keys, [], False), (lambda given: None, [], False)]
    + [(each, ["--score_labels", "5-1"], True) for each in (with_a_gap, with_sorted_keys, lambda given: None)],
)
def test_which_way_a_scale_goes_whatever_the_distributions_tell(tmp_path, change, options, told):
    rows = of_scale(scored_rows()[0], list("54321"), [5, 4, 3, 2, 1], change)
    found = compare(write(tmp_path / "scored.jsonl", rows), *options)
    assert found["lower_is_better"] == told
    assert [each["name"] for each in found["systems"]] == (["plain", "twin", "careful"], ["careful", "twin", "plain"])[
        not told
    ]
    assert any("Higher scores are taken as better" in note for note in found["notes"]) != told
    if change is with_sorted_keys and options:
        assert found["differences"][0]["win_rate"]["judge"]["mean"] < 0.5  # careful, which the judge likes less


def test_the_scale_that_score_wrote_beside_its_file_is_read(tmp_path):
    rows = of_scale(scored_rows()[0], list("54321"), [5, 4, 3, 2, 1], with_sorted_keys)
    path = write(tmp_path / "scored.jsonl", rows)
    judge = {"score_labels": list("54321"), "score_values": [5, 4, 3, 2, 1]}
    (tmp_path / "scored.jsonl.provenance").mkdir()
    (tmp_path / "scored.jsonl.provenance" / PROVENANCE_NAME).write_text(json.dumps({"made_with": {"judge": judge}}))
    assert compare(path)["lower_is_better"]


@pytest.mark.parametrize("options", [[], ["--score_labels", "A-E", "--score_values", "4,3,2,1,0"]])
@pytest.mark.parametrize("change", [dict, lambda given: dict(reversed(given.items()))])
def test_win_rates_of_labels_from_the_best_to_the_worst(tmp_path, change, options):
    rows = of_scale(scored_rows()[0], list("ABCDE"), [4, 3, 2, 1, 0], change)
    found = compare(write(tmp_path / "scored.jsonl", rows), *options)
    assert not found["lower_is_better"]
    for pair in found["differences"]:
        assert (pair["win_rate"]["judge"]["mean"] > 0.5) == (pair["judge"]["difference"] > 0)


def test_no_win_rates_where_it_cannot_be_told_which_label_is_better(tmp_path):
    rows = of_scale(scored_rows()[0], list("ABCDE"), [4, 3, 2, 1, 0])
    for row in rows:
        row["expected_score"] = row["expected_score"] ** 2  # no mean of values
    found = compare(write(tmp_path / "scored.jsonl", rows))
    assert all(pair["win_rate"] is None for pair in found["differences"])
    assert any("A, B, C, D, E is better cannot be told" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--system", "nobody"], "--system='nobody' is not a column"),
        (["--system", "response"], "at most 50 systems"),
        (["--system", "model", "--human", "response"], "--human: no number: '=answer 0' in row 0"),
        (["--system", "model", "--human", "expected_score"], "the judge's own scores"),
        (["--system", "model", "--human", "spread"], "--human: 'spread' holds the judge's own scores"),
        (["--system", "model", "--human", "rating,mass"], "--human: 'mass' holds the judge's own scores"),
        (["--system", "model", "--prefix", "helpfulness_"], "no column 'helpfulness_expected_score'"),
        (
            ["--system", "model", "--human", "rating", "--detect", "-1"],
            "--detect: got -1.0. Give a difference above 0",
        ),
        (["--system", "model", "--human", "rating", "--power", "80"], "--power: got 80.0. Give a share"),
        (["--system", "model", "--label_next", "10000"], "There are 360 scored rows without a human score"),
        (
            ["--system", "model", "--probability", "spread"],
            "--probability: got 'spread'. Name the human scores as well",
        ),
        (["--system", "model", "--detect", "0.2"], "--detect: got 0.2. Name the human scores as well"),
        (["--system", "model", "--human", "rating", "--probability", "expected_score"], "above 0 and at most 1"),
        (["--system", "model", "--output_dir", "scored.jsonl"], "is a file"),
        (["--system", "model", "--score_labels", "1-6"], "has probabilities of '1', '2'"),
        (["--system", "model", "--score_values", "1,2"], "Name the labels as well: --score_labels."),
    ],
)
def test_what_cannot_be_meant_is_said(tmp_path, monkeypatch, capsys, options, says):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "scored.jsonl", scored_rows()[0])
    with pytest.raises(SystemExit) as ended:
        main(["scored.jsonl", *options])
    assert ended.value.code == 2 and says in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["scored.jsonl"]


def test_names_from_strangers_do_no_harm(tmp_path, capsys):
    rows, _ = scored_rows()
    for row in rows:
        row["model"] = {"careful": "<script>alert(1)</script>", "plain": "a\x1b[31m|b"}.get(row["model"], row["model"])
    compare(write(tmp_path / "scored.jsonl", rows), "--human", "rating", "--label_next", "5")
    assert "<script>" not in (tmp_path / "scored.compared" / "report.html").read_text()
    assert "\x1b[31m" not in capsys.readouterr().out
    assert "\x1b" not in (tmp_path / "scored.compared" / "report.md").read_text()
