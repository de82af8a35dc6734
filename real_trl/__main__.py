# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`python -m real_trl` is `real-trl`."""

from real_trl.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
