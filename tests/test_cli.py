# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How a stage is launched on a machine that nobody configured with `accelerate config`."""

import logging

import pytest
from accelerate.commands import launch

from real_trl.cli import _unconfigured


@pytest.mark.parametrize("gpus", [0, 1, 8])
def test_accelerate_has_nothing_to_assume(gpus, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(launch, "default_config_file", str(tmp_path / "none.yaml"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    args = launch.launch_command_parser().parse_args([*_unconfigured(gpus, 3), "-m", "real_trl.scripts.sft"])
    with caplog.at_level(logging.WARNING):
        args, *_ = launch._validate_launch_command(args)
    assert caplog.text == ""
    assert (args.num_processes, args.multi_gpu) == (max(1, gpus), gpus > 1)
    assert args.num_cpu_threads_per_process == (1 if gpus else 3)


def test_without_these_options_it_warns(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(launch, "default_config_file", str(tmp_path / "none.yaml"))
    with caplog.at_level(logging.WARNING):
        launch._validate_launch_command(launch.launch_command_parser().parse_args(["--num_processes", "1", "x.py"]))
    assert "`--mixed_precision` was set to a value of `'no'`" in caplog.text
