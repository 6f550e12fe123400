"""SIGKILL at random moments, in real processes: the end is the same, bit for bit."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kubeseg_trainer.files import sha256_of
from tests.support.datasets import make_dataset
from tests.support.trainings import Place, config_of
from tests.support.zygote import Zygote

#: Dropout, random pictures, parts of steps, averages, an early stop: all that could go astray.
CONFIG: dict[str, Any] = {
    "model": {"architecture": "FPN", "encoder": "tu-test_resnet"},
    "training": {
        "epochs": 9,
        "accumulate": 2,
        "augmentation": {"preset": "Strong"},
        "clip": 1.0,
        "ema": {"decay": 0.9},
        "earlyStopping": {"patience": 3, "minDelta": 0.02},
    },
    "checkpoint": {"everyEpochs": 2, "everySeconds": 10, "keepBest": 2},
}


#: Kills of one run, after which it is left alone: half of a start is no training yet.
MOST = 8


@dataclass(frozen=True)
class Outcome:
    """All of a finished run that isn't a time or a place."""

    epochs: list[Any]
    model: str
    why: str


def _kill(process: int) -> None:
    # It may just have ended by itself.
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, signal.SIGKILL)


@dataclass
class Killer:
    """Starts trainers, and kills them."""

    zygote: Zygote
    #: Seconds that a run takes without a break, and what comes out.
    seconds: float = 0.0
    outcome: Outcome | None = None

    def run(self, place: Place, chance: random.Random | None) -> int:
        """Train to the end, with kills where there is `chance`; returns their number."""
        place.configure(config_of(**CONFIG))
        arguments = ["train", "--config", str(place.config_file), "--no-server"]
        arguments += ["--workspace", str(place.workspace)]
        arguments += ["--termination-log", str(place.termination_log)]
        kills = 0
        while True:
            workers = chance.choice([0, 0, 0, 2]) if chance else 0
            seed = chance.randrange(2**31) if chance else 0
            log = place.workspace.parent / "log"
            number = self.zygote.start(arguments, log, workers=workers, seed=seed)
            process = os.pidfd_open(number)
            timer = None
            if chance and kills < MOST:
                after = chance.uniform(0.0, 1.2 * self.seconds)
                timer = threading.Timer(after, _kill, (process,))
                timer.start()
            status = self.zygote.wait()
            if timer is not None:
                timer.cancel()
                timer.join()
            os.close(process)
            if status == 0:
                return kills
            assert status == -signal.SIGKILL, log.read_text()
            kills += 1

    def compare(self, place: Place) -> None:
        """The run at `place` has ended as the one without a break."""
        assert outcome_of(place) == self.outcome, place.workspace


def outcome_of(place: Place) -> Outcome:
    epochs = [
        (
            entry.train,
            entry.validation,
            entry.learning_rate,
            entry.step,
            entry.weights and entry.weights.sha256,
        )
        for entry in place.history()
    ]
    model = sha256_of(place.run_folder() / "model" / "model.safetensors")
    return Outcome(epochs, model, place.message()["message"])


def _place(folder: Path) -> Place:
    place = Place(folder)
    make_dataset(place.workspace, count=9)
    return place


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    with Zygote() as zygote:
        killer = Killer(zygote)
        place = _place(tmp_path_factory.mktemp("whole"))
        began = time.monotonic()
        killer.run(place, None)
        killer.seconds = time.monotonic() - began
        killer.outcome = outcome_of(place)
        assert "stopped early" in killer.outcome.why
        yield killer


@pytest.mark.slow
def test_a_killed_run_ends_as_one_without_a_break(killer: Killer, tmp_path: Path) -> None:
    kills, chance = 0, random.Random(9)
    while kills < 4:
        place = _place(tmp_path / f"killed-{kills}")
        kills += killer.run(place, chance)
        killer.compare(place)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_hundred_kills(killer: Killer, tmp_path: Path) -> None:
    kills, runs, chance = 0, 0, random.Random(100)
    while kills < 100:
        place = _place(tmp_path / f"killed-{runs}")
        kills += killer.run(place, chance)
        killer.compare(place)
        runs += 1
    print(f"{kills} kills in {runs} runs, {killer.seconds:.1f} s without a break")
