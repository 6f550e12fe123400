"""One thread that writes while the training goes on, one piece of work at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from kubeseg_trainer.errors import StorageError

log = logging.getLogger(__name__)

#: Seconds between two tries to write what could not be written.
RETRY = 10.0


class Writer:
    """Does steps one after the other in the background.

    A step that meets a StorageError is tried again every `RETRY` seconds, with a warning, until
    someone waits for it: then once more at once, and the error is theirs. Any other error is
    theirs too.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._awaited = threading.Event()
        self._error: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether the last piece of work is still under way."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, steps: Sequence[Callable[[], None]]) -> None:
        """Begin with `steps`. What was begun before must have been waited for."""
        assert self._thread is None, "wait for the work before"
        self._awaited.clear()
        self._thread = threading.Thread(
            target=self._work, args=(list(steps),), name="writer", daemon=True
        )
        self._thread.start()

    def wait(self) -> None:
        """Return when all is written; raises what kept it from being."""
        if self._thread is None:
            return
        self._awaited.set()
        self._thread.join()
        self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self, steps: list[Callable[[], None]]) -> None:
        try:
            for step in steps:
                self._try(step)
        # Whatever it is belongs to the one who waits.
        except BaseException as error:  # noqa: BLE001
            self._error = error

    def _try(self, step: Callable[[], None]) -> None:
        told = ""
        while True:
            last = self._awaited.is_set()
            try:
                step()
            except StorageError as error:
                if last:
                    raise
                if str(error) != told:
                    told = str(error)
                    log.warning(
                        "%s. The training goes on until the next write is due; this one is tried "
                        "again every %.0f s",
                        error,
                        RETRY,
                    )
                self._awaited.wait(RETRY)
            else:
                return
