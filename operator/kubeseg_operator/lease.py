"""Who leads: what a `coordination.k8s.io` Lease says, and when it may be taken. Pure.

Clocks of two machines differ, so the times in a Lease are never compared with our own: a Lease has
run out when it has not changed for its duration on *our* clock since we saw it so, as client-go
does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from kubeseg_operator.views import Raw

#: Seconds without a renewal after which others may take the Lease.
DURATION = 10.0
#: Seconds since its last renewal after which a leader stops by itself. What it has sent by then has
#: the rest of the duration to arrive.
DEADLINE = 7.0
#: Seconds between two renewals, and between two looks of a standby. A dead leader's Lease was
#: renewed at most one of these before, and that was seen at most one of these later.
INTERVAL = 2.0
#: Longest time that one call for the Lease may take: a silent connection is left for a new one.
ATTEMPT = 2.5


@dataclass(frozen=True, slots=True)
class Record:
    """What a Lease says. `version`: its resourceVersion; `holder`: empty once it is released."""

    holder: str
    duration: float
    renewed: str
    acquired: str
    transitions: int
    version: str


@dataclass(frozen=True, slots=True)
class Sighting:
    """A record, and when (our clock, seconds) it was first seen like this."""

    record: Record
    since: float


def read(raw: Raw) -> Record:
    """The record in a Lease; anything may be missing in it."""
    spec = raw.get("spec") or {}
    return Record(
        holder=str(spec.get("holderIdentity") or ""),
        duration=float(spec.get("leaseDurationSeconds") or DURATION),
        renewed=str(spec.get("renewTime") or ""),
        acquired=str(spec.get("acquireTime") or ""),
        transitions=int(spec.get("leaseTransitions") or 0),
        version=str((raw.get("metadata") or {}).get("resourceVersion") or ""),
    )


def sight(before: Sighting | None, record: Record, now: float) -> Sighting:
    """`record` as seen at `now`. A label or annotation that somebody sets is no renewal."""

    def beat(each: Record) -> tuple[str, str, str, int]:
        return (each.holder, each.renewed, each.acquired, each.transitions)

    if before is not None and beat(before.record) == beat(record):
        return Sighting(record, before.since)
    return Sighting(record, now)


def wait(seen: Sighting | None, now: float, me: str) -> float:
    """Seconds before `me` may take the Lease; 0: now. `seen` None: there is no Lease."""
    if seen is None or seen.record.holder in {"", me}:
        return 0.0
    return max(0.0, seen.since + seen.record.duration - now)


def micro(moment: datetime) -> str:
    """A time as a Lease holds it: RFC 3339 with microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def held(namespace: str, name: str, known: Record | None, me: str, now: datetime) -> Raw:
    """The Lease in the hands of `me`; it replaces the very version that `known` is."""
    time = micro(now)
    mine = known is not None and known.holder == me
    transitions = known.transitions if known else 0
    spec = {
        "holderIdentity": me,
        "leaseDurationSeconds": int(DURATION),
        "acquireTime": (known.acquired if known and mine else "") or time,
        "renewTime": time,
        "leaseTransitions": transitions if mine or known is None else transitions + 1,
    }
    return _manifest(namespace, name, known, spec)


def released(namespace: str, name: str, known: Record, now: datetime) -> Raw:
    """The Lease in nobody's hands: the next one need not wait."""
    spec = {
        "holderIdentity": "",
        "leaseDurationSeconds": 1,
        "renewTime": micro(now),
        "leaseTransitions": known.transitions,
    }
    return _manifest(namespace, name, known, spec)


def _manifest(namespace: str, name: str, known: Record | None, spec: Raw) -> Raw:
    meta = {"namespace": namespace, "name": name}
    if known is not None:
        meta["resourceVersion"] = known.version
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": meta,
        "spec": spec,
    }


def place(setting: str, in_cluster_namespace: str) -> tuple[str, str] | None:
    """Namespace and name of the Lease that `setting` ("namespace/name", "name", "none") asks for.

    Empty: `kubeseg-operator` where the operator runs in a cluster, else none. Raises ValueError.
    """
    if setting == "none" or (not setting and not in_cluster_namespace):
        return None
    namespace, _, name = (setting or "kubeseg-operator").rpartition("/")
    namespace = namespace or in_cluster_namespace
    if not namespace or not name or "/" in namespace:
        raise ValueError(
            f'must be "namespace/name", "name" in a cluster, or "none", not {setting!r}'
        )
    return namespace, name
