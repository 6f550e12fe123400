"""All tests: those on the embedded cluster, and beside them, with low priority, those without.

The first wait most of their time: for pods, back-offs, leases. The others only compute.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTEST = [str(ROOT / ".venv" / "bin" / "python"), "-m", "pytest", "-q", "tests"]
ON_CLUSTER = [*PYTEST, "-m", "cluster and not soak"]
# Nice: what waits for a cluster has deadlines.
WITHOUT = ["nice", "-n", "10", *PYTEST, "-m", "not cluster and not soak"]
LOG = ROOT / ".kubeseg" / "tests-without-cluster.log"


def main() -> int:
    """Run both; 0 where all pass, else 1."""
    begin = time.monotonic()
    LOG.parent.mkdir(exist_ok=True)
    print(f"tests without a cluster: beside the others, into {LOG.relative_to(ROOT)}")
    print("tests on the cluster:", flush=True)
    with LOG.open("w") as log:
        without = subprocess.Popen(WITHOUT, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        on_cluster = subprocess.Popen(ON_CLUSTER, cwd=ROOT)
        try:
            on_cluster.wait()
            without.wait()
        except KeyboardInterrupt:
            # Both have had the signal, too, and remove what they made.
            on_cluster.wait()
            without.wait()
    print(f"tests without a cluster:\n{LOG.read_text(errors='replace')}")
    for name, session in (("on the cluster", on_cluster), ("without a cluster", without)):
        print(f"{'FAILED' if session.returncode else 'ok':6} tests {name}")
    print(f"{(time.monotonic() - begin) / 60:.0f} minutes")
    return 1 if on_cluster.returncode or without.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
