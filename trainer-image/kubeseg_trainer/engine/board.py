"""What the trainer tells others about itself while it runs: one snapshot, and its changes."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from kubeseg_trainer.files import now
from kubeseg_types.trainer import Progress, TrainerConfig

log = logging.getLogger(__name__)

#: No answer is held back for longer.
MAX_WAIT = 60.0
#: Notes kept, the newest.
MAX_NOTES = 16


class Board:
    """Holds the newest `Progress`; threads wait on it for changes."""

    def __init__(self, config: TrainerConfig, *, attempt: int, start: int) -> None:
        self.namespace = config.namespace
        self._condition = threading.Condition()
        self._waiting = 0
        self._progress = Progress(
            seq=1,
            job=config.job,
            uid=config.uid,
            attempt=attempt,
            start=start,
            state="Starting",
            epoch=0,
            epochs=config.training.epochs,
            step=0,
            steps_per_epoch=0,
            generation=config.generation,
            batch_size=config.training.batch_size,
            accumulate=config.training.accumulate,
            updated=now(),
        )

    @property
    def progress(self) -> Progress:
        """The newest snapshot."""
        return self._progress

    def update(self, *, notify: bool = False, **fields: Any) -> None:
        """Change fields of the snapshot; `notify` where those who wait should hear of it."""
        with self._condition:
            if notify:
                fields["seq"] = self._progress.seq + 1
            self._progress = self._progress.model_copy(update={**fields, "updated": now()})
            if notify:
                self._condition.notify_all()

    def note(self, text: str) -> None:
        """Tell, in the log and to whoever asks, what the trainer changed by itself to go on."""
        log.warning("%s", text)
        with self._condition:
            notes = [*(note for note in self._progress.notes if note != text), text]
        self.update(notify=True, notes=notes[-MAX_NOTES:])

    def wait(self, seq: int, seconds: float) -> Progress:
        """The snapshot as soon as its `seq` is above this one, at the latest after `seconds`."""
        with self._condition:
            self._waiting += 1
            try:
                self._condition.wait_for(
                    lambda: self._progress.seq > seq, timeout=min(max(seconds, 0.0), MAX_WAIT)
                )
                return self._progress
            finally:
                self._waiting -= 1
                self._condition.notify_all()

    def drain(self, seconds: float) -> None:
        """Let those who wait get their answer before the process ends."""
        deadline = time.monotonic() + seconds
        with self._condition:
            self._condition.notify_all()
            self._condition.wait_for(
                lambda: self._waiting == 0, timeout=max(0.0, deadline - time.monotonic())
            )
