"""How fast a training is, and how long it will still take."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

#: Epochs that the estimate looks back on.
_RECENT = 5
#: Share of a training step that a sample takes in validation, until one has been measured: the
#: forward pass took 36 % of a step.
_FORWARD = 0.36
#: Seconds for the exported model at the end, in the estimate.
_EXPORT = 5.0


class Pace:
    """Measures the parts of each epoch of this start: its steps, and what comes after them
    (validation, pictures, weights, checkpoint).
    """

    def __init__(
        self, train: int, validation: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`train`, `validation`: samples of each part."""
        self._train, self._validation = train, validation
        self._clock = clock
        #: (samples, seconds) of training, and seconds after it, of recent epochs.
        self._trained: deque[tuple[int, float]] = deque(maxlen=_RECENT)
        self._rests: deque[float] = deque(maxlen=_RECENT)
        self._warm = False
        self._mark = self._began = self._rate_from = clock()
        self._ended: float | None = None
        self._first = self._rate_first = self._position = 0
        #: Seconds of the newest validation pass.
        self.validation_seconds: float | None = None

    # -- what happens ------------------------------------------------------------------------

    def begin(self, position: int) -> None:
        """An epoch's steps begin, with `position` samples of it done."""
        self._mark = self._began = self._rate_from = self._clock()
        self._first = self._rate_first = self._position = position
        self._ended = None

    def step(self, position: int) -> float:
        """A step has brought the epoch to `position`; returns the seconds since the one before."""
        seconds = self.lap()
        self._position = position
        if not self._warm:
            # The first step of a process warms everything up: no measure for the others.
            self._warm = True
            self._rate_from, self._rate_first = self._mark, position
        return seconds

    def lap(self) -> float:
        """Seconds since the last step, or since the last call."""
        before, self._mark = self._mark, self._clock()
        return self._mark - before

    def trained(self) -> None:
        """The epoch's steps are done."""
        self._ended = self._mark
        samples, seconds = self._measured()
        if samples:
            self._trained.append((samples, seconds))
        self._rate_from, self._rate_first = self._mark, self._position

    def validated(self) -> None:
        """The validation pass is done."""
        assert self._ended is not None
        self.validation_seconds = self._clock() - self._ended

    def finished(self) -> None:
        """The epoch is over, with all that is written at its end."""
        assert self._ended is not None
        self._rests.append(self._clock() - self._ended)

    # -- what follows from it ----------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Of the epoch's steps in this start, with everything between them."""
        return self._mark - self._began

    @property
    def samples_per_second(self) -> float | None:
        """Of the epoch's steps in this start."""
        done = self._position - self._first
        return done / self.seconds if done and self.seconds > 0 else None

    def left(self, *, epochs: int, position: int) -> float | None:
        """Seconds until the run ends, or None before anything could be measured.

        `epochs`: how many are not over yet; `position`: samples that the first of them has done.
        """
        if epochs <= 0:
            return _EXPORT
        each = self._seconds_per_sample()
        if each is None:
            return None
        if self._rests:
            rest = sum(self._rests) / len(self._rests)
        else:
            rest = self._validation * each * _FORWARD
        return each * (self._train * epochs - position) + rest * epochs + _EXPORT

    def _measured(self) -> tuple[int, float]:
        samples, seconds = self._position - self._rate_first, self._mark - self._rate_from
        if not samples and not self._trained:
            # A single step is all there is.
            samples, seconds = self._position - self._first, self.seconds
        return samples, seconds

    def _seconds_per_sample(self) -> float | None:
        measured = [*self._trained, self._measured()]
        samples = sum(count for count, _ in measured)
        return sum(seconds for _, seconds in measured) / samples if samples else None
