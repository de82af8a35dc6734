# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a run shows its reader: tables for the terminal, Markdown and LaTeX, plots, and an HTML page to browse."""

from .curves import plot_training_curves, save_plots
from .html import html_report
from .markup import latex_table, markdown_report
from .quickstart_plot import plot_quickstart
from .seeds import results_table, summarize_seeds
from .tables import evaluation_table

__all__ = [
    "evaluation_table",
    "html_report",
    "latex_table",
    "markdown_report",
    "plot_quickstart",
    "plot_training_curves",
    "results_table",
    "save_plots",
    "summarize_seeds",
]
