"""Several processes: what `Group` promises, over gloo (and nccl between GPUs).

Gradients are added up after the backward pass, not during it as DistributedDataParallel does.
What that buys: sums weighted by the samples that each rank really had, ranks without a sample in
a last batch, parameters that get no gradient, tasks that need no wrapped network, and a step that
every rank can still give up together (a signal, memory) before anything of it counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.distributed import (  # type: ignore[attr-defined] # public, but not typed as such
    PrefixStore,
    Store,
)

from kubeseg_trainer.engine.group import Group
from kubeseg_trainer.engine.peers import Peers
from kubeseg_trainer.engine.signals import StopRequest
from kubeseg_trainer.engine.task import Sums
from kubeseg_trainer.errors import InterruptionError, PeerError
from kubeseg_trainer.placement import Placement
from kubeseg_types.exit_codes import ExitCode

#: Values in one message: 32 MiB of float32, so that one is under way while the next is packed.
BUCKET = 8 * 2**20
#: `Peers` notices who is gone; this only ends what it can't see, after the longest export.
_TIMEOUT = timedelta(hours=24)
#: Seconds to learn which rank broke a collective.
_REASON = 5.0


def _gloo(place: Placement, store: Store) -> Any:
    """Gloo, listening on this process's own address: `init_process_group` can't be told one."""
    kind: Any = dist.ProcessGroupGloo
    options = kind._Options()  # noqa: SLF001 - the one way to name an address
    options._devices = [kind.create_device(hostname=place.address)]  # noqa: SLF001 - likewise
    options._timeout = _TIMEOUT  # noqa: SLF001 - likewise
    return kind(PrefixStore("gloo", store), place.rank, place.size, options)


class Ranks(Group):
    """One of several processes."""

    def __init__(self, place: Placement, store: Store, peers: Peers) -> None:
        self.rank, self.size = place.rank, place.size
        self.local_rank, self.local_size = place.local_rank, place.local_size
        self._store = store
        self._peers = peers
        self._gloo = _gloo(place, store)
        self._nccl = False
        self._stopped = False

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Turns a broken collective into PeerError, with the reason where there is one."""
        try:
            yield
        except RuntimeError as error:
            loss = self._peers.why(_REASON)
            if loss is not None:
                raise PeerError(loss.code, loss.sentence) from error
            first = str(error).splitlines()[0]
            raise PeerError(
                ExitCode.INTERRUPTED, f"the connection between the processes broke: {first}"
            ) from error

    def _reduce(self, tensor: Tensor, how: dist.ReduceOp.RedOpType) -> Any:
        if self._nccl and tensor.device.type == "cuda":
            return dist.all_reduce(tensor, how, async_op=True)
        options = dist.AllreduceOptions()
        options.reduceOp = dist.ReduceOp(how)
        return self._gloo.allreduce([tensor], options)

    def _broadcast(self, tensor: Tensor) -> None:
        self._gloo.broadcast([tensor], dist.BroadcastOptions()).wait()

    # -- agreeing ----------------------------------------------------------------------------

    def maxima(self, values: Sequence[int]) -> list[int]:
        """The largest of each value over all ranks."""
        with self._together():
            tensor = torch.tensor(values, dtype=torch.int64)
            self._reduce(tensor, dist.ReduceOp.MAX).wait()
            return [int(value) for value in tensor.tolist()]

    @property
    def stopped(self) -> bool:
        """Whether all ranks have agreed to stop, at the same place."""
        return self._stopped

    def check_stop(self, stop: StopRequest) -> None:
        """InterruptionError on all ranks where a signal has come to any."""
        asked = self.max(self.rank + 1 if stop.requested else 0) - 1
        if asked >= 0:
            self._stopped = True
            stop.check()
            raise InterruptionError(f"interrupted together with rank {asked}")

    def share(self, value: Any) -> Any:
        """Rank 0's `value` (JSON), on all ranks; the others' is ignored."""
        data = self._share_bytes(json.dumps(value).encode() if self.leads else b"")
        return json.loads(data)

    def share_tensors(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rank 0's tensors, on the CPU of all ranks; the others' are ignored."""
        data = b""
        if self.leads:
            data = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
        return load(self._share_bytes(data))

    def _share_bytes(self, data: bytes) -> bytes:
        with self._together():
            length = self.max(len(data))
            # A copy: torch wants to be able to write where it reads.
            values = np.zeros(length, np.uint8)
            if self.leads:
                values[:] = np.frombuffer(data, np.uint8)
            if length:
                self._broadcast(torch.from_numpy(values))
            return values.tobytes()

    # -- adding up ---------------------------------------------------------------------------

    def attach(self, device: torch.device, *, own: bool) -> None:
        """Compute on `device` from here on; nccl where every process has a GPU of its own."""
        lacking = self.any(device.type != "cuda" or not own)
        if lacking or not dist.is_nccl_available():
            return
        with self._together():
            dist.init_process_group(
                "nccl",
                store=PrefixStore("nccl", self._store),
                rank=self.rank,
                world_size=self.size,
                timeout=_TIMEOUT,
                device_id=device,
            )
        self._nccl = True

    def _add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace these tensors by their sums over all ranks, in few messages."""
        buckets: list[list[Tensor]] = []
        filled: dict[torch.dtype, tuple[int, list[Tensor]]] = {}
        for tensor in tensors:
            count, bucket = filled.get(tensor.dtype, (BUCKET, []))
            if count + tensor.numel() > BUCKET:
                count, bucket = 0, []
                buckets.append(bucket)
            bucket.append(tensor)
            filled[tensor.dtype] = (count + tensor.numel(), bucket)
        with self._together(), torch.no_grad():
            begun = []
            for bucket in buckets:
                flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
                begun.append((bucket, flat, self._reduce(flat, dist.ReduceOp.SUM)))
            for bucket, flat, work in begun:
                work.wait()
                start = 0
                for tensor in bucket:
                    part = flat[start : start + tensor.numel()]
                    tensor.copy_(part.view(tensor.shape))
                    start += tensor.numel()

    def total(self, sums: Sums) -> Sums:
        """The sums of all ranks, on all ranks."""
        # On the CPU: float64 stays exact there on every device.
        parts = [value.detach().cpu().clone() for value in sums]
        self._add_up(parts)
        return Sums(*(part.to(old.device) for part, old in zip(parts, sums, strict=True)))

    def gather(self, sums: Sums) -> Sums:
        """The sums of all ranks on rank 0, nothing on the others: the total stays the same."""
        added = self.total(sums)
        return added if self.leads else Sums.zero(torch.zeros_like(sums.counts))

    def reduce_step(self, network: nn.Module, before: Sequence[Tensor], share: float) -> None:
        """Make a step's gradients and buffers those of all ranks together."""
        parameters = [p for p in network.parameters() if p.requires_grad]
        # A rank without a sample has no gradients; a parameter that has one nowhere keeps none.
        anywhere = self.maxima([int(p.grad is not None) for p in parameters])
        gradients = []
        for parameter, exists in zip(parameters, anywhere, strict=True):
            if exists:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
        changes = [
            (now.detach().double() - old.double()).to(_exact(now)) * share
            for now, old in zip(network.buffers(), before, strict=True)
        ]
        self._add_up([*gradients, *changes])
        with torch.no_grad():
            for now, old, change in zip(network.buffers(), before, changes, strict=True):
                mean = change if now.is_floating_point() else change.round()
                now.copy_((old.to(change.dtype) + mean).to(now.dtype))

    # -- the end -----------------------------------------------------------------------------

    def leave(self, code: ExitCode, text: str) -> None:
        """Tell the others how this rank ends; what all have agreed on is no news to them."""
        agreed = code == ExitCode.INTERRUPTED and self._stopped
        self._peers.leave(ExitCode.SUCCESS if agreed else code, text)
        if self._nccl and (agreed or code == ExitCode.SUCCESS):
            dist.destroy_process_group()


def _exact(buffer: Tensor) -> torch.dtype:
    """What a buffer's change is added up in: integers (numbers of batches) need more digits."""
    return buffer.dtype if buffer.is_floating_point() else torch.float64
