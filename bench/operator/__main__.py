"""`python -m bench.operator [--only NAME …] [--jobs N] [--json]`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial

from bench.operator.burst import burst
from bench.operator.latency import latency
from bench.operator.restart import restart
from bench.report import Measure, show

#: The naive twin makes some 90 Jobs a second, however many: a fifth of them tells as much.
SHARE = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.operator", description=__doc__)
    parser.add_argument("--only", action="append", help="burst, restart or latency")
    parser.add_argument("--jobs", type=int, default=10_000, help="TrainingJobs of a burst")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    # So that what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    jobs, repeats = options.jobs, options.repeats
    if jobs < 100:
        parser.error("--jobs: must be at least 100, or there is nothing to measure")
    naive = max(100, jobs // SHARE)
    known: dict[str, Callable[[], Iterator[Measure]]] = {
        "latency": partial(latency, 20),
        "burst": partial(burst, jobs, naive, repeats=repeats),
        "restart": partial(restart, jobs, repeats=max(2, repeats)),
    }
    unknown = set(options.only or ()) - known.keys()
    if unknown:
        parser.error(f"--only: must be one of {', '.join(known)}, not {', '.join(unknown)}")
    for name in options.only or known:
        for measure in known[name]():
            show(measure, as_json=options.json)


if __name__ == "__main__":
    main()
