"""Our trainer and the plain script as processes of their own, on the same data."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import ENVIRONMENT, ROOT
from bench.data import Data


@dataclass(frozen=True)
class Setting:
    """What both train."""

    encoder: str = "resnet18"
    side: int = 192
    batch: int = 8
    epochs: int = 3
    seed: int = 0
    #: Merged into `training` of ours.
    training: dict[str, Any] = field(default_factory=dict)


class Place:
    """A workspace of its own, with the data set linked into it."""

    def __init__(self, folder: Path, data: Data) -> None:
        self.workspace = folder / "workspace"
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self._data = data
        (self.workspace / "datasets").mkdir(parents=True)
        (self.workspace / "datasets" / data.name).symlink_to(data.folder)

    def config(self, job: str, setting: Setting, **more: Any) -> Path:
        """A configuration file for `job`."""
        document: dict[str, Any] = {
            "job": job,
            "uid": "bench",
            "model": {"architecture": "Unet", "encoder": setting.encoder},
            "dataset": {"name": self._data.name},
            "training": {
                "epochs": setting.epochs,
                "batchSize": setting.batch,
                "imageSize": setting.side,
                "seed": setting.seed,
                **setting.training,
            },
            **more,
        }
        if self._data.void is not None:
            document["dataset"]["ignoreIndex"] = self._data.void
        file = self.workspace.parent / f"{job}.json"
        file.write_text(json.dumps(document))
        return file

    def command(self, config: Path) -> list[str]:
        """The command line of our trainer."""
        return [
            sys.executable, "-m", "kubeseg_trainer.cli", "train", "--config", str(config),
            "--workspace", str(self.workspace), "--scratch", str(self.scratch), "--no-server",
        ]  # fmt: skip

    def run(self, job: str) -> Path:
        """The folder of the run of `job`."""
        return self.workspace / "runs" / job / "bench"

    def history(self, job: str) -> list[dict[str, Any]]:
        """The epochs of `job` so far, as metrics.jsonl has them."""
        record = json.loads((self.run(job) / "run.json").read_text())
        lines = (self.workspace / record["metricsFile"]).read_text().splitlines()
        return [json.loads(line) for line in lines]


def ours(place: Place, job: str, setting: Setting, **more: Any) -> list[dict[str, Any]]:
    """Train `job` to its end; its epochs."""
    _call(place.command(place.config(job, setting, **more)))
    return place.history(job)


def plain(data: Data, setting: Setting, *, workers: int) -> list[dict[str, Any]]:
    """The plain script's epochs."""
    void = 255 if data.void is None else data.void
    command = [
        sys.executable, "-m", "bench.plain", "--data", str(data.folder),
        "--encoder", setting.encoder, "--side", str(setting.side), "--batch", str(setting.batch),
        "--epochs", str(setting.epochs), "--classes", str(data.classes), "--void", str(void),
        "--workers", str(workers), "--seed", str(setting.seed),
    ]  # fmt: skip
    return [json.loads(line) for line in _call(command).splitlines()]


def _call(command: Sequence[str]) -> str:
    done = subprocess.run(
        command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}"
        )
    return done.stdout


def fresh_place(folder: Path, data: Data) -> Place:
    """A place of its own below `folder`."""
    return Place(Path(tempfile.mkdtemp(dir=folder)), data)
