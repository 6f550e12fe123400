"""torch.compile of a network, where it works, for the batches that are worth it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn


def missing_compiler(device: torch.device) -> str | None:
    """Why nothing can be compiled here, or None.

    On a CPU torch writes C++, on a GPU Triton builds its launchers in C.
    """
    variable, names = (
        ("CC", ("gcc", "clang")) if device.type == "cuda" else ("CXX", ("g++", "clang++"))
    )
    wanted = os.environ.get(variable)
    if any(shutil.which(name) for name in ((wanted,) if wanted else names)):
        return None
    return (
        f"there is no compiler ({wanted or ' or '.join(names)}): use an image that has one, or "
        f"name it in {variable}"
    )


class Compiled:
    """The forward pass of `network` compiled in place: its names, and so its files, stay.

    Only batches of `sizes` samples run compiled. Each other size (an epoch's last batches) would
    cost another compilation of up to minutes, and runs as it would without.
    """

    def __init__(self, network: nn.Module, sizes: Collection[int]) -> None:
        self._network = network
        self.sizes = frozenset(sizes)
        #: Whether a compiled pass has succeeded.
        self.proven = False
        network.compile(dynamic=False)

    def running(self, size: int) -> AbstractContextManager[Any]:
        """A context for the forward pass of a batch of `size` samples."""
        if size in self.sizes:
            return nullcontext()
        eager: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
        return eager

    def undo(self) -> None:
        """Leave the network as it was."""
        self._network._compiled_call_impl = None  # noqa: SLF001 - what compile() sets


def about_compilation(error: BaseException) -> bool:
    """Whether `error` comes from compiling, not from what is compiled."""
    # Loaded by now: torch.compile has been called.
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(error, TorchDynamoException)
