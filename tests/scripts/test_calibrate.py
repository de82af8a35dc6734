# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From a judge and human scores to calibrated scores with intervals, wherever the judge is used."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from real_trl import Judge, JudgeConfig
from real_trl.arguments.judging import JudgingArguments
from real_trl.data.files import CALIBRATED_SCORES, SCORES, read_file
from real_trl.engines import Judgment
from real_trl.evaluation.conformal import Intervals
from real_trl.evaluation.judge_calibration import Calibration
from real_trl.evaluation.recalibration import Recalibration
from real_trl.integrations import JudgeReward
from real_trl.prompts.template import PromptTemplate, load_template
from real_trl.publishing.card import build_card
from real_trl.report.calibration_text import calibration_text
from real_trl.scripts import calibrate, evaluate, push, score
from real_trl.scripts._score_prompts import groups_of
from tests.helpers.served_judges import SPACE
from tests.serving.test_serve import service
from tests.tiny import LINES, PROMPT, TOKENIZER, warm_model

TEMPLATE = "{{ instruction }}\n{{ response }}\n{{ marker }}"
ROWS = [
    {"instruction": f"{PROMPT} {i // 3}", "response": LINES[i % 3], "score": float(2 + i * 7 % 3), "sheet": i // 3, "kind": "ab"[i % 2]}
    for i in range(60)
]  # fmt: skip
DATA = ("--group_column", "sheet", "--keep_columns", "kind")
READING = ("--coverage", "0.5", "--interval_group", "kind")  # half inside: margins from 10 rows on


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A direct judge, its data, and what it was before it was calibrated."""
    folder = tmp_path_factory.mktemp("calibrated")
    (folder / "homework.jinja").write_text(TEMPLATE)
    warm_model().save_pretrained(folder / "judge")
    TOKENIZER.save_pretrained(folder / "judge")
    config = JudgeConfig.from_space(SPACE, rationale=False)
    config.use_template(PromptTemplate(TEMPLATE, str(folder / "homework.jinja")))
    config.save(folder / "judge")
    shutil.copytree(folder / "judge", folder / "raw")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        calibrate.main(["judge", "rows.jsonl", *DATA, *READING])
    return folder


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


@pytest.fixture
def nothing_is_judged(monkeypatch):
    def loaded(*args, **kwargs):
        raise AssertionError("the judge was loaded")

    monkeypatch.setattr(JudgingArguments, "load", loaded)


def stored(judge: str = "judge") -> dict:
    return json.loads(Path(judge, "judge_config.json").read_text())["calibration"]


def said(judge: str = "judge", rows=ROWS) -> list[Judgment]:
    return Judge.from_pretrained(judge).score(rows)


def refused(capsys, *argv) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as status:
        calibrate.main([*argv])
    assert status.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def test_what_is_saved(folder):
    saved, shown = stored(), stored()["shown"]
    assert (shown["rows"], shown["questions"]) == (60, 20)
    assert (
        [group for group, _ in saved["intervals"]["margins"]]
        == [each["group"] for each in shown["groups"]]
        == ["a", "b"]
    )
    about = saved["made_with"]
    assert (about["data"], about["num_samples"], about["temperature"]) == ("rows.jsonl", 1, 1.0)
    own, before = (
        json.loads(Path("judge/judge_config.json").read_text()),
        json.loads(Path("raw/judge_config.json").read_text()),
    )
    assert own | {"calibration": None} == before


def test_judgments_say_what_they_are(folder):
    calibration = JudgeConfig.load("judge").read_calibration()
    for new, old, row in zip(said(), said("raw"), ROWS, strict=True):
        assert new.calibrated and not old.calibrated and old.interval is None
        assert new.raw == old
        mean = sum(p * v for p, v in zip(new.probabilities.values(), SPACE.values, strict=True))
        assert sum(new.probabilities.values()) == pytest.approx(1) and new.expected_score == pytest.approx(mean)
        if calibration.intervals.kind == "absolute":
            margin = calibration.intervals.margins[row["kind"]]
            assert new.interval == pytest.approx([max(1, mean - margin), min(5, mean + margin)])
        assert 1 <= new.interval[0] <= new.interval[1] <= 5
        assert (new.sampled_score, new.mass, new.completion) == (old.sampled_score, old.mass, old.completion)


def test_without_the_calibration_they_are_the_judges_own(folder):
    judge = Judge.from_pretrained("judge")
    judge.calibration = None
    assert judge.score(ROWS) == said("raw")


def test_a_judgment_without_a_distribution_stays_as_it_is(folder):
    judge = Judge.from_pretrained("judge")
    (known,) = said("raw", ROWS[:1])
    partial = Judgment(**{**vars(known), "probabilities": {**known.probabilities, "1": float("nan")}})
    assert judge.calibrated(partial) is partial
    unscored = Judgment.unscored("busy")
    assert judge.calibrated(unscored) is unscored


@pytest.mark.parametrize("extension", ["jsonl", "csv", "parquet"])
def test_score_writes_them(folder, extension, capsys):
    score.main(["rows.jsonl", "--judge", "judge", "--output", f"scored.{extension}"])
    read = {"jsonl": lambda path: pd.read_json(path, lines=True), "csv": pd.read_csv, "parquet": pd.read_parquet}
    frame = read[extension](f"scored.{extension}")
    assert list(frame) == [*ROWS[0], *SCORES, *CALIBRATED_SCORES] and frame["calibrated"].all()
    judged = said()
    for name, of in {
        "expected_score": lambda each: each.expected_score,
        "interval_low": lambda each: each.interval[0],
        "interval_high": lambda each: each.interval[1],
        "raw_expected_score": lambda each: each.raw.expected_score,
    }.items():
        assert frame[name].tolist() == pytest.approx([of(each) for each in judged], abs=1e-5), name
    cell = frame["raw_probabilities"][0]
    cell = json.loads(cell) if extension == "csv" else cell
    assert list(cell.values()) == pytest.approx(list(judged[0].raw.probabilities.values()), abs=1e-5)
    assert "50% intervals are" in capsys.readouterr().out.replace("\n", " ")


def test_what_was_scored_before_is_not_mixed_with_it(folder, capsys):
    score.main(["rows.jsonl", "--judge", "raw", "--output", "mixed.jsonl"])
    assert "raw_expected_score" not in Path("mixed.jsonl").read_text()
    shutil.copy("judge/judge_config.json", "raw/with.json")
    own = Path("raw/judge_config.json").read_text()
    Path("raw/with.json").replace("raw/judge_config.json")
    with pytest.raises(SystemExit):
        score.main(["rows.jsonl", "--judge", "raw", "--output", "mixed.jsonl"])
    Path("raw/judge_config.json").write_text(own)
    assert "calibration.fingerprint was None" in capsys.readouterr().err


def test_serve_answers_with_them(folder):
    row = {name: ROWS[0][name] for name in ("instruction", "response")}
    judge = Judge.from_pretrained("judge")
    with service(folder / "judge") as (_, client):
        every = client.post("/score", json=row).json()
        rows = client.post("/score", json={"rows": [{**row, "kind": kind} for kind in ("a", "b", "c")]}).json()
        refused = client.post("/score", json={**row, "sort": "a"})
    assert refused.status_code == 422
    wanted = judge.score([{**row, "kind": kind} for kind in ("a", "b", "c")])
    assert every["calibrated"] and every["raw_expected_score"] == pytest.approx(wanted[0].raw.expected_score, abs=1e-3)
    assert [each["interval"] for each in rows["scores"]] == [pytest.approx(each.interval, abs=2e-3) for each in wanted]
    assert every["interval"] == pytest.approx(wanted[2].interval, abs=2e-3)  # in another batch
    assert list(every["raw_probabilities"].values()) == pytest.approx(
        list(wanted[0].raw.probabilities.values()), abs=1e-3
    )
    with service(folder / "raw") as (_, client):
        plain = client.post("/score", json=row).json()
    assert (plain["calibrated"], plain["interval"], plain["raw_expected_score"]) == (False, None, None)


def test_it_is_published(folder):
    push.main(["judge", "--local_dir", "published"])
    assert stored("published") == stored()
    card, shown = Path("published/README.md").read_text(), stored()["shown"]
    assert "## Calibration" in card and "50% intervals are" in card
    assert f"{100 * shown['coverage']:.1f}% of the human scores lie in their interval" in card
    assert [each.interval for each in said("published")] == [each.interval for each in said()]
    assert "## Calibration" not in str(build_card(JudgeConfig.load("raw"), "me/judge"))


def test_a_card_holds_no_markup_of_somebody_else(folder):
    config = JudgeConfig.load("judge")
    config.calibration["intervals"]["column"] = "kind\n# Best judge\n<script>x</script> [a](http://x)"
    (line,) = [line for line in str(build_card(config, "me/judge")).splitlines() if "Intervals are by" in line]
    assert "# Best judge" in line and "<script>" not in line and "[a](" not in line


def test_another_number_of_samples_is_said(folder, capsys):
    score.main(["rows.jsonl", "--judge", "judge", "--output", "samples.jsonl"])
    assert "num_samples" not in capsys.readouterr().out
    config = JudgeConfig.load("judge")
    config.calibration["made_with"]["num_samples"] = 4
    shutil.copytree("judge", "sampled")
    config.save("sampled")
    score.main(["rows.jsonl", "--judge", "sampled", "--output", "sampled.jsonl"])
    assert "calibrated with num_samples 4, not 1" in capsys.readouterr().out


def test_a_group_may_have_any_name(folder):
    """Names of secrets among them, whose values are redacted where they are keys."""
    config = JudgeConfig.load("judge")
    config.calibration["intervals"]["margins"] = [["password", 0.5], ["api_key", 1.0]]
    shutil.copytree("judge", "named")
    config.save("named")
    assert JudgeConfig.load("named").read_calibration().intervals.margins == {"password": 0.5, "api_key": 1.0}


def test_a_reward_is_calibrated(folder):
    reward = JudgeReward("judge", prompt_template="homework.jinja")
    wanted = [(each.expected_score - 1) / 4 for each in said()[:2]]
    given = [row["instruction"] for row in ROWS[:2]], [row["response"] for row in ROWS[:2]]
    assert reward(*given) == pytest.approx(wanted, abs=1e-3)


def test_what_was_judged_is_not_judged_again(folder, nothing_is_judged):
    before = stored()
    calibrate.main(["judge", "rows.jsonl", *DATA, *READING])
    assert stored() == before
    calibrate.main(["judge", "rows.jsonl", *DATA, "--coverage", "0.8"])
    assert stored()["intervals"]["coverage"] == 0.8 and stored()["intervals"]["column"] is None
    calibrate.main(["judge", "rows.jsonl", *DATA, *READING])
    assert stored() == before


def test_predictions_of_an_evaluation_are_taken(folder, monkeypatch, capsys):
    options = ["--dataset_name", "rows.jsonl", "--dataset_test_split", "all", *DATA, "--num_resamples", "100"]
    evaluate.main(["--model_name_or_path", "raw", "--output_dir", "evaluation", *options])
    with monkeypatch.context() as patch:
        patch.setattr(JudgingArguments, "load", None)
        calibrate.main(["raw", "evaluation", *READING])
    saved, same = stored("raw"), stored()
    JudgeConfig(**{**vars(JudgeConfig.load("raw")), "calibration": None}).save("raw")
    assert saved["recalibration"] == same["recalibration"] and saved["intervals"] == same["intervals"]
    text = refused(capsys, "raw", "evaluation", "--interval_group", "colour")
    assert "interval_group: the rows have no column 'colour'" in text and "kind" in text
    shutil.copytree("evaluation/predictions/raw/all", "evaluation/predictions/raw/other")
    text = refused(capsys, "raw", "evaluation")
    assert "holds several predictions, evaluation/predictions/raw/all, evaluation/predictions/raw/other" in text
    Path("evaluation/predictions/raw/other/provenance.json").unlink()
    assert "not known which judge" in refused(capsys, "raw", "evaluation/predictions/raw/other")
    shutil.copytree("raw", "another")
    config = json.loads(Path("another/config.json").read_text()) | {"rms_norm_eps": 0.01}
    Path("another/config.json").write_text(json.dumps(config))
    assert "were made with other weights" in refused(capsys, "another", "evaluation/predictions/raw/all")


def test_an_evaluation_reports_both(folder, capsys):
    options = ["--dataset_name", "rows.jsonl", "--dataset_test_split", "all", *DATA, "--num_resamples", "100"]
    evaluate.main(["--model_name_or_path", "judge", "--output_dir", "both", *options])
    (result,) = json.loads(Path("both/evaluation.json").read_text())["results"]["all"].values()
    figures, judged = result["calibrated"], said()
    assert figures["crps"][0] == pytest.approx(result["calibration"]["crps"]) and figures["rows"] == 60
    errors = [(each.expected_score - row["score"]) ** 2 for each, row in zip(judged, ROWS, strict=True)]
    assert figures["rmse"][1] == pytest.approx((sum(errors) / 60) ** 0.5, abs=1e-3)
    inside = [each.interval[0] <= row["score"] <= each.interval[1] for each, row in zip(judged, ROWS, strict=True)]
    assert figures["coverage"] == pytest.approx(sum(inside) / 60, abs=0.04) and figures["asked"] == 0.5
    raw = [(each.raw.expected_score - row["score"]) ** 2 for each, row in zip(judged, ROWS, strict=True)]
    assert result["rail"]["rmse"] == pytest.approx((sum(raw) / 60) ** 0.5, abs=1e-3)
    for said_in in (Path("both/report.md").read_text(), Path("both/report.html").read_text(), capsys.readouterr().out):
        assert "calibrated scores, and the human scores" in said_in and "on these very rows" in " ".join(
            said_in.split()
        )
    assert figures["fitted_here"]
    evaluate.main(["--model_name_or_path", "judge", "--output_dir", "fewer", *options, "--max_rows", "40"])
    (result,) = json.loads(Path("fewer/evaluation.json").read_text())["results"]["all"].values()
    assert not result["calibrated"]["fitted_here"]


def test_another_temperature_leaves_it_out(folder, caplog):
    with caplog.at_level(logging.WARNING):
        judge = Judge.from_pretrained("judge", temperature=0.5)
    assert "its calibration is of distributions at temperature 1.0 and not at 0.5" in caplog.text
    assert not judge.score(ROWS[:1])[0].calibrated


def test_too_few_rows_are_refused_before_any_is_judged(folder, tmp_path, nothing_is_judged, capsys):
    few = ["judge", "rows.jsonl", "--max_rows", "29", "--output_dir", str(tmp_path / "few")]
    said = refused(capsys, *few)
    assert "data: 29 rows of 10 questions have a human score. Give at least 30 rows" in said
    assert "those with the same instruction are taken as being about one" in said and "--group_column" in said
    rows = [{"instruction": PROMPT, "response": row["response"], "score": row["score"], "group": "q"} for row in ROWS]
    (tmp_path / "one.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    one = ["judge", str(tmp_path / "one.jsonl"), "--group_column", "group", "--output_dir", str(tmp_path / "one")]
    assert "60 rows of 1 question have a human score" in refused(capsys, *one)


@pytest.mark.parametrize(
    ("trained", "data", "options", "warned"),
    [
        (("data", "train"), "data/train.jsonl", (), True),
        (("data", "train"), "data", ("--dataset_test_split", "train"), True),
        (("data", "train"), "data/test.jsonl", (), False),
        (("data", "train"), "data", ("--dataset_test_split", "test"), False),
        (("data", "train"), "other/train.jsonl", (), False),
        (("train.jsonl", "train"), "data/train.jsonl", (), True),
        (
            ("train.jsonl", "train"),
            "data/train.jsonl",
            ("--holdout_fraction", "0.6", "--holdout_group", "sheet"),
            False,
        ),
    ],
)
def test_the_data_of_the_training_are_warned_of(folder, tmp_path, caplog, trained, data, options, warned):
    shutil.copytree("raw", tmp_path / "judge")
    config = JudgeConfig.load("raw")
    config.training["data"] = {"dataset_name": trained[0], "hub_dataset": None, "split": trained[1], "rows": 60}
    config.save(tmp_path / "judge")
    for file in ("data/train", "data/test", "other/train"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy("rows.jsonl", tmp_path / f"{file}.jsonl")
    with caplog.at_level(logging.WARNING):
        calibrate.main([str(tmp_path / "judge"), str(tmp_path / data), "--coverage", "0.5", *options])
    assert ("has the name of what the judge was trained on" in caplog.text) == warned


def test_it_is_said_what_its_figures_are_and_which_to_use(folder, capsys):
    calibrate.main(["judge", "rows.jsonl", *DATA, *READING])
    out = " ".join(capsys.readouterr().out.split())
    assert "These left-out folds choose map and interval" in out
    method, saved = stored()["recalibration"]["method"], JudgeConfig.load("judge").read_calibration()
    assert ("Use the calibrated mean score and its interval" in out) == (method != "none")
    for temperature, flat in ((2.0, False), (20.0, True)):
        hot = replace(saved, recalibration=Recalibration("temperature", temperature))
        text = " ".join(calibration_text(hot))
        assert "Use the calibrated mean score and its interval" in text
        assert ("T = 20 makes distributions nearly flat" in text) == flat
    assert "Use the" not in " ".join(calibration_text(replace(saved, recalibration=Recalibration("none"))))


def questions_of(judge: Path, rows, capsys, *options) -> tuple[int, str]:
    """Of a calibration of a copy of the judge on `rows`: how many questions it kept together, and what it printed."""
    if not judge.exists():
        shutil.copytree("raw", judge)
    shutil.rmtree(judge / "calibration", ignore_errors=True)
    (judge.parent / "of.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    capsys.readouterr()
    calibrate.main([str(judge), str(judge.parent / "of.jsonl"), "--coverage", "0.5", *options])
    return stored(str(judge))["shown"]["questions"], " ".join(capsys.readouterr().out.split())


def test_which_rows_are_about_one_question_without_a_group_column(folder, tmp_path, capsys):
    judge, texts = (
        tmp_path / "judge",
        [{name: row[name] for name in ("instruction", "response", "score")} for row in ROWS],
    )
    grouped = [row | {"group": f"q{i // 6}"} for i, row in enumerate(texts)]
    count, out = questions_of(judge, grouped, capsys)
    assert count == 10 and "60 rows of 10 questions: those with the same group are taken as being about one" in out
    own = [
        row | {"group": "mine", "question_group": f"q{i // 10}"} for i, row in enumerate(texts)
    ]  # of init, beside one that was there
    assert questions_of(judge, own, capsys)[0] == 6
    count, out = questions_of(judge, texts, capsys)
    assert count == 20 and "60 rows of 20 questions: those with the same instruction are taken" in out
    gaps = [row | {"group": None if i else "q"} for i, row in enumerate(texts)]
    assert questions_of(judge, gaps, capsys)[0] == 20


def test_rows_are_not_called_questions(folder, tmp_path, capsys):
    """Where all rows have one instruction, nothing tells which are about one question."""
    rows = [{"instruction": PROMPT, "response": row["response"], "score": row["score"]} for row in ROWS]
    count, out = questions_of(tmp_path / "judge", rows, capsys)
    assert count == 60 and "60 rows, no question column: rows are taken as independent of each other." in out
    assert "On 60 rows, each predicted by what was fitted without it:" in out
    assert "all of distributions divided by their probability on the labels" in out  # unlike the RMSE of `evaluate`
    assert "60 questions" not in out and "--group_column COLUMN" in out
    options = ["--dataset_name", str(tmp_path / "of.jsonl"), "--dataset_test_split", "all", "--num_resamples", "100"]
    evaluate.main(
        ["--model_name_or_path", str(tmp_path / "judge"), "--output_dir", str(tmp_path / "evaluation"), *options]
    )
    capsys.readouterr()
    calibrate.main([str(tmp_path / "judge"), str(tmp_path / "evaluation")])
    out = " ".join(capsys.readouterr().out.split())
    assert (
        "The predictions have no question column: rows are taken as independent" in out and "60 questions" not in out
    )


def test_an_evaluation_says_how_rows_were_grouped(folder, tmp_path, caplog):
    options = ["--dataset_name", "rows.jsonl", "--dataset_test_split", "all", "--num_resamples", "100"]
    with caplog.at_level(logging.WARNING):
        evaluate.main(["--model_name_or_path", "raw", "--output_dir", str(tmp_path / "evaluation"), *options])
    assert "60 rows of 20 questions: those with the same instruction are taken as being about one" in caplog.text
    evaluation = json.loads((tmp_path / "evaluation/evaluation.json").read_text())
    assert evaluation["datasets"]["all"]["n_groups"] == 20


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "model: not set. Name judge and data first"),
        (["judge"], "dataset_name: not set. Name judge and data first"),
        (["acme/judge", "rows.jsonl"], "model: 'acme/judge' is no directory"),
        (["judge", "rows.jsonl", "--coverage", "90"], "coverage: got 90"),
        (["judge", "rows.jsonl", "--interval_group", "colour"], "colour"),
        (["judge", "nothing.jsonl"], "nothing.jsonl"),
        (
            ["judge", "pairs.jsonl", "--pair_columns", "instruction,response", "--output_dir", "pairs"],
            "but a calibration is of scores, not of preferences",
        ),
        (["judge", "rows.jsonl", "--max_rows", "8", "--output_dir", "few"], "8 rows of 3 questions"),
    ],
)
def test_what_is_refused(folder, argv, message, capsys):
    before = Path("judge/judge_config.json").read_text()
    pairs = [{"instruction": row["instruction"], "response": row["response"]} for row in ROWS]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    assert message in refused(capsys, *argv)
    assert Path("judge/judge_config.json").read_text() == before


def test_criteria_have_intervals_of_their_own(folder, tmp_path, capsys):
    criteria = {"helpful": "Is it of help?", "right": "Is it right?"}
    warm_model().save_pretrained(tmp_path / "judge")
    TOKENIZER.save_pretrained(tmp_path / "judge")
    config = JudgeConfig.from_space(SPACE, rationale=False, criteria=criteria)
    config.use_template(load_template("direct_criteria"))
    config.save(tmp_path / "judge")
    rows = [
        {"instruction": row["instruction"], "response": row["response"], "helpful": 4, "right": i % 5 + 1}
        for i, row in enumerate(ROWS)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    calibrate.main(
        [
            str(tmp_path / "judge"),
            str(tmp_path / "rows.jsonl"),
            "--coverage",
            "0.8",
            "--prompt_template",
            "direct_criteria",
        ]
        + ["--criteria", json.dumps(criteria)]
    )
    margins = stored(str(tmp_path / "judge"))["intervals"]
    widest = dict(margins["margins"])
    assert margins["column"] == "criterion" and widest["helpful"] < widest["right"]
    judge = Judge.from_pretrained(tmp_path / "judge")
    texts = {"instruction": ROWS[0]["instruction"], "response": ROWS[0]["response"]}
    by_rubric = {name: judge.score(**texts, rubric=text) for name, text in criteria.items()}
    widths = {name: each.interval[1] - each.interval[0] for name, each in by_rubric.items()}
    assert widths["helpful"] < widths["right"]
    (tmp_path / "new.jsonl").write_text(json.dumps(texts) + "\n")
    score.main([str(tmp_path / "new.jsonl"), "--judge", str(tmp_path / "judge")])
    (row,) = [json.loads(line) for line in (tmp_path / "new.scored.jsonl").read_text().splitlines()]
    for name, each in by_rubric.items():
        assert [row[f"{name}_interval_low"], row[f"{name}_interval_high"]] == pytest.approx(each.interval, abs=2e-3)


def test_the_group_of_a_row_is_the_one_of_calibration(tmp_path, capsys):
    """As a number, as it comes out of a table with gaps, and as text; an empty cell is none. Where no row has a known one, that is said."""
    calibration = Calibration(Recalibration(), Intervals("absolute", 0.9, 3.0, "grade", {"1": 0.5}))
    judge = SimpleNamespace(calibration=calibration, criteria={})
    cells = [1, 1.0, " 1 ", "", None]
    assert [Judge.group(judge, {"grade": cell}) for cell in [*cells, float("nan")]] == ["1"] * 3 + [None] * 3
    for name, given, known in (("some", cells, True), ("none", [4, 5], False)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"grade": cell}) + "\n" for cell in given))
        found = groups_of(calibration, read_file(path, "data"), [])
        assert found == (["1"] * 3 + [None] * 2 if known else ["4", "5"])
        assert ("none of the rows has one of the groups" in capsys.readouterr().out) != known
