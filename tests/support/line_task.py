"""A second, tiny task: on which side of a line does a point lie. Numbers only, no file is read.

It shows that the engine knows nothing of segmentation, and counts what it is asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - everyone's name for it
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kubeseg_trainer.engine.exporting import ExportRequest
from kubeseg_trainer.engine.task import Batch, SampleKey
from kubeseg_types.trainer import Part, TrainerConfig


class Points:
    """`count` points of the plane, noisier in each epoch's own way."""

    alike = True

    def __init__(self, count: int, seed: int, *, seen: Path | None, poison: int | None) -> None:
        self._points = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))
        self._seen = seen
        self._poison = poison
        self.names = [f"point-{index}" for index in range(count)]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: SampleKey) -> dict[str, Tensor]:
        point = self._points[key.sample]
        side = (point.sum() > 0.3).long()
        if key.epoch is not None:
            noise = torch.Generator().manual_seed(1000 * key.epoch + key.sample)
            point = point + 0.1 * torch.randn(2, generator=noise)
            if self._seen is not None:
                with self._seen.open("a") as file:
                    file.write(f"{key.epoch} {key.sample}\n")
            if key.sample == self._poison:
                point = point * float("nan")
        return {"point": point, "side": side}


class Network(nn.Module):
    """Two layers, and a parameter that is never used."""

    def __init__(self, *, norm: bool, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2) if norm else nn.Identity()
        self.hidden = nn.Linear(2, 8)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(8, 2)
        self.idle = nn.Parameter(torch.ones(3))
        #: A constant that a mean over ranks must not wear away.
        self.register_buffer("scale", torch.tensor(0.1))

    def forward(self, points: Tensor) -> Tensor:
        hidden = torch.tanh(self.hidden(self.norm(points)))
        result: Tensor = self.out(self.dropout(hidden)) * self.scale
        return result


class LineTask:
    """Points, the network, cross-entropy (a mean over samples), and a confusion matrix."""

    class_names = ("below", "above")
    test = None

    def __init__(
        self, kind: LineKind, examined: int, config: TrainerConfig, device: torch.device
    ) -> None:
        self.fingerprint = self.content = f"{examined} points"
        self._device = device
        self._most = kind.most
        torch.manual_seed(config.training.seed)
        self.network: nn.Module = Network(norm=kind.norm, dropout=kind.dropout).to(device)
        self.train = Points(examined, 1, seen=kind.seen, poison=kind.poison)
        self.validation = Points(kind.validation, 2, seen=None, poison=None)

    def new_counts(self) -> Tensor:
        return torch.zeros(2, 2, dtype=torch.int64, device=self._device)

    def step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        points, sides = batch["point"].to(self._device), batch["side"].to(self._device)
        if self._most is not None and len(points) > self._most[self.network.training]:
            raise torch.OutOfMemoryError("too many points")
        scores = self.network(points)
        cells = sides * 2 + scores.argmax(dim=1)
        return F.cross_entropy(scores, sides), torch.bincount(cells, minlength=4).reshape(2, 2)

    def part(self, loss: float, counts: Tensor, samples: int) -> Part:
        right = float(counts.diagonal().sum() / counts.sum())
        return Part(
            loss=loss / samples,
            dice=right,
            iou=right,
            samples=samples,
            class_dice=[right, right],
            class_iou=[right, right],
        )

    def draw(self, count: int, epoch: int) -> dict[str, bytes]:
        return {}

    def metadata(self, epoch: int) -> dict[str, str]:
        return {"task": "line", "epoch": str(epoch)}

    def export(self, folder: Path, request: ExportRequest) -> dict[str, Any]:
        save_file(load_file(request.weights), folder / "model.safetensors", {"task": "line"})
        about = {"task": "line", "epoch": request.best.epoch}
        (folder / "config.json").write_text(json.dumps(about))
        return about


class LineKind:
    """`train` and `validation` points."""

    loader_modules: Sequence[str] = ()
    packages: Sequence[str] = ()

    def __init__(
        self,
        *,
        train: int = 11,
        validation: int = 7,
        norm: bool = False,
        dropout: float = 0.0,
        seen: Path | None = None,
        poison: int | None = None,
        most: tuple[int, int] | None = None,
    ) -> None:
        self.points = train
        self.validation = validation
        self.norm = norm
        self.dropout = dropout
        #: Each training sample that is asked for, as a line: epoch and sample.
        self.seen = seen
        #: The sample whose loss is no number.
        self.poison = poison
        #: How many points fit into memory, in validation and in training.
        self.most = most
        self.task: LineTask | None = None

    def examine(
        self,
        workspace: Path,
        config: TrainerConfig,
        *,
        progress: Callable[[int, int], None],
        report_folder: Path | None,
    ) -> int:
        return self.points

    def warnings(self, examined: int) -> Sequence[str]:
        return ()

    def refuse_early(self, config: TrainerConfig, bits: int | None = None) -> None:
        pass

    def find_beginning(
        self, workspace: Path, config: TrainerConfig, beat: Callable[[], None]
    ) -> None:
        pass

    def begin(self, task: Any, beginning: None, config: TrainerConfig) -> None:
        pass

    def decode_ahead(
        self,
        task: Any,
        scratch: Path | None,
        *,
        progress: Callable[[str, int, int], None],
        check: Callable[[], None],
    ) -> None:
        pass

    def build(self, examined: int, config: TrainerConfig, device: torch.device) -> LineTask:
        self.task = LineTask(self, examined, config, device)
        return self.task

    def digest(self) -> str:
        """Of all weights and buffers as they are now."""
        assert self.task is not None
        state = self.task.network.state_dict()
        data = b"".join(value.numpy().tobytes() for value in state.values())
        return hashlib.sha256(data).hexdigest()
