"""What the measuring programs' command lines have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping

from bench.report import Measure, show

Subject = Callable[[], Iterator[Measure]]


def parser_of(program: str, text: str | None, *, repeats: int) -> argparse.ArgumentParser:
    """A parser with `--only`, `--repeats` and `--json`."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=text)
    parser.add_argument("--only", action="append", help="a subject; may be given several times")
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


def measure(
    parser: argparse.ArgumentParser, options: argparse.Namespace, known: Mapping[str, Subject]
) -> None:
    """Measure the subjects that were asked for, else all, and print."""
    unknown = set(options.only or ()) - known.keys()
    if unknown:
        parser.error(f"--only: must be one of {', '.join(known)}, not {', '.join(unknown)}")
    for name in options.only or known:
        for each in known[name]():
            show(each, as_json=options.json)
