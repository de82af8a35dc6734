# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A tracker that is not installed is a message about `report_to`, before a model is loaded."""

import importlib.util

import pytest

from real_trl.scripts import sft
from real_trl.trainers.trackers import check_trackers


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_it_names_the_extra() -> None:
    with pytest.raises(ValueError, match=r"report_to: got 'wandb', which is not installed.*'real_trl\[wandb\]'"):
        check_trackers(["tensorboard", "wandb"])


@pytest.mark.skipif(importlib.util.find_spec("swanlab") is not None, reason="swanlab is installed")
def test_it_names_the_package_of_one_without_an_extra() -> None:
    with pytest.raises(ValueError, match="report_to: got 'swanlab', .*pip install 'swanlab'"):
        check_trackers(["swanlab"])


def test_one_that_nobody_knows() -> None:
    with pytest.raises(ValueError, match="report_to: got 'wandbb'. Set it to none, or to some of: azure_ml, "):
        check_trackers(["wandbb"])


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_a_stage_says_so_before_it_looks_for_the_model(tmp_path, capsys) -> None:
    options = [
        "--model_name_or_path",
        "./nothing",
        "--dataset_name",
        "synthetic",
        "--output_dir",
        str(tmp_path / "out"),
    ]
    with pytest.raises(SystemExit) as status:
        sft.main([*options, "--report_to", "wandb"])
    said = capsys.readouterr().err
    assert status.value.code == 2 and "report_to: got 'wandb'" in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()
