"""`python -m bench.operator [--only NAME …] [--jobs N] [--plot FILE] [--json]`."""

from __future__ import annotations

import signal
import sys
from functools import partial
from pathlib import Path

from bench.command import Subject, measure, parser_of
from bench.operator.burst import burst
from bench.operator.growth import growth
from bench.operator.latency import latency
from bench.operator.restart import restart

#: The naive twin makes some 90 Jobs a second, however many: a fifth of them tells as much.
SHARE = 5
#: Below `--jobs`, where growth is looked at.
SIZES = (100, 300, 1000, 3000)


def main() -> None:
    """Measure and print."""
    parser = parser_of("bench.operator", __doc__, repeats=1)
    parser.add_argument("--jobs", type=int, default=10_000, help="TrainingJobs of a burst")
    parser.add_argument("--plot", type=Path, help="where `growth` draws to (.svg, .png)")
    options = parser.parse_args()
    # So that what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    jobs, repeats = options.jobs, options.repeats
    if jobs < 100:
        parser.error("--jobs: must be at least 100, or there is nothing to measure")
    naive = max(100, jobs // SHARE)
    known: dict[str, Subject] = {
        "latency": partial(latency, 20),
        "burst": partial(burst, jobs, naive, repeats=repeats),
        "restart": partial(restart, jobs, repeats=max(2, repeats)),
        "growth": partial(growth, [*(n for n in SIZES if n < jobs), jobs], options.plot),
    }
    measure(parser, options, known)


if __name__ == "__main__":
    main()
