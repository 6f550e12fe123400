"""Segmentation as a kind of task. Light: torch, smp and OpenCV are imported where they are used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kubeseg_types.trainer import TrainerConfig

if TYPE_CHECKING:
    import torch

    from kubeseg_trainer.tasks.segmentation.check.scan import Checked
    from kubeseg_trainer.tasks.segmentation.network.beginning import Beginning
    from kubeseg_trainer.tasks.segmentation.task import SegmentationTask


class Segmentation:
    """Images and masks from the workspace."""

    loader_modules = ("kubeseg_trainer.tasks.segmentation.data.samples",)
    packages = ("segmentation-models-pytorch", "timm", "albumentations", "onnxruntime")

    def examine(
        self,
        workspace: Path,
        config: TrainerConfig,
        *,
        progress: Callable[[int, int], None],
        report_folder: Path | None,
    ) -> Checked:
        """Look at every file of the data set."""
        from kubeseg_trainer.tasks.segmentation.check.scan import Purpose, check_data_set

        return check_data_set(
            workspace,
            config.dataset,
            Purpose.of(config),
            progress=progress,
            report_folder=report_folder,
        )

    def warnings(self, examined: Checked) -> Sequence[str]:
        """Some of each kind."""
        from kubeseg_trainer.tasks.segmentation.check.report import some_of_each_kind

        return some_of_each_kind(examined.warnings)

    def refuse_early(self, config: TrainerConfig, bits: int | None = None) -> None:
        """ConfigurationError where the network can't be built or can't take the image size, or the
        augmentation is none; with the images' `bits`, also where it can't be applied to them.
        """
        from kubeseg_trainer.tasks.segmentation.data.augment import transforms_for, tried_transforms
        from kubeseg_trainer.tasks.segmentation.network.network import padded_side

        training = config.training
        padded_side(config.model, training.image_size)
        if bits is None:
            transforms_for(training.augmentation, training.image_size)
        else:
            tried_transforms(training, config.model.in_channels, bits)

    def build(
        self, examined: Checked, config: TrainerConfig, device: torch.device
    ) -> SegmentationTask:
        """The task over this data set."""
        from kubeseg_trainer.tasks.segmentation.task import SegmentationTask

        return SegmentationTask(config, examined, device)

    def find_beginning(
        self, workspace: Path, config: TrainerConfig, beat: Callable[[], None]
    ) -> Beginning:
        """The encoder's pretrained weights, or another run's."""
        from kubeseg_trainer.tasks.segmentation.network.beginning import find_beginning

        return find_beginning(workspace, config, beat)

    def begin(self, task: SegmentationTask, beginning: Beginning, config: TrainerConfig) -> None:
        """Put them into the network."""
        from kubeseg_trainer.tasks.segmentation.network.beginning import begin

        begin(task.network, beginning, config)

    def decode_ahead(
        self,
        task: SegmentationTask,
        scratch: Path | None,
        *,
        progress: Callable[[str, int, int], None],
        check: Callable[[], None],
    ) -> None:
        """Make the node's decoded cache, where it isn't there."""
        task.decode_ahead(scratch, progress=progress, check=check)


KIND = Segmentation()
