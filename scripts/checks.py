"""All checks that need no cluster: `make lint`. Each is run even when one before it failed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
CRD = ROOT / "charts" / "kubeseg" / "files" / "trainingjobs.yaml"

CHECKS: tuple[tuple[str, list[str]], ...] = (
    ("ruff, rules", ["ruff", "check", "."]),
    ("ruff, format", ["ruff", "format", "--check", "."]),
    ("types", ["mypy"]),
    (
        "types of tests, scripts and bench",
        ["mypy", "--explicit-package-bases", "scripts", "tests", "bench"],
    ),
    ("import rules", ["lint-imports"]),
    ("generated CRD", ["kubeseg-crd", "--check", str(CRD)]),
)


def main() -> int:
    """Run the checks; 0 where all pass, else 1."""
    failed = []
    environment = os.environ | {"NO_COLOR": "1"}
    for name, command in CHECKS:
        begin = time.monotonic()
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        verdict = "ok" if done.returncode == 0 else "FAILED"
        print(f"{verdict:6} {name} ({time.monotonic() - begin:.1f} s)", flush=True)
        if done.returncode:
            failed.append(name)
            print(done.stdout)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
