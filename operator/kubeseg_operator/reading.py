"""A TrainingJob's spec and status as models, remembered: a visit decides several times on the same.

What was read comes from one place for all of the operator, and is frozen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from pydantic import ValidationError

from kubeseg_operator.views import JobView, Raw, unpacked
from kubeseg_types.refusals import refusals
from kubeseg_types.spec import TrainingJobSpec
from kubeseg_types.status import TrainingJobStatus

T = TypeVar("T")
#: Of so many jobs, those that were read last; more than are visited at a time. But no more than so
#: many bytes of JSON: as models some take a dozen times as much.
_REMEMBERED, _MOST_BYTES = 128, 4_000_000


class _Memory(Generic[T]):
    """What `read` makes of a raw part, by the UID of the job that it belongs to."""

    def __init__(self, read: Callable[[Raw], T]) -> None:
        self._read = read
        self._known: dict[str, tuple[bytes, T]] = {}
        self._bytes = 0

    def of(self, uid: str, part: bytes) -> T:
        """What `part` means; it is read anew where it differs from what was known of `uid`."""
        known = self._known.get(uid)
        if known is None or known[0] != part:
            known = part, self._read(unpacked(part))
        self._forget(uid)
        self._known[uid] = known
        self._bytes += len(part)
        while len(self._known) > 1 and (
            len(self._known) > _REMEMBERED or self._bytes > _MOST_BYTES
        ):
            self._forget(next(iter(self._known)))
        return known[1]

    def _forget(self, uid: str) -> None:
        if uid in self._known:
            self._bytes -= len(self._known.pop(uid)[0])


def _spec(raw: Raw) -> TrainingJobSpec | list[str]:
    try:
        spec = TrainingJobSpec.model_validate(raw)
    except ValidationError as error:
        return [
            f"spec.{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        ]
    return refusals(spec) or spec


_specs, _statuses = _Memory(_spec), _Memory(TrainingJobStatus.model_validate)


def spec_of(job: JobView) -> TrainingJobSpec | list[str]:
    """The spec, or sentences on why it can't be followed."""
    return _specs.of(job.uid, job.spec_json)


def status_of(job: JobView) -> TrainingJobStatus:
    """The status. Raises ValueError where it can't be read."""
    return _statuses.of(job.uid, job.status_json)
