# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The quickstart as docs/quickstart.md has it: one command, a table, a picture, a judge, and the figures as JSON."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from real_trl.judge_config import JudgeConfig

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_quickstart(tmp_path):
    command = [sys.executable, "-m", "real_trl.scripts.quickstart", "--output_dir", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500)
    assert run.returncode == 0, run.stderr[-3000:]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary) == ["base", "raft", "real"]
    for method in summary.values():
        assert list(method) == ["id", "ood"]
        for split in method.values():
            assert list(split) == ["standard", "rail"]
            for metrics in split.values():
                assert list(metrics) == ["pearson", "spearman", "kendall", "rmse", "mae"]
                assert all(math.isfinite(value) for value in metrics.values())
    assert summary["real"]["ood"]["rail"]["pearson"] > summary["raft"]["ood"]["rail"]["pearson"]
    assert (tmp_path / "quickstart.png").read_bytes().startswith(b"\x89PNG")
    assert JudgeConfig.load(tmp_path / "seed-0" / "real").score_labels == ["1", "2", "3", "4", "5"]
    for expected in ("RAFT", "REAL", "quickstart.png", "summary.json", "seed-0/real"):
        assert expected in run.stdout

    # The page's example, as it stands there, on the judge that is there now
    (code,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8"), re.DOTALL
    )
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "quickstart").symlink_to(tmp_path)
    scored = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert scored.returncode == 0, scored.stderr[-3000:]
    assert "status='ok'" in scored.stdout and "expected_score=" in scored.stdout and "is right" in scored.stdout
