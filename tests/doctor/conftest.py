# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A recipe to examine."""

import json

import pytest
import yaml

from tests import tiny


@pytest.fixture
def recipe(tmp_path):
    def write(**options):
        tiny.build_model().save_pretrained(tmp_path / "model")
        tiny.TOKENIZER.save_pretrained(tmp_path / "model")
        rows = [{"prompt": tiny.PROMPT, "feedback": "1) 7+4 is 12, right.", "score": 3}] * 4
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        path = tmp_path / "recipe.yaml"
        keys = {
            "model_name_or_path": str(tmp_path / "model"),
            "dataset_name": str(tmp_path / "rows.jsonl"),
            "output_dir": str(tmp_path / "out"),
            "score_labels": "1-5",
            "num_generations": 4,
            "per_device_train_batch_size": 4,
            "max_completion_length": 16,
            **options,
        }
        path.write_text("# accelerate launch -m real_trl.scripts.rl --config recipe.yaml\n" + yaml.safe_dump(keys))
        return path

    return write
