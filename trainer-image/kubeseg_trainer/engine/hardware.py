"""The machine: threads, device, precision, loader processes, and what run.json says of them."""

from __future__ import annotations

import math
import os
import platform
import resource
from pathlib import Path
from typing import Any

import torch

from kubeseg_trainer.errors import ConfigurationError
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


def set_threads() -> int:
    """Let torch use the cores there are, or OMP_NUM_THREADS; returns how many."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    threads = int(wanted) if wanted.isdecimal() and int(wanted) > 0 else usable_cores()
    torch.set_num_threads(threads)
    return threads


def choose_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def wants_bfloat16(training: Training, device: torch.device) -> bool:
    """Whether forward passes run in bfloat16; Auto: where the GPU computes with it natively."""
    if training.precision == "Auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if training.precision == "BFloat16" and device.type == "cuda":
        if not torch.cuda.is_bf16_supported():
            raise ConfigurationError(
                "spec.training.precision: must be Auto or Float32: this GPU has no bfloat16"
            )
        return True
    return training.precision == "BFloat16"


def loader_workers(device: torch.device) -> int:
    """Processes that decode.

    On a CPU they would take the cores that the network needs: only where there are plenty.
    """
    cores = usable_cores()
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
