"""The kinds of training, by name. Light: a kind imports its libraries when it is asked to work."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    from kubeseg_trainer.engine.task import Task
    from kubeseg_types.trainer import TrainerConfig

#: name -> module whose `KIND` it is.
_KINDS = {"segmentation": "kubeseg_trainer.tasks.segmentation.kind"}
DEFAULT = "segmentation"


class TaskKind(Protocol):
    """What comes before a task can be trained: the look at its data, and what can be refused."""

    @property
    def loader_modules(self) -> Sequence[str]:
        """What loader processes need, imported once for all of them."""

    @property
    def packages(self) -> Sequence[str]:
        """Distributions whose versions run.json names, besides the engine's."""

    def examine(
        self,
        workspace: Path,
        config: TrainerConfig,
        *,
        progress: Callable[[int, int], None],
        report_folder: Path | None,
    ) -> Any:
        """Look at the data, in a thread beside the import of torch; DatasetError where it is no
        good. `progress(done, total)` may raise to break off; `report_folder` is where a list of all
        problems may go. What it returns goes to `warnings` and `build`.
        """

    def warnings(self, examined: Any) -> Sequence[str]:
        """Sentences on what is odd about the data, though it can be trained on."""

    def refuse_early(self, config: TrainerConfig, bits: int | None = None) -> None:
        """ConfigurationError for what can't work with any data; with `bits`, those of the data's
        numbers, also for what can't work with such data.
        """

    def build(self, examined: Any, config: TrainerConfig, device: torch.device) -> Task:
        """The task over what `examine` found, its network on `device`, made from the seed."""

    def find_beginning(
        self, workspace: Path, config: TrainerConfig, beat: Callable[[], None]
    ) -> Any:
        """The weights that `config` asks to begin with, which may take minutes to get: `beat` is
        called meanwhile, and may raise. ConfigurationError where they can't be had.
        """

    def begin(self, task: Any, beginning: Any, config: TrainerConfig) -> None:
        """Put what `find_beginning` found into the task's network."""

    def decode_ahead(
        self,
        task: Any,
        scratch: Path | None,
        *,
        progress: Callable[[str, int, int], None],
        check: Callable[[], None],
    ) -> None:
        """Prepare the task's data on this node, where that makes it faster.

        `progress(text, done, total)` and `check()` may raise to break it off.
        """


def task_kind(name: str = DEFAULT) -> TaskKind:
    """The kind of this name."""
    kind: TaskKind = importlib.import_module(_KINDS[name]).KIND
    return kind
