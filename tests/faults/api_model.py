"""A model of the API server, as far as the operator can see it: verbs, versions, preconditions.

Objects are never changed in place: a change makes a new object, so that watches, answers and
stores may share them. tests/integration/test_model_conformance.py runs the same calls against the
real API server and compares.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from kubeseg_operator.clock import add, parse, stamp
from kubeseg_types.names import PLURAL
from kubeseg_types.status import TrainingJobStatus
from tests.faults.api_rules import admitted, changed_job, changed_spec
from tests.support.label_selectors import matches
from tests.support.merge_patch import merge

Raw = dict[str, Any]
Where = tuple[str, str, str]

_PATH = re.compile(
    r"^/(?:api/v1|apis/(?P<group>[^/]+)/[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[a-z]+))?$"
)
_GROUP = re.compile(r"^/apis/(?P<group>[^/]+)$")
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
_POLICIES = {"Foreground": FOREGROUND, "Orphan": ORPHAN}
#: Who has a `metadata.generation`.
_GENERATIONS = frozenset({PLURAL, "jobs"})


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one object, as a watch tells it. `kind`: ADDED, MODIFIED or DELETED."""

    kind: str
    plural: str
    raw: Raw
    #: The object before, where there was one.
    before: Raw | None
    who: str


class RefusedError(Exception):
    """An answer that is no success."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message

    def to_dict(self) -> Raw:
        """A `Status`."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": self.code,
            "reason": self.reason,
            "message": self.message,
        }


@dataclass(slots=True)
class ApiModel:
    """The objects, and the verbs on them. `now` gives the time as the API writes it."""

    now: Callable[[], str]
    objects: dict[Where, Raw] = field(default_factory=dict)
    listeners: list[Callable[[Change], None]] = field(default_factory=list)
    #: Refuses creations for a reason of the cluster's own, such as quota.
    admission: Callable[[str, Raw], None] = lambda _plural, _body: None
    version: int = 1000
    #: API groups that only some clusters have, and the version that is preferred.
    groups: dict[str, str] = field(default_factory=dict)

    # The wire.

    def call(
        self, verb: str, path: str, query: Mapping[str, str], body: Raw | None, who: str
    ) -> tuple[int, Raw]:
        """One request; status code and answer."""
        if group := _GROUP.match(path):
            return self._discovered(group["group"])
        match = _PATH.match(path)
        assert match, path
        namespace, plural = match["namespace"] or "", match["plural"]
        name, sub = match["name"] or "", match["sub"] or ""
        try:
            if verb == "GET":
                answer = self.get(plural, namespace, name) if name else self._list(match, query)
                return 200, answer
            assert body is not None
            if verb == "POST":
                return 201, self.create(plural, namespace, body, who=who)
            if verb == "PUT":
                return 200, self.replace_status(plural, namespace, name, sub, body, who=who)
            if verb == "PATCH":
                return 200, self.patch(plural, namespace, name, body, who=who)
            assert verb == "DELETE", verb
            return 200, self.delete(plural, namespace, name, body, who=who)
        except RefusedError as refused:
            return refused.code, refused.to_dict()

    def _discovered(self, group: str) -> tuple[int, Raw]:
        version = self.groups.get(group)
        if version is None:
            return 404, {"message": "404 page not found"}
        return 200, {"kind": "APIGroup", "name": group, "preferredVersion": {"version": version}}

    # Reading.

    def all(self, plural: str, namespace: str = "") -> Iterator[Raw]:
        """All objects of a kind."""
        for (kind, where, _), found in sorted(self.objects.items()):
            if kind == plural and namespace in {"", where}:
                yield found

    def find(self, plural: str, namespace: str, name: str) -> Raw | None:
        """An object, if it is there."""
        return self.objects.get((plural, namespace, name))

    def get(self, plural: str, namespace: str, name: str) -> Raw:
        """An object; RefusedError 404 without it."""
        found = self.find(plural, namespace, name)
        if found is None:
            raise RefusedError(404, "NotFound", f'{plural} "{name}" not found')
        return found

    def _list(self, match: re.Match[str], query: Mapping[str, str]) -> Raw:
        found = [
            raw
            for raw in self.all(match["plural"], match["namespace"] or "")
            if selected(raw, query)
        ]
        start = int(query.get("continue") or "0")
        end = start + int(query.get("limit") or str(len(found) + 1))
        more = {"continue": str(end)} if end < len(found) else {}
        meta = {"resourceVersion": str(self.version)} | more
        return {"kind": "List", "metadata": meta, "items": found[start:end]}

    # Writing.

    def create(self, plural: str, namespace: str, body: Raw, *, who: str) -> Raw:
        """Create; 409 AlreadyExists, 422 Invalid."""
        given = body["metadata"]
        where = (plural, namespace, given["name"])
        if where in self.objects:
            raise RefusedError(409, "AlreadyExists", f'{plural} "{given["name"]}" already exists')
        self.admission(plural, body)
        made = {key: value for key, value in body.items() if key != "status"}
        if plural == PLURAL:
            made |= {"spec": admitted(body.get("spec", {}), RefusedError)}
        made["metadata"] = given | {
            "namespace": namespace,
            "uid": str(uuid.UUID(int=self.version + 1)),
            "creationTimestamp": self.now(),
        }
        if plural in _GENERATIONS:
            made["metadata"]["generation"] = 1
        return self._keep(where, made, who)

    def replace_status(
        self, plural: str, namespace: str, name: str, sub: str, body: Raw, *, who: str
    ) -> Raw:
        """PUT of the status subresource: nothing else in `body` counts but its preconditions."""
        assert sub == "status", f"PUT {plural}/{sub} is not modelled"
        known = self.get(plural, namespace, name)
        meta = body.get("metadata", {})
        if not meta.get("resourceVersion"):
            words = "metadata.resourceVersion: Invalid value: must be specified for an update"
            raise RefusedError(422, "Invalid", words)
        self._guard(plural, known, meta)
        if plural == PLURAL:
            try:
                TrainingJobStatus.model_validate(body.get("status", {}))
            except ValidationError as error:
                raise RefusedError(422, "Invalid", str(error)) from error
        return self._keep((plural, namespace, name), known | {"status": body["status"]}, who)

    def patch(self, plural: str, namespace: str, name: str, body: Raw, *, who: str) -> Raw:
        """A merge patch of metadata and spec; a uid or version in it is a precondition."""
        known = self.get(plural, namespace, name)
        given = body.get("metadata", {})
        if given.get("uid", known["metadata"]["uid"]) != known["metadata"]["uid"]:
            raise RefusedError(422, "Invalid", "metadata.uid: Invalid value: field is immutable")
        self._guard(plural, known, given)
        wanted = merge(known, {key: body[key] for key in body if key in {"metadata", "spec"}})
        wanted["metadata"] |= {"resourceVersion": known["metadata"]["resourceVersion"]}
        if wanted.get("spec") != known.get("spec"):
            if plural == PLURAL:
                wanted["spec"] = changed_spec(known["spec"], wanted["spec"], RefusedError)
            elif plural == "jobs":
                wanted["spec"] = changed_job(known["spec"], wanted["spec"], RefusedError)
            if plural in _GENERATIONS:
                generation = known["metadata"]["generation"] + 1
                wanted["metadata"] = wanted["metadata"] | {"generation": generation}
        return self._finalized(known, wanted, (plural, namespace, name), who)

    def _finalized(self, known: Raw, wanted: Raw, where: Where, who: str) -> Raw:
        """A deletion ends with the last finalizer, and takes no new ones."""
        meta = wanted["metadata"]
        if not meta.get("finalizers", ["none was there"]):
            del meta["finalizers"]
        if "deletionTimestamp" not in known["metadata"]:
            return self._keep(where, wanted, who)
        had = set(known["metadata"].get("finalizers", []))
        if set(meta.get("finalizers", [])) - had:
            words = "metadata.finalizers: Forbidden: no new finalizers can be added"
            raise RefusedError(422, "Invalid", words)
        if had and not meta.get("finalizers"):
            self._remove(where, wanted, who)
            return wanted
        return self._keep(where, wanted, who)

    def delete(self, plural: str, namespace: str, name: str, options: Raw, *, who: str) -> Raw:
        """Delete: at once, or marked where somebody has to do something first."""
        known = self.get(plural, namespace, name)
        self._guard(plural, known, options.get("preconditions") or {})
        where = (plural, namespace, name)
        meta = known["metadata"]
        finalizers = list(meta.get("finalizers", []))
        policy = _POLICIES.get(options.get("propagationPolicy", ""))
        if policy and policy not in finalizers:
            finalizers.append(policy)
        grace = _grace(plural, known, options)
        if not finalizers and not grace:
            return self._remove(where, known, who)
        marked = meta | {"finalizers": finalizers}
        if "deletionTimestamp" not in meta:
            due = later(self.now(), grace)
            marked |= {"deletionTimestamp": due, "deletionGracePeriodSeconds": grace}
            if "generation" in meta:
                marked["generation"] = meta["generation"] + 1
        elif grace < (known_grace := meta.get("deletionGracePeriodSeconds", 0)):
            due = later(meta["deletionTimestamp"], grace - known_grace)
            marked |= {"deletionTimestamp": due, "deletionGracePeriodSeconds": grace}
        if not finalizers:
            del marked["finalizers"]
        return self._keep(where, known | {"metadata": marked}, who)

    # What controllers write.

    def put_status(self, plural: str, namespace: str, name: str, status: Raw, *, who: str) -> Raw:
        """Status as a controller writes it, of whatever version is there."""
        known = self.get(plural, namespace, name)
        return self._keep((plural, namespace, name), known | {"status": status}, who)

    def put_spec(self, plural: str, namespace: str, name: str, spec: Raw, *, who: str) -> Raw:
        """Fields of the spec, as the scheduler's binding sets them."""
        known = self.get(plural, namespace, name)
        return self._keep(
            (plural, namespace, name), known | {"spec": known.get("spec", {}) | spec}, who
        )

    def put_metadata(self, plural: str, namespace: str, name: str, *, who: str, **meta: Any) -> Raw:
        """Fields of the metadata, as a controller writes them."""
        known = self.get(plural, namespace, name)
        return self._keep(
            (plural, namespace, name), known | {"metadata": known["metadata"] | meta}, who
        )

    def drop_finalizer(self, plural: str, namespace: str, name: str, which: str, who: str) -> None:
        """One who held up a deletion has done what he had to."""
        known = self.find(plural, namespace, name)
        if known is None or which not in known["metadata"].get("finalizers", []):
            return
        meta = dict(known["metadata"])
        meta["finalizers"] = [each for each in meta["finalizers"] if each != which]
        if not meta["finalizers"]:
            del meta["finalizers"]
        where, changed = (plural, namespace, name), known | {"metadata": meta}
        gone = "deletionTimestamp" in meta and not meta.get("finalizers")
        if gone and not (meta.get("deletionGracePeriodSeconds") and _grace(plural, known, {})):
            self._remove(where, changed, who)
        else:
            self._keep(where, changed, who)

    # Keeping.

    def _guard(self, plural: str, known: Raw, wanted: Raw) -> None:
        for name in ("uid", "resourceVersion"):
            told = wanted.get(name)
            if told and told != known["metadata"][name]:
                words = f'{plural} "{known["metadata"]["name"]}": {name} {told} is not the one'
                raise RefusedError(409, "Conflict", words)

    def _keep(self, where: Where, raw: Raw, who: str) -> Raw:
        before = self.objects.get(where)
        if before is not None and raw == before:
            return before  # Nothing changes, and no version is spent.
        self.version += 1
        raw["metadata"] = raw["metadata"] | {"resourceVersion": str(self.version)}
        self.objects[where] = raw
        self._tell(Change("MODIFIED" if before else "ADDED", where[0], raw, before, who))
        return raw

    def _remove(self, where: Where, raw: Raw, who: str) -> Raw:
        self.version += 1
        before = self.objects.pop(where)
        gone = raw | {"metadata": raw["metadata"] | {"resourceVersion": str(self.version)}}
        self._tell(Change("DELETED", where[0], gone, before, who))
        if where[0] == "pods":
            return gone
        details = {"name": where[2], "uid": raw["metadata"]["uid"]}
        return {"kind": "Status", "apiVersion": "v1", "status": "Success", "details": details}

    def _tell(self, change: Change) -> None:
        for listener in self.listeners:
            listener(change)


def later(text: str, seconds: float) -> str:
    """A time of the API, and so many seconds."""
    moment = parse(text)
    assert moment
    return stamp(add(moment, seconds))


def _grace(plural: str, raw: Raw, options: Raw) -> int:
    """Seconds that a deletion waits for a kubelet: only pods that have one and still run."""
    if plural != "pods" or not raw.get("spec", {}).get("nodeName"):
        return 0
    if raw.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
        return 0
    wish = options.get("gracePeriodSeconds")
    return int(raw["spec"].get("terminationGracePeriodSeconds", 30) if wish is None else wish)


def selected(raw: Raw, query: Mapping[str, str]) -> bool:
    """Whether the selectors of a request let an object through."""
    if not matches(raw["metadata"].get("labels") or {}, query.get("labelSelector", "")):
        return False
    for part in filter(None, query.get("fieldSelector", "").split(",")):
        path, _, value = part.partition("=")
        found: Any = raw
        for step in path.split("."):
            found = (found or {}).get(step)
        if found != value:
            return False
    return True
