"""TensorBoard's event files: one file, which holds the whole history once."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubeseg_trainer.engine.loggers.logger import scalars
from kubeseg_types.trainer import EpochRecord

if TYPE_CHECKING:
    from tensorboardX.event_file_writer import EventsWriter

log = logging.getLogger(__name__)


class TensorBoardLogger:
    """Writes each epoch's numbers to `folder`.

    The first epoch of a start begins a new file with all epochs before it, and removes older
    files: whatever reads them finds each epoch once, also those that were done again after a
    break. The file begins with the mark of a restart, at which a TensorBoard that is open forgets
    what it has read so far.
    """

    def __init__(self, folder: Path, class_names: Sequence[str], *, start: str) -> None:
        """`start`: name of this start, which its file bears."""
        self._folder = folder
        self._class_names = class_names
        self._start = start
        self._writer: EventsWriter | None = None
        self._failed = False

    def log(self, history: Sequence[EpochRecord]) -> None:
        """Write the newest epoch; where that fails, this start writes no more of them."""
        if self._failed:
            return
        try:
            if self._writer is None:
                self._writer = self._begin()
                self._write(self._writer, history)
                self._remove_others()
            else:
                self._write(self._writer, history[-1:])
        except OSError as error:
            self._failed = True
            log.warning(
                "TensorBoard's files in %s can't be written: %s; the training goes on without "
                "them, and its next start writes them anew",
                self._folder,
                error.strerror or error,
            )

    def close(self, state: str) -> None:  # noqa: ARG002 - others make use of it
        """Close the file; all is written already."""
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()

    def _begin(self) -> EventsWriter:
        # Not tensorboardX's SummaryWriter: where its thread fails, it makes its caller wait.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._folder.mkdir(parents=True, exist_ok=True)
        writer = EventsWriter(str(self._folder / "events"), f".{self._start}")
        restart = SessionLog(status=SessionLog.START)
        writer.write_event(Event(wall_time=time.time(), step=1, session_log=restart))
        return writer

    def _write(self, writer: EventsWriter, records: Iterable[EpochRecord]) -> None:
        for event in map(self._event, records):
            writer.write_event(event)
        writer.flush()

    def _event(self, record: EpochRecord) -> Any:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        event = Event(wall_time=datetime.fromisoformat(record.time).timestamp(), step=record.epoch)
        for name, value in scalars(record, self._class_names).items():
            event.summary.MergeFrom(Summary(value=[Summary.Value(tag=name, simple_value=value)]))
        return event

    def _remove_others(self) -> None:
        for path in self._folder.glob("events.out.tfevents.*"):
            if not path.name.endswith(f".{self._start}"):
                path.unlink(missing_ok=True)
