"""The operator as a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bench import ENVIRONMENT, ROOT
from bench.operator.load import NAMESPACE
from bench.operator.plane import Plane

DEADLINE = 900.0
#: Seconds between looks at its metrics, which take a tenth of a second at 10,000 jobs.
LOOK = 0.5


class Operator:
    """One that runs."""

    def __init__(self, process: subprocess.Popen[bytes], metrics: int, log: Path) -> None:
        self.process, self._metrics, self._log = process, metrics, log
        self.began = time.monotonic()

    def metric(self, name: str, labels: str = "") -> float:
        """The value of a metric; 0 while nothing is served."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics}/metrics") as answer:
                text = answer.read().decode()
        except (urllib.error.URLError, ConnectionError):
            return 0.0
        found = re.search(rf"^{name}{re.escape(labels)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def until_leading(self) -> None:
        """Wait until it may work."""
        while not self.metric("kubeseg_operator_leading"):
            self.check("not leading")
            time.sleep(0.1)

    def until_visited(self, count: int) -> float:
        """Seconds from its start until `count` visits have ended and no key waits."""
        while True:
            visits = self.metric("kubeseg_operator_reconciles_total", '{outcome="ok"}')
            if visits >= count and self.metric("kubeseg_operator_queue_depth") == 0:
                return time.monotonic() - self.began
            self.check(f"{visits:.0f} of {count} visits")
            time.sleep(LOOK)

    def until_phase(self, phase: str, count: int) -> None:
        """Wait until so many jobs are in `phase`."""
        labels = f'{{namespace="{NAMESPACE}",phase="{phase}"}}'
        while (there := self.metric("kubeseg_jobs", labels)) < count:
            self.check(f"{there:.0f} of {count} are {phase}")
            time.sleep(LOOK)

    def check(self, doing: str) -> None:
        """SystemExit where it has ended, or takes too long."""
        if self.process.poll() is not None:
            said = self._log.read_text()[-3000:]
            raise SystemExit(f"the operator ended with {self.process.returncode}:\n{said}")
        if time.monotonic() - self.began > DEADLINE:
            raise SystemExit(f"the operator takes too long: {doing} after {DEADLINE:.0f} s")

    def lives(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def memory(self) -> float:
        """Resident memory now, in MB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB$", text, re.MULTILINE)
        assert found
        return int(found[1]) * 1024 / 1e6

    def processor(self) -> float:
        """Processor seconds used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def operator(plane: Plane) -> Iterator[Operator]:
    """The operator on `plane`, with the settings that it has by default."""
    probes, metrics = _free_port(), _free_port()
    log = plane.layout.component_log("operator")
    environment = ENVIRONMENT | {
        "KUBECONFIG": str(plane.kubeconfig),
        "KUBESEG_PROBES_PORT": str(probes),
        "KUBESEG_METRICS_PORT": str(metrics),
        "KUBESEG_LOG_LEVEL": "WARNING",
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "kubeseg_operator.main"],
            env=environment, cwd=ROOT, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        yield Operator(process, metrics, log)
    finally:
        process.terminate()
        process.wait(20)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
