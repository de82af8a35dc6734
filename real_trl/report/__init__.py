# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
What a run shows its reader: tables for the terminal, Markdown and LaTeX, plots, and an HTML page to browse.

What arguments mean everywhere: `evaluation` is what `evaluation.json` holds, `dataset` one of its datasets, `inference` `"standard"` or
`"rail"`, `predictions` dataset → judge → rows. Plots raise `ImportError` without matplotlib.
"""

from real_trl.report.curves import plot_training_curves, save_plots
from real_trl.report.html import html_report
from real_trl.report.markup import latex_table, markdown_report
from real_trl.report.quickstart_plot import plot_quickstart
from real_trl.report.seeds import results_table, summarize_seeds
from real_trl.report.terminal_tables import evaluation_table

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
