# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Texts that a user says mean a missing cell."""

from collections.abc import Iterable
from dataclasses import replace

from real_trl.data.delimited import decimal_points
from real_trl.data.files import Source


def with_na(source: Source, texts: Iterable[str]) -> Source:
    """
    The rows, in which cells with one of `texts` are missing. A column of a file may turn out to be one of numbers with decimal commas then: its
    commas become points, which a last note says.
    """
    na = source.na.union(str(text).strip() for text in texts)
    if na == source.na or not source.commas:
        return replace(source, na=na)
    rows = [dict(row) for row in source.rows]
    points = decimal_points(rows, na)
    said = f"{source.name}: decimal commas are read as points in {', '.join(map(repr, points))}."
    return replace(source, na=na, rows=rows, notes=[*source.notes, *([said] if points else [])])
