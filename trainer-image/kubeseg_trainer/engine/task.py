"""What the engine asks of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from kubeseg_types.trainer import Part

if TYPE_CHECKING:
    from kubeseg_trainer.engine.exporting import ExportRequest

Batch = Mapping[str, Tensor]


class SampleKey(NamedTuple):
    """Which sample, and in which epoch (None: as it is, without augmentation)."""

    epoch: int | None
    sample: int


class Samples(Protocol):
    """One part of the data. What comes out for a key depends on the key and the seed alone."""

    @property
    def names(self) -> Sequence[str]:
        """A name for each sample, for messages."""

    @property
    def alike(self) -> bool:
        """Whether all samples have one shape without an epoch, too: if not, each of them is a
        batch of its own in validation.
        """

    def __len__(self) -> int: ...

    def __getitem__(self, key: SampleKey) -> dict[str, Tensor]:
        """Tensors of one sample; DatasetError where it can't be read."""


class Sums(NamedTuple):
    """Sums over samples that metrics are made of, on the device."""

    #: float64, scalar: each sample's loss added up.
    loss: Tensor
    #: int64: what the task counts.
    counts: Tensor
    #: int64, scalar.
    samples: Tensor

    def plus(self, loss: Tensor, counts: Tensor, samples: int) -> Sums:
        """With a batch of `samples` samples whose mean loss is `loss`."""
        return Sums(
            self.loss + loss.detach().double() * samples,
            self.counts + counts,
            self.samples + samples,
        )

    @classmethod
    def zero(cls, counts: Tensor) -> Sums:
        """Nothing yet; `counts` gives shape and device."""
        return cls(
            torch.zeros((), dtype=torch.float64, device=counts.device),
            torch.zeros_like(counts),
            torch.zeros((), dtype=torch.int64, device=counts.device),
        )


class Task(Protocol):
    """Data, network, loss and metrics of one kind of training."""

    @property
    def network(self) -> nn.Module:
        """The network in training."""

    @property
    def train(self) -> Samples:
        """Samples to train on."""

    @property
    def validation(self) -> Samples:
        """Samples to validate on."""

    @property
    def test(self) -> Samples | None:
        """Samples for the evaluation at the end, or None."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes, by label."""

    @property
    def fingerprint(self) -> str:
        """Changes when the samples do: a position within an epoch fits its data only."""

    @property
    def content(self) -> str:
        """Changes when anything in the data's files does."""

    def new_counts(self) -> Tensor:
        """Zero counts, int64, on the device."""

    def step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean loss over the batch's samples, with its graph, and the batch's counts."""

    def part(self, loss: float, counts: Tensor, samples: int) -> Part:
        """Metrics of summed counts (on the CPU)."""

    def draw(self, count: int, epoch: int) -> Mapping[str, bytes]:
        """Pictures (file name → content) of what the network, in evaluation mode, makes of `count`
        validation samples: the same ones each time. Nothing where the task has none to show.
        """

    def metadata(self, epoch: int) -> dict[str, str]:
        """What a weights file says about itself."""

    def export(self, folder: Path, request: ExportRequest) -> dict[str, Any]:
        """Fill the empty `folder` with a model that others can open, among it a copy of the weights
        as model.safetensors; returns what run.json shall say of it.
        """
