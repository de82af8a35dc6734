# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Resolves every `pip install -c constraints… -e ".[extras]"` of the documentation against the package index, with uv, which reads
metadata only: no wheel is downloaded. It fails where a set of versions cannot be met, and where `constraints-gpu.txt`, which no
machine without a GPU installs, leaves a version open.
"""

import re
import subprocess
import sys
import sysconfig
import tempfile
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "recipes/README.md",
    "docs/quickstart.md",
    "docs/gpu.md",
    "launch/Dockerfile",
)
COMPLETE = "constraints-gpu.txt"
PYTHON, PLATFORM = "3.11.7", "x86_64-manylinux_2_31"  # llguidance, which vLLM needs, has no wheel for an older glibc
SDISTS = ("deepspeed",)  # has no wheel at all


def install_lines() -> list[tuple[str, tuple[str, ...]]]:
    """Constraints and extras of every documented installation."""
    text = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS)
    found = re.findall(r'pip install -c (\S+) -e "\.\[([\w,]+)\]"', text)
    return sorted({(constraints, tuple(extras.split(","))) for constraints, extras in found})


def requirements(extras: tuple[str, ...]) -> list[str]:
    """What `setup.cfg` asks for with these extras, those that an extra names in turn included."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    needed = _lines(config["options"]["install_requires"])
    for extra in extras:
        for line in _lines(config["options.extras_require"][extra]):
            own = re.fullmatch(r"real_trl\[([\w,]+)\]", line)
            needed += requirements(tuple(own[1].split(","))) if own else [line]
    return list(dict.fromkeys(needed))


def _lines(text: str) -> list[str]:
    return [line for line in text.strip().splitlines() if line and not line.startswith("#")]


def pins(text: str) -> dict[str, str]:
    """Normalised name → version of the lines `name==version`."""
    found = re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def resolve(constraints: str, extras: tuple[str, ...]) -> dict[str, str]:
    """Name → version of everything that would be installed; `RuntimeError` with uv's reason if there is no such set."""
    binaries = ["--only-binary", ":all:", *(word for name in SDISTS for word in ("--no-binary", name))]
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder, "requirements.in")
        wanted.write_text("\n".join(requirements(extras)) + "\n", encoding="utf-8")
        uv = [str(Path(sysconfig.get_path("scripts"), "uv")), "pip", "compile", str(wanted), "--quiet", *binaries]
        uv += ["--constraints", str(ROOT / constraints), "--no-header", "--no-annotate"]
        uv += ["--python-version", PYTHON, "--python-platform", PLATFORM]
        done = subprocess.run(uv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return pins(done.stdout)


def main() -> int:
    """Check them all; the number of those that fail."""
    failed = 0
    for constraints, extras in install_lines():
        line = f'pip install -c {constraints} -e ".[{",".join(extras)}]"'
        try:
            resolved = resolve(constraints, extras)
            given = pins((ROOT / constraints).read_text(encoding="utf-8"))
            still_open = [name for name in resolved if name not in given] if constraints == COMPLETE else []
            if still_open:
                raise RuntimeError(
                    f"{constraints} has no version of {', '.join(still_open)}: add {still_open[0]}=={resolved[still_open[0]]} …"
                )
            print(f"{line}: {len(resolved)} packages")
        except RuntimeError as error:
            failed += 1
            print(f"{line} does not resolve:\n{error}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main())
