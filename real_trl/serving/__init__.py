# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
A judge behind HTTP endpoints. Reading order: `wire.py` (what is sent), `chat.py` (the same as OpenAI's chat completions), `batching.py`
(how concurrent requests share the engine), `judging.py` (from a request to judgments), `app.py` (the endpoints), `guard.py` (key and
sizes), `metrics.py` (what is counted), `server.py` (the process).
"""
