"""The API server's own account of who did what."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from tests.support.cluster import TestCluster


def audit_log(cluster: TestCluster, word: str = "") -> Iterator[dict[str, Any]]:
    """Its entries, oldest first; only lines with `word` in them are looked at.

    A file that grew too large is set aside under another name.
    """
    files = (cluster.cluster.directory / "logs").glob("audit*.log")
    for file in sorted(files, key=os.path.getmtime):
        with file.open() as lines:
            for line in lines:
                if word in line and line.endswith("\n"):
                    entry: dict[str, Any] = json.loads(line)
                    yield entry


def by_account(cluster: TestCluster, account: str) -> Iterator[dict[str, Any]]:
    """What service accounts did whose name ends so."""
    for entry in audit_log(cluster, account):
        user = entry["user"].get("username", "")
        if user.startswith("system:serviceaccount:") and user.endswith(account):
            yield entry
