# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
A judge behind an HTTP endpoint. Reading order: `wire.py` (what is sent), `batching.py` (how concurrent requests share the
engine), `app.py` (the endpoint), `guard.py` (key and sizes), `server.py` (the process).
"""
