"""The machine: threads, device, loader processes, and what run.json says of them."""

from __future__ import annotations

import math
import os
import platform
import resource
from pathlib import Path
from typing import Any

import cv2
import torch

from kubeseg_types.training import Training


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Cores that the cgroup allows, or None where it sets no limit."""
    try:
        quota, period = (root / "cpu.max").read_text().split()[:2]
    except (OSError, ValueError):
        try:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota == "max" or int(quota) <= 0:
        return None
    return int(quota) / int(period)


def usable_cores() -> int:
    """Cores that this process may use: by affinity and by its cgroup."""
    cores = len(os.sched_getaffinity(0))
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        # No such file, or the word "max".
        return None


def free_memory(
    root: Path = Path("/sys/fs/cgroup"), meminfo: Path = Path("/proc/meminfo")
) -> int | None:
    """Bytes that can still be taken: of the machine, or of the cgroup where that is less.

    None where neither can be read.
    """
    left = []
    for limit, usage, stat in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        most, used = _number(root / limit), _number(root / usage)
        if most is not None and used is not None:
            # Pages of files that nobody has touched lately are given up when memory is asked for.
            left.append(most - used + _entry(root / stat, "inactive_file"))
    available = _entry(meminfo, "MemAvailable:") * 1024
    if available:
        left.append(available)
    return max(0, min(left)) if left else None


def _entry(file: Path, name: str) -> int:
    """The number after `name` in a file of lines, or 0."""
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return 0
    return next((int(words[1]) for words in lines if words[:1] == [name]), 0)


def set_threads(processes: int = 1) -> int:
    """Let torch use its share of the cores, or OMP_NUM_THREADS; returns how many.

    `processes` train on this machine.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    share = max(1, usable_cores() // processes)
    threads = int(wanted) if wanted.isdecimal() and int(wanted) > 0 else share
    torch.set_num_threads(threads)
    # Its pieces are too small to be worth waiting for several threads.
    cv2.setNumThreads(0)
    return threads


def choose_device(local_rank: int = 0) -> torch.device:
    """The GPU of the process `local_rank` of this machine where there is one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def shares_gpu(device: torch.device, processes: int) -> bool:
    """Whether several of the `processes` of this machine compute on this GPU."""
    return device.type == "cuda" and processes > torch.cuda.device_count()


def set_reproducible(training: Training, device: torch.device) -> None:
    """Speed, or with `deterministic` the same result each time; before the GPU computes anything.

    RuntimeError later, from an operation that has no deterministic form on the device.
    """
    if training.deterministic:
        # Read when cuBLAS starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        # Nothing here reads memory that it hasn't written: filling it costs, and shows nothing.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.deterministic = True
    elif device.type == "cuda":
        # Sizes don't change from step to step: the fastest convolution is worth looking for.
        torch.backends.cudnn.benchmark = True
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")


def loader_workers(device: torch.device, processes: int = 1) -> int:
    """Processes that decode, for each of the `processes` that train on this machine.

    On a CPU they would take the cores that the network needs: only where there are plenty.
    """
    cores = usable_cores() // processes
    if device.type == "cuda":
        return max(0, min(8, cores - 1))
    return 0 if cores < 4 else min(4, cores // 4)


def memory_in_use(device: torch.device) -> float:
    """Largest memory so far, in bytes: of the GPU, else of this process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def describe(device: torch.device) -> dict[str, Any]:
    """What run.json says about the machine."""
    result: dict[str, Any] = {
        "device": device.type,
        "machine": platform.machine(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        result["gpu"] = torch.cuda.get_device_name(device)
    return result
