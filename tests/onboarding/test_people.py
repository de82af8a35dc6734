# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What `real-trl init` says of the raters of a file."""

from pathlib import Path

import pytest

from real_trl.scripts.init import main
from tests.onboarding.files import ratings_in_rows, sheet, write_csv, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("model")))


def said(file: Path, model: str) -> str:
    main([str(file), "--model", model, "--output_dir", str(file.with_suffix("")), "--yes"])
    return " ".join((file.with_suffix("") / "README.md").read_text().split())


def columns(path: Path, **offsets: int) -> Path:
    """A column for each rater, who is that far off."""
    return write_csv(
        path,
        [
            {"question": row["question"], "answer": row["answer"]}
            | {name: 3 + row["score"] + offset for name, offset in offsets.items()}
            for row in sheet(questions=30)
        ],
    )


def test_the_strict_rater_is_named_by_his_column(tmp_path, model):
    text = said(columns(tmp_path / "strict.csv", rater_1=0, rater_2=-2, rater_3=0), model)
    assert "People agree with Krippendorff's α = " in text and "ICC of one rater" in text
    assert "Rater rater_2 gives 2.00 [2.00, 2.00] less than the median of the raters." in text
    assert "Rater rater_1" not in text and "Rater rater_3" not in text
    text = said(columns(tmp_path / "alike.csv", rater_1=0, rater_2=0), model)
    assert "People agree with Krippendorff's α = 1.00" in text and "Rater " not in text


def test_of_ratings_in_rows_workers_are_named(tmp_path, model):
    text = said(ratings_in_rows(tmp_path), model)
    assert "Rater w3 gives" in text and "more than the median of the raters" in text


def test_of_one_rater_nothing_is_said(tmp_path, model):
    assert "People agree" not in said(columns(tmp_path / "one.csv", rating=0), model)
