# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A folder of inputs for each module of tests, whose runs would otherwise go on from each other's checkpoints; and the ways of distributing."""

import shutil
from pathlib import Path

import pytest

from tests.distributed.launching import write_inputs


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("distributed")
    write_inputs(folder)
    return folder


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("ddp", marks=pytest.mark.slow),
        pytest.param("zero3", marks=pytest.mark.deepspeed),
        pytest.param("fsdp2", marks=pytest.mark.slow),
    ],
)
def backend(request) -> str:
    if request.param == "zero3":
        pytest.importorskip("deepspeed")
        if shutil.which("c++") is None:
            pytest.skip("on a CPU, DeepSpeed compiles its communication at the first start: needs a C++ compiler")
    return request.param
