"""The processes that train together, as the rest of the engine sees them. Light: no torch.

One process is a group, too: `Group` is that, and everything that needs others does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from kubeseg_trainer.engine.signals import StopRequest
    from kubeseg_trainer.engine.task import Sums
    from kubeseg_types.exit_codes import ExitCode


class Group:
    """All processes of a training. This one is alone.

    What a method says about ranks holds for any number of them. Each must be called by all ranks,
    in the same order: a rank that leaves one out lets the others wait.
    """

    rank = 0
    size = 1
    #: Which of how many on this machine.
    local_rank = 0
    local_size = 1

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which alone writes, serves and decides."""
        return self.rank == 0

    # -- agreeing ----------------------------------------------------------------------------

    def maxima(self, values: Sequence[int]) -> list[int]:
        """The largest of each value over all ranks."""
        return list(values)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank."""
        return bool(self.maxima([int(flag)])[0])

    def max(self, value: int) -> int:
        """The largest value of any rank."""
        return self.maxima([value])[0]

    @property
    def stopped(self) -> bool:
        """Whether all ranks have agreed to stop, at the same place."""
        return True

    def meet(self) -> None:
        """Wait until all ranks are here."""
        self.maxima([0])

    def check_stop(self, stop: StopRequest) -> None:
        """InterruptionError on all ranks where a signal has come to any."""
        stop.check()

    def share(self, value: Any) -> Any:
        """Rank 0's `value` (JSON), on all ranks; the others' is ignored."""
        return value

    def share_tensors(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rank 0's tensors, on the CPU of all ranks; the others' are ignored."""
        return tensors

    # -- adding up ---------------------------------------------------------------------------

    def attach(self, device: torch.device, *, own: bool) -> None:
        """Compute on `device` from here on; `own`: no other process does."""

    def total(self, sums: Sums) -> Sums:
        """The sums of all ranks, on all ranks."""
        return sums

    def gather(self, sums: Sums) -> Sums:
        """The sums of all ranks on rank 0, nothing on the others: the total stays the same."""
        return sums

    def reduce_step(self, network: nn.Module, before: Sequence[Tensor], share: float) -> None:
        """Make a step's gradients and buffers those of all ranks together.

        Gradients (already weighted by their part of the step's samples) are added; `before` are
        the network's buffers as the step began, whose changes are averaged by `share`, the part
        of the step's samples that this rank has had.
        """

    # -- the end -----------------------------------------------------------------------------

    def leave(self, code: ExitCode, text: str) -> None:
        """Tell the others how this rank ends; `code` and `text` are its own ending."""


ALONE = Group()
