"""How speed, cost, memory and restart grow with the number of TrainingJobs, and a plot of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.operator.burst import busy_controller, prepare, rate, sent_only
from bench.operator.ours import operator
from bench.operator.plane import control_plane
from bench.report import Measure, compare, single


@dataclass(frozen=True)
class Size:
    """What was found with this many TrainingJobs."""

    jobs: int
    made: float
    """Jobs a second"""
    bare: float
    """the same of the bare twin"""
    processor: float
    """ms of the operator's for each, its start left out"""
    memory: float
    """MB"""
    restart: float
    """s"""


def _start() -> float:
    """Processor seconds of a start with nothing to do."""
    with control_plane() as plane, operator(plane) as idle:
        idle.until_leading()
        return idle.processor()


def _measure(jobs: int, start: float) -> Size:
    with control_plane() as plane:
        prepare(plane, jobs)
        with busy_controller(plane):
            with operator(plane) as running:
                made = rate(plane, jobs, running.lives)
                running.until_visited(jobs)
                processor = 1000 * (running.processor() - start) / jobs
                memory = running.memory()
            with operator(plane) as again:
                restart = again.until_visited(jobs)
    with control_plane() as plane:
        bare = sent_only(plane, jobs)
    return Size(jobs, made, bare, processor, memory, restart)


def growth(sizes: Sequence[int], plot: Path | None) -> Iterator[Measure]:
    """All of it at each of `sizes`, in ascending order; drawn to `plot` (PNG or SVG)."""
    found, start = [], _start()
    for jobs in sizes:
        one = _measure(jobs, start)
        found.append(one)
        name = f"{jobs:,} TrainingJobs"
        title = f"{name}: Jobs created, beside bare"
        yield compare(title, "Jobs/s", [one.made], [one.bare], goal=None)
        yield single("  processor time a job", "ms", [one.processor])
        yield single("  memory", "MB", [one.memory])
        yield single("  restart", "s", [one.restart])
    if plot:
        draw(found, plot)


def draw(found: Sequence[Size], plot: Path) -> None:
    """Four small diagrams over the number of TrainingJobs."""
    # Only this needs it: the other subjects run where it is not installed.
    from matplotlib.figure import Figure

    jobs = [one.jobs for one in found]
    figure = Figure(figsize=(9, 6), layout="constrained")
    speed, processor, memory, restart = figure.subplots(2, 2).flat
    speed.plot(jobs, [one.made for one in found], "o-", label="operator")
    speed.plot(
        jobs, [one.bare for one in found], "s--", color="grey", label="the same writes alone"
    )
    speed.legend()
    processor.plot(jobs, [one.processor for one in found], "o-")
    memory.plot(jobs, [one.memory for one in found], "o-")
    restart.plot(jobs, [one.restart for one in found], "o-")
    for axes, title in (
        (speed, "Jobs created a second"),
        (processor, "operator's processor time a job, ms"),
        (memory, "operator's memory, MB"),
        (restart, "restart until all were visited, s"),
    ):
        axes.set_title(title)
        axes.set_xlabel("TrainingJobs")
        axes.set_xscale("log")
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
        axes.grid(alpha=0.3)
    plot.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(plot)
