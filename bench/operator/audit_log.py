"""What the API server's audit log tells: who wrote what, and when it was there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from kubeseg_operator.views import Raw

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


def _entries(audit_log: Path, containing: str) -> Iterator[Raw]:
    """Entries of the log, its rotated part too, whose text contains `containing`."""
    files = sorted(audit_log.parent.glob(f"{audit_log.stem}-*{audit_log.suffix}"))
    for file in [*files, audit_log]:
        with file.open() as lines:
            for line in lines:
                # The newest line may be half written.
                if containing in line and line.endswith("\n"):
                    yield json.loads(line)


def writes(audit_log: Path, agent: str) -> Counter[str]:
    """Writes of a user agent, by verb and kind."""
    found: Counter[str] = Counter()
    for entry in _entries(audit_log, agent):
        if entry["verb"] in WRITES and entry["userAgent"].startswith(agent):
            what = entry["objectRef"]
            kind = "/".join(filter(None, (what["resource"], what.get("subresource"))))
            found[f"{entry['verb']} {kind}"] += 1
    return found


def creations(audit_log: Path, resource: str, namespace: str) -> dict[str, float]:
    """Seconds since the epoch at which each object in `namespace` had been made, by name."""
    found = {}
    for entry in _entries(audit_log, '"verb":"create"'):
        what = entry["objectRef"]
        made = entry.get("responseStatus", {}).get("code") == 201
        there = (what["resource"], what.get("namespace")) == (resource, namespace)
        if made and there and not what.get("subresource"):
            moment = datetime.fromisoformat(entry["stageTimestamp"]).timestamp()
            found[what.get("name", "")] = moment
    return found
