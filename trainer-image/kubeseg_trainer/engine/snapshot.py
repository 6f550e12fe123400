"""What tensors hold at one moment, for someone who writes it down while they change again."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Snapshot:
    """Copies in host memory, in buffers that are kept from one time to the next."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}
        self._copied: torch.cuda.Event | None = None

    def take(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copies of `tensors`, valid until the next `take`; in full once `ready` has returned.

        On a CPU one pass over memory, in each tensor's own format. From a GPU into page-locked
        memory, without waiting: what the GPU is given to do later comes after the copies. Tensors
        that share their memory share their copy.
        """
        taken: dict[str, Tensor] = {}
        seen: dict[tuple[object, ...], Tensor] = {}
        on_gpu = False
        for name, value in tensors.items():
            tensor = value.detach()
            place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
            if tensor.numel() and place in seen:
                taken[name] = seen[place]
                continue
            buffer = self._buffers.get(name)
            if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
                buffer = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
                self._buffers[name] = buffer
            buffer.copy_(tensor, non_blocking=True)
            on_gpu = on_gpu or tensor.is_cuda
            taken[name] = seen[place] = buffer
        self._copied = None
        if on_gpu:
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call] # torch's
            self._copied.record()
        return taken

    def ready(self) -> None:
        """Wait until the copies from a GPU are there."""
        if self._copied is not None:
            self._copied.synchronize()
