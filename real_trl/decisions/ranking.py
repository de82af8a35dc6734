# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A ranking that says what is not known: which places a system can have, and which systems cannot be told apart."""

from collections.abc import Mapping, Sequence
from typing import Any


def possible_places(systems: Sequence[str], better: Mapping[str, set[str]]) -> dict[str, tuple[int, int]]:
    """
    Best and worst place of each system, from 1 on.

    Args:
        better (`Mapping[str, set[str]]`): System → those that it is shown to be better than.
    """
    return {
        name: (1 + sum(name in better[other] for other in systems), len(systems) - len(better[name]))
        for name in systems
    }


def alike_sets(systems: Sequence[str], better: Mapping[str, set[str]]) -> list[list[str]]:
    """
    The largest sets of systems of which no two are shown to differ, in the order of `systems` (best first). A system may be in several: A may not be
    told from B, nor B from C, and yet A is better than C.
    """
    alike: dict[Any, set[str]] = {
        name: {other for other in systems if other != name and other not in better[name] and name not in better[other]}
        for name in systems
    }
    found: list[set[str]] = []

    def extend(chosen: set[str], candidates: set[str], excluded: set[str]) -> None:  # Bron & Kerbosch, 1973
        if not candidates and not excluded:
            found.append(chosen)
        pivot = max(candidates | excluded, key=lambda name: len(alike[name] & candidates), default=None)
        for name in [each for each in systems if each in candidates and each not in alike.get(pivot, set())]:
            extend(chosen | {name}, candidates & alike[name], excluded & alike[name])
            candidates, excluded = candidates - {name}, excluded | {name}

    extend(set(), set(systems), set())
    place = {name: index for index, name in enumerate(systems)}
    return sorted(
        (sorted(each, key=place.__getitem__) for each in found), key=lambda each: [place[name] for name in each]
    )
