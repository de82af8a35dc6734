# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Whether what a run reports to is installed: Transformers says so only once the model is loaded, and with a traceback."""

from collections.abc import Sequence

from transformers.integrations import integration_utils as trackers

from real_trl.option_values import FieldError

_EXTRAS = ("tensorboard", "trackio", "wandb")  # of real_trl
_INSTALLED = {
    "azure_ml": trackers.is_azureml_available,
    "clearml": trackers.is_clearml_available,
    "codecarbon": trackers.is_codecarbon_available,
    "comet_ml": trackers.is_comet_available,
    "dagshub": trackers.is_dagshub_available,
    "dvclive": trackers.is_dvclive_available,
    "flyte": trackers.is_flytekit_available,
    "mlflow": trackers.is_mlflow_available,
    "neptune": trackers.is_neptune_available,
    "swanlab": trackers.is_swanlab_available,
    "tensorboard": trackers.is_tensorboard_available,
    "trackio": trackers.is_trackio_available,
    "wandb": trackers.is_wandb_available,
}


def check_trackers(report_to: Sequence[str]) -> None:
    """`ValueError` naming `report_to` and what to install, for the first tracker that is not known or not installed."""
    for name in report_to:
        if name not in trackers.INTEGRATION_TO_CALLBACK:
            fix = f"Set it to none, or to some of: {', '.join(sorted(trackers.INTEGRATION_TO_CALLBACK))}."
            raise FieldError("report_to", name, fix)
        if name in _INSTALLED and not _INSTALLED[name]():
            package = f"real_trl[{name}]" if name in _EXTRAS else name.replace("_", "-")
            fix = f"Install it (pip install '{package}'), or set report_to to none."
            raise FieldError("report_to", name, fix, f": got {name!r}, which is not installed")
