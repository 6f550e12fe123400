"""`make down`: end the demo's cluster and remove its files. Installs nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Exit status of `kubeseg-local down`; 0 where nothing was ever started."""
    python = ROOT / ".venv" / "bin" / "python"
    named = os.environ.get("KUBESEG_CLUSTER_DIR")
    cluster = Path(named) if named else ROOT / ".kubeseg" / "cluster"
    if not cluster.exists():
        print("nothing runs, and nothing is left")
        return 0
    if not python.exists():
        print(
            f"{cluster} is there, but .venv is not: run `make setup`, then `make down` again",
            file=sys.stderr,
        )
        return 1
    return subprocess.run(
        [str(python), "-m", "kubeseg_local.demo", "--down"], cwd=ROOT, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
