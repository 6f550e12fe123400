"""The precision of forward passes: as asked for, else the one that proves faster."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor

from kubeseg_trainer.errors import ConfigurationError
from kubeseg_types.training import Training

Precision = Literal["Float32", "BFloat16", "Float16"]

_HALF: dict[Precision, torch.dtype] = {"BFloat16": torch.bfloat16, "Float16": torch.float16}
#: How much faster half precision must be to be taken: below it, noise would decide.
GAIN = 1.1
#: Seconds that a trial takes at most, beyond the first passes of each candidate.
TRIAL_SECONDS = 5.0
_ROUNDS = 4
#: What a checkpoint holds of a scaler.
SCALER_TENSORS = frozenset({"scale", "grown", "skipped"})


def supports(precision: Precision, device: torch.device) -> bool:
    """Whether `device` computes with this precision without emulating it."""
    if precision == "Float32":
        return True
    if device.type == "cuda":
        if precision == "BFloat16":
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
        return bool(torch.cuda.get_device_capability(device) >= (7, 0))
    if precision == "BFloat16":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 - no other way
    return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())  # noqa: SLF001 - likewise


def asked_for(training: Training, device: torch.device) -> Precision | None:
    """What the spec names, None for Auto; ConfigurationError where the device can't do it."""
    wanted = training.precision
    if wanted == "Auto":
        return None
    # On a CPU bfloat16 works everywhere, if slowly; float16 without support is no use.
    emulated = wanted == "BFloat16" and device.type == "cpu"
    if not supports(wanted, device) and not emulated:
        what = "this GPU" if device.type == "cuda" else "this CPU"
        raise ConfigurationError(
            f"spec.training.precision: must be Auto or Float32 here, not {wanted}: {what} "
            f"doesn't compute in {wanted.lower()}"
        )
    return wanted


def worth_a_trial(device: torch.device) -> Precision | None:
    """The half precision that may pay on `device`.

    On a CPU only where it has instructions for it: matrix units (AMX), or dot products of vectors
    (AVX512_BF16: Unet-resnet18 at 192 pixels took 0.55 of the time). Others took twice as long.
    """
    if device.type == "cuda":
        # Bfloat16 has float32's range: nothing to scale, nothing to overflow.
        return next((p for p in ("BFloat16", "Float16") if supports(p, device)), None)
    has = torch.cpu.get_capabilities()
    return "BFloat16" if has.get("amx_bf16") or has.get("avx512_bf16") else None


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """A context whose forward passes have this precision."""
    if precision == "Float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_HALF[precision])


def faster(seconds: dict[Precision, float], candidate: Precision) -> Precision:
    """The choice from measured `seconds` a pass."""
    return candidate if seconds["Float32"] >= GAIN * seconds[candidate] else "Float32"


def measure(
    candidate: Precision, device: torch.device, run: Callable[[Precision], None]
) -> dict[Precision, float]:
    """Seconds of the fastest `run` in Float32 and in `candidate`, taken in turns."""
    both: tuple[Precision, Precision] = ("Float32", candidate)
    # On a GPU kernels are looked for and compiled in the first two passes.
    for precision in both * (2 if device.type == "cuda" else 1):
        run(precision)
    seconds: dict[Precision, float] = dict.fromkeys(both, float("inf"))
    end = time.monotonic() + TRIAL_SECONDS
    for _ in range(_ROUNDS):
        for precision in both:
            _finish(device)
            began = time.monotonic()
            run(precision)
            _finish(device)
            seconds[precision] = min(seconds[precision], time.monotonic() - began)
        if time.monotonic() > end:
            break
    return seconds


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Scaler:
    """Scales losses so that float16 gradients don't vanish, and skips steps that overflow."""

    #: Steps skipped in a row after which it is no longer the scale that is wrong: it has fallen
    #: from 65,536 to below 0.1 by then.
    LIMIT = 20

    def __init__(self, device: torch.device) -> None:
        self._scaler = torch.amp.GradScaler(device.type)
        # Made now, not at the first loss: a checkpoint before it holds the same names.
        self._scaler.scale(torch.zeros((), device=device))
        self._skipped = torch.zeros((), dtype=torch.int64, device=device)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of the scaled loss."""
        torch.autograd.backward(self._scaler.scale(loss))

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Bring the gradients to their true size, for clipping."""
        self._scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """One step of the optimizer, or none where a gradient is not finite."""
        before = self._value("_scale").clone()
        self._scaler.step(optimizer)
        self._scaler.update()
        # Without asking for the value, which would wait for the device.
        lower = self._value("_scale") < before
        self._skipped = torch.where(lower, self._skipped + 1, 0)

    def skipped(self) -> int:
        """Steps skipped in a row up to now."""
        return int(self._skipped)

    def tensors(self) -> dict[str, Tensor]:
        """The state, by name."""
        return {
            "scale": self._value("_scale"),
            "grown": self._value("_growth_tracker"),
            "skipped": self._skipped,
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` gave."""
        self._value("_scale").copy_(tensors["scale"])
        self._value("_growth_tracker").copy_(tensors["grown"])
        self._skipped = tensors["skipped"].to(self._skipped.device, copy=True)

    def _value(self, name: str) -> Tensor:
        # As tensors, which its state_dict would wait for the device to turn into numbers.
        value: Tensor = getattr(self._scaler, name)
        return value
