# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What is overridden, and used, of TRL's and Transformers' insides is written down in one place each, and nothing else is."""

import ast
import importlib.metadata
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
from packaging.version import Version

import real_trl
from real_trl import RAFTTrainer, REALTrainer
from real_trl.trainers.trl_internals import CHECKED, PRIVATE_NAMES

ROOT = Path(real_trl.__file__).parent
TRAINERS = (REALTrainer, RAFTTrainer)
LIBRARIES = {"trl", "transformers", "accelerate", "peft", "torch", "deepspeed"}
LATER = {"_initial_global_step": "5.24"}  # in which version it came
# Private names of the standard library
OTHERS = {"_action_groups", "_actions", "_asdict", "_exit", "_group_actions", "_replace", "_run_exitfuncs"}


def is_private(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(r"_[A-Za-z]\w*", name) is not None


def bases(trainer: type) -> list[type]:
    return [base for base in trainer.__mro__ if base.__module__.split(".")[0] in ("trl", "transformers")]


def test_overridden_methods_are_in_the_table():
    overridden = {}
    for trainer in TRAINERS:
        theirs = {name for base in bases(trainer) for name in vars(base)}
        for own in trainer.__mro__:
            if own.__module__.startswith("real_trl."):
                names = {name for name in vars(own) if name in theirs and (name == "__init__" or name[:2] != "__")}
                for name in names:
                    overridden.setdefault(name, set()).add(Path(inspect.getfile(own)).name)
    table = {}
    for row in re.findall(
        r"^\| (`.*?) \| (`.*?) \| \S.* \|$", (ROOT / "trainers/README.md").read_text(), re.MULTILINE
    ):
        names, files = (re.findall(r"`([\w.]+)`", cell) for cell in row)
        for name in names:
            assert name not in table
            table[name] = set(files)
    assert table == overridden


class Names(ast.NodeVisitor):
    """Private names in one module: those that it defines itself, and those that it uses."""

    def __init__(self) -> None:
        self.own, self.used, self.imported = set(), set(), set()

    def visit(self, node: ast.AST) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self.own.add(node.name)
            case ast.Name(id=name, ctx=ast.Store()):
                self.own.add(name)
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                self.own.add(name)
            case (
                ast.Attribute(attr=name) | ast.keyword(arg=name) | ast.Compare(comparators=[ast.Constant(value=name)])
            ):
                self.used.add(name)
            case ast.Call(func=ast.Name(id="getattr" | "hasattr" | "setattr"), args=[_, ast.Constant(value=name), *_]):
                self.used.add(name)
            case ast.ImportFrom(module=module) if module and module.split(".")[0] in LIBRARIES:
                self.imported |= {*module.split("."), *(alias.name for alias in node.names)}
        self.generic_visit(node)


def test_private_names_are_in_the_module():
    found = Names()
    for path in ROOT.rglob("*.py"):
        if path.name != "trl_internals.py":
            found.visit(ast.parse(path.read_text(encoding="utf-8")))
    # What their classes define or set on themselves is theirs, whoever else does
    sources = "".join(inspect.getsource(base) for trainer in TRAINERS for base in bases(trainer))
    theirs = {name for trainer in TRAINERS for base in bases(trainer) for name in vars(base)}
    theirs |= set(re.findall(r"\bself\.(\w+)(?:: [^=\n]+)? = ", sources))
    used = (found.used - found.own) | ((found.used | found.own) & theirs) | found.imported
    used = {name for name in used if is_private(name)} - OTHERS
    assert {name for names in PRIVATE_NAMES.values() for name in names} - {*LATER} == used - {*LATER}


@pytest.mark.parametrize("place", PRIVATE_NAMES)
def test_private_names_are_where_they_are_said_to_be(place):
    if place.split(".")[0] == "deepspeed":
        pytest.importorskip("deepspeed")
    owner = pkgutil.resolve_name(place)
    source = "" if place.startswith("torch.ops.") else inspect.getsource(inspect.getmodule(owner))
    for name in PRIVATE_NAMES[place]:
        if name in LATER and Version(importlib.metadata.version(place.split(".")[0])) < Version(LATER[name]):
            continue
        assert hasattr(owner, name) or re.search(rf"\b{name}\b", source), name


@pytest.mark.parametrize("library", ["trl", "transformers"])
def test_the_versions_were_looked_at(library):
    """Their trainers are subclassed."""
    assert importlib.metadata.version(library).rpartition(".")[0] in CHECKED[library]
