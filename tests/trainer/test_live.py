"""A running trainer: what it tells, and what may change under it."""

from __future__ import annotations

import json
import re
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from kubeseg_trainer.engine.server import Server
from kubeseg_types.exit_codes import ExitCode
from kubeseg_types.trainer import Progress
from tests.support.trainings import Place, at_beat, config_of, terminate

IMAGES = 9
#: Beats until the first step, where nothing is cached yet: each image is looked at, then decoded.
SCANNED = 2 * IMAGES
#: Beats of an epoch: 3 steps, 2 of validation, one of the checkpoint (assembly adds one at first).
IN_FIRST_EPOCH = SCANNED + 3


@pytest.mark.parametrize(
    ("change", "epochs", "why"),
    [
        ({"training": {"epochs": 3}}, 3, "all 3 epochs are done"),
        ({"training": {"epochs": 1}}, 1, "all 1 epochs are done"),
        ({"stop": True}, 1, "stopped on request after epoch 1"),
        (
            {"training": {"epochs": 9, "earlyStopping": {"patience": 1, "minDelta": 1.0}}},
            2,
            "stopped early",
        ),
    ],
)
def test_a_change_counts_from_the_epochs_end(
    place: Place, change: dict[str, Any], epochs: int, why: str
) -> None:
    def edit() -> None:
        place.configure(config_of(generation=2, **change))

    with at_beat(IN_FIRST_EPOCH, edit):
        assert place.train(config_of(training={"epochs": 9})) == 0
    assert len(place.history()) == epochs
    assert why in place.message()["message"]
    assert place.message()["generation"] == 2
    assert place.record().generation == 2


def test_an_older_generation_or_a_broken_file_changes_nothing(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    def older() -> None:
        place.configure(config_of(generation=4, stop=True))

    def broken() -> None:
        place.configure({"job": 1})

    for edit in (older, broken):
        # The second start finds the images decoded.
        with at_beat(IN_FIRST_EPOCH - (0 if edit is older else IMAGES), edit):
            attempt = 1 if edit is older else 2
            config = config_of(attempt=attempt, generation=5, training={"epochs": 2 * attempt})
            assert place.train(config) == 0
    assert len(place.history()) == 4
    assert "the changed configuration is not followed" in caplog.text


def test_what_cannot_change_while_it_runs_is_named_once(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    def edit() -> None:
        changed = config_of(generation=2, training={"epochs": 3, "imageSize": 64, "clip": 1.0})
        place.configure(changed)

    with at_beat(IN_FIRST_EPOCH, edit):
        assert place.train(config_of(training={"epochs": 9})) == 0
    assert len(place.history()) == 3
    told = [r.getMessage() for r in caplog.records if "can't change while it runs" in r.msg]
    assert len(told) == 1
    assert "spec.training.clip, spec.training.imageSize can't change while it runs" in told[0]


def test_a_start_with_an_older_generation_waits_for_the_newer(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert place.train(config_of(generation=7, training={"epochs": 1})) == 0
    late = threading.Timer(
        1.0, lambda: place.configure(config_of(attempt=2, generation=8, training={"epochs": 2}))
    )
    late.start()
    assert place.train(config_of(attempt=2, generation=3, training={"epochs": 5})) == 0
    late.join()
    assert len(place.history()) == 2
    assert place.message()["generation"] == 8

    monkeypatch.setattr("kubeseg_trainer.session.GENERATION_WAIT", 0.5)
    assert place.train(config_of(attempt=3, generation=3, training={"epochs": 3})) == 0
    assert len(place.history()) == 3
    assert "the checkpoint knew 8" in caplog.text


def _get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=30) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def documented() -> set[str]:
    """The trainer's metrics in the table of docs/interfaces.md."""
    text = (Path(__file__).resolve().parents[2] / "docs/interfaces.md").read_text()
    table = text.split("## Metrics")[1].splitlines()
    cells = [line.split("|")[1] for line in table if line.endswith("| trainer |")]
    return set(re.findall(r"`(kubeseg_\w+)`", " ".join(cells)))


def test_the_server_tells_each_epoch_and_the_end(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Server] = []
    real = Server.start

    def start(self: Server) -> None:
        real(self)
        started.append(self)

    monkeypatch.setattr(Server, "start", start)
    seen: list[Progress] = []
    others: dict[str, tuple[int, bytes]] = {}

    def follow() -> None:
        seq = -1
        while not seen or seen[-1].state != "Finished":
            _, body = _get(f"{started[0].url}/progress?seq={seq}&wait=20")
            seen.append(Progress.model_validate_json(body))
            seq = seen[-1].seq

    follower = threading.Thread(target=follow)

    def ask() -> None:
        follower.start()
        for path in ("/healthz", "/progress?seq=x", "/nothing"):
            others[path] = _get(started[0].url + path)

    def metrics() -> None:
        others["/metrics"] = _get(started[0].url + "/metrics")

    with at_beat(2, ask), at_beat(SCANNED + 9, metrics):
        assert place.train(config_of(training={"epochs": 3}), port=0) == 0
    follower.join(timeout=30)

    assert others["/healthz"][0] == 200
    assert others["/progress?seq=x"][0] == 400
    assert others["/nothing"][0] == 404
    assert [p.seq for p in seen] == sorted({p.seq for p in seen})
    assert {p.epoch for p in seen} >= {1, 2, 3}
    last = seen[-1]
    assert (last.state, last.epoch, last.epochs) == ("Finished", 3, 3)
    assert last.class_names == ["0", "1", "2"]
    assert last.checkpoint is not None
    assert last.checkpoint.epoch == 3
    assert last.last == place.history()[-1]
    text = others["/metrics"][1].decode()
    assert 'kubeseg_epoch{job="tiny",namespace="default"} 1.0' in text
    told = set(re.findall(r"^(kubeseg_\w+)\{", text, re.MULTILINE))
    assert told == documented()
    assert 'kubeseg_batch_size{job="tiny",namespace="default"} 2.0' in text
    assert 'kubeseg_class_iou{class="0",job="tiny",namespace="default",part="val"}' in text


def test_a_training_that_hangs_ends_by_itself(place: Place) -> None:
    """In a process of its own: the watchdog ends it."""
    import subprocess
    import sys

    place.configure(config_of(training={"stallTimeout": "10s"}))
    program = (
        "import sys, time\n"
        "from kubeseg_trainer.cli import main\n"
        "from tests.support.trainings import at_beat\n"
        f"with at_beat({IN_FIRST_EPOCH}, lambda: time.sleep(100)):\n"
        "    sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["train", "--config", str(place.config_file), "--workspace", str(place.workspace)]
    arguments += ["--no-server", "--termination-log", str(place.termination_log)]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=Path(__file__).resolve().parents[2],
        timeout=60,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == ExitCode.STALLED, done.stdout + done.stderr
    words = place.message()["message"]
    assert "spec.training.stallTimeout is 10s. It stood in " in words
    assert "from scratch" in words.partition("Its last lines: ")[2], words
    assert "Current thread" in done.stderr or "Thread 0x" in done.stderr
    assert place.record().reason == "Stalled"


def test_the_interrupted_trainer_says_where_it_stopped(place: Place) -> None:
    with at_beat(SCANNED + 10, terminate):
        assert place.train(config_of(training={"epochs": 5})) == ExitCode.INTERRUPTED
    message = place.message()
    assert message["message"].startswith("interrupted by SIGTERM")
    assert message["checkpoint"]["epoch"] == message["epoch"] == 1
    assert json.loads((place.run_folder() / "run.json").read_text())["state"] == "Interrupted"
