# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
`real-trl doctor`: whether what the library relies on holds on the machine at hand, by doing it there and comparing.

Each module is a group of checks, `CHECKS`, in the order in which they are worth reading: `environment`, `kernels`, `precision`, `speed`,
`vllm_engine`, `processes`. A check is a function of a [`~real_trl.doctor.subject.Subject`] that returns a
[`~real_trl.doctor.findings.Finding`].
"""
