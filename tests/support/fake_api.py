"""A small API server in memory, for tests of the operator's reconcile loop.

It keeps what the loop relies on: versions, UIDs, preconditions, 404 and 409, names taken. It has no
schema, no RBAC and no controllers; the tests play the Job controller. What the real one does is
shown by the tests that run on the embedded cluster.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubeseg_operator.client import ApiError, ApiUnreachableError
from kubeseg_operator.watched import CHILDREN, JOBS, PODS, Intake, Kind
from tests.support.label_selectors import matches

Raw = dict[str, Any]
_PATH = re.compile(
    r"^/(?:api/v1|apis/[^/]+/[^/]+)(?:/namespaces/([^/]+))?/([a-z]+)(?:/([^/]+))?(/status)?$"
)
NOW = "2026-01-02T03:04:05Z"
_KINDS = {kind.plural: kind for kind in (JOBS, CHILDREN, PODS)}


@dataclass(slots=True)
class Fault:
    """What happens to the next call that `matches` (verb and path)."""

    matches: Callable[[str, str], bool]
    #: "before": nothing is done; "after": it is done, and the answer is lost; else an HTTP code.
    how: str | int
    message: str = "as the test wanted"


@dataclass(slots=True)
class FakeApi:
    """Stands in for `kubeseg_operator.client.Client`. `writes` names each write that was done."""

    objects: dict[tuple[str, str, str], Raw] = field(default_factory=dict)
    writes: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    untold: list[tuple[Kind, Raw, bool]] = field(default_factory=list)
    _versions: itertools.count[int] = field(default_factory=lambda: itertools.count(1000))

    # What the operator calls.

    async def get(self, path: str, **_query: str) -> Raw:
        namespace, plural, name, _ = self._parts(path)
        self._fault("GET", path)
        self.reads.append(f"GET {plural}")
        if not name:
            return {"items": [copy.deepcopy(o) for o in self.all(plural, namespace)]}
        return copy.deepcopy(self._found(plural, namespace, name, "GET", path))

    async def list(
        self, path: str, *, selector: str | None = None, page: int = 100
    ) -> AsyncIterator[Raw]:
        assert page
        async for answer in self.pages(path, selector=selector):
            for item in answer["items"]:
                yield item

    async def pages(self, path: str, *, selector: str | None = None) -> AsyncIterator[Raw]:
        namespace, plural, _, _ = self._parts(path)
        self._fault("GET", path)
        self.reads.append(f"LIST {plural}")
        items = [
            copy.deepcopy(found)
            for found in self.all(plural, namespace)
            if matches(found["metadata"].get("labels", {}), selector or "")
        ]
        yield {"metadata": {"resourceVersion": str(next(self._versions))}, "items": items}

    async def create(self, path: str, body: Raw) -> Raw:
        namespace, plural, _, _ = self._parts(path)
        lost = self._fault("POST", path)
        name = body["metadata"]["name"]
        if (plural, namespace, name) in self.objects:
            raise ApiError(409, "AlreadyExists", f"{name} is there", "POST", path)
        made = self.put(plural, body)
        self.writes.append(f"create {plural}")
        return self._answer(made, lost)

    async def replace(self, path: str, body: Raw) -> Raw:
        namespace, plural, name, status = self._parts(path)
        lost = self._fault("PUT", path)
        known = self._found(plural, namespace, name, "PUT", path)
        self._check(known, body["metadata"], "PUT", path)
        if status:
            changed = self.change(plural, namespace, name, status=body["status"])
        else:
            known["spec"] = copy.deepcopy(body["spec"])
            changed = self.change(plural, namespace, name)
        self.writes.append(f"{'status' if status else 'replace'} {plural}")
        return self._answer(changed, lost)

    async def merge(self, path: str, body: Raw) -> Raw:
        namespace, plural, name, _ = self._parts(path)
        lost = self._fault("PATCH", path)
        known = self._found(plural, namespace, name, "PATCH", path)
        if body["metadata"].get("uid", known["metadata"]["uid"]) != known["metadata"]["uid"]:
            # As the real one: no conflict, but an invalid change.
            words = "metadata.uid: Invalid value: field is immutable"
            raise ApiError(422, "Invalid", words, "PATCH", path)
        self._check(known, body["metadata"], "PATCH", path)
        meta = dict(body["metadata"])
        if "finalizers" in meta:
            changed = self._finalize(known, meta["finalizers"], plural, path)
        else:
            for part in ("annotations", "labels"):
                if part in meta:
                    meta[part] = known["metadata"].get(part, {}) | meta[part]
            changed = self.change(plural, namespace, name, metadata=meta, spec=body.get("spec", {}))
        self.writes.append(f"patch {plural}")
        return self._answer(changed, lost)

    async def delete(self, path: str, options: Raw) -> Raw:
        namespace, plural, name, _ = self._parts(path)
        lost = self._fault("DELETE", path)
        known = self._found(plural, namespace, name, "DELETE", path)
        self._check(known, options["preconditions"], "DELETE", path)
        self.writes.append(f"delete {plural}")
        if options.get("propagationPolicy") == "Foreground" or known["metadata"].get("finalizers"):
            leaving = self.change(plural, namespace, name, metadata={"deletionTimestamp": NOW})
            return self._answer(leaving, lost)
        self.remove(plural, namespace, name)
        return self._answer({}, lost)

    def _finalize(self, known: Raw, finalizers: Sequence[str], plural: str, path: str) -> Raw:
        """Other finalizers; without any, an object that is being deleted is gone."""
        meta = known["metadata"]
        deleting = "deletionTimestamp" in meta
        if deleting and not set(finalizers) <= set(meta.get("finalizers", [])):
            raise ApiError(422, "Invalid", "no new finalizers can be added", "PATCH", path)
        where = (plural, meta["namespace"], meta["name"])
        changed = self.change(*where, metadata={"finalizers": [*finalizers]})
        if deleting and not finalizers:
            self.remove(*where)
        return changed

    # What tests do: they play the users and the controllers.

    def put(self, plural: str, body: Raw) -> Raw:
        """Add an object as the API server would, and have the watch tell of it."""
        made = copy.deepcopy(body)
        meta = made.setdefault("metadata", {})
        number = next(self._versions)
        meta.setdefault("uid", f"uid-{number}")
        meta.setdefault("creationTimestamp", NOW)
        meta["resourceVersion"] = str(number)
        self.objects[plural, meta["namespace"], meta["name"]] = made
        self._tell(plural, made, deleted=False)
        return made

    def change(self, plural: str, namespace: str, name: str, **fields: Any) -> Raw:
        """Change parts of an object: metadata and spec are merged, status is replaced."""
        known = self.objects[plural, namespace, name]
        for part, value in fields.items():
            known[part] = value if part == "status" else known.get(part, {}) | value
        known["metadata"]["resourceVersion"] = str(next(self._versions))
        self._tell(plural, known, deleted=False)
        return known

    def remove(self, plural: str, namespace: str, name: str) -> None:
        """Take an object away."""
        gone = self.objects.pop((plural, namespace, name))
        gone["metadata"]["resourceVersion"] = str(next(self._versions))
        self._tell(plural, gone, deleted=True)

    def all(self, plural: str, namespace: str = "") -> Sequence[Raw]:
        """All objects of a kind."""
        return [
            found
            for (kind, where, _), found in self.objects.items()
            if kind == plural and namespace in {"", where}
        ]

    def tell(self, intake: Intake) -> None:
        """Let the watches tell what has happened since the last time."""
        for kind, raw, deleted in self.untold:
            intake.take(kind, raw, deleted=deleted)
        self.untold.clear()

    def _tell(self, plural: str, raw: Raw, *, deleted: bool) -> None:
        if plural in _KINDS:
            self.untold.append((_KINDS[plural], copy.deepcopy(raw), deleted))

    def _parts(self, path: str) -> tuple[str, str, str, bool]:
        match = _PATH.match(path)
        assert match, path
        return match[1] or "", match[2], match[3] or "", bool(match[4])

    def _found(self, plural: str, namespace: str, name: str, verb: str, path: str) -> Raw:
        try:
            return self.objects[plural, namespace, name]
        except KeyError:
            raise ApiError(404, "NotFound", f"{name} not found", verb, path) from None

    def _check(self, known: Raw, wanted: Raw, verb: str, path: str) -> None:
        for name in ("uid", "resourceVersion"):
            if wanted.get(name) not in {None, known["metadata"][name]}:
                raise ApiError(409, "Conflict", f"{name} differs", verb, path)

    def _fault(self, verb: str, path: str) -> bool:
        """Let the first fault that matches happen; True where the answer is to be lost."""
        for fault in self.faults:
            if fault.matches(verb, path):
                self.faults.remove(fault)
                if fault.how == "after":
                    return True
                if fault.how == "before":
                    raise ApiUnreachableError(f"{verb} {path}: no answer")
                raise ApiError(int(fault.how), "Fault", fault.message, verb, path)
        return False

    def _answer(self, content: Raw, lost: bool) -> Raw:
        if lost:
            raise ApiUnreachableError("the answer was lost")
        return copy.deepcopy(content)


async def _nothing() -> None:
    pass


class SlowApi(FakeApi):
    """Something happens, once, while a list of `slow` is on its way."""

    slow = ""
    meanwhile: Callable[[], Awaitable[None]] = staticmethod(_nothing)

    async def pages(self, path: str, *, selector: str | None = None) -> AsyncIterator[Raw]:
        async for page in super().pages(path, selector=selector):
            if self._parts(path)[1] == self.slow:
                self.slow = ""
                await self.meanwhile()
            yield page
