"""What traces consist of: a recorder that makes calls and writes down their answers; objects.

What is compared: the code and reason of each answer, and which fields of the object have changed by
it. A trace speaks through the operator's own client.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from kubeseg_operator.client import ApiError, Client
from kubeseg_types.names import ANNOTATION_CONFIG, API_VERSION, KIND, PLURAL

Raw = dict[str, Any]
_ROOTS = {PLURAL: f"/apis/{API_VERSION}", "jobs": "/apis/batch/v1"}
#: Versions and uids differ from run to run; that they change is compared, and to what is not.
_NOISE = ("metadata.managedFields", "metadata.selfLink")


def path(namespace: str, plural: str, name: str = "", sub: str = "") -> str:
    """Path of an object or a collection."""
    root = _ROOTS.get(plural, "/api/v1")
    parts = [f"{root}/namespaces/{namespace}/{plural}", name, sub]
    return "/".join(part for part in parts if part)


def _leaves(value: Any, at: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{at}.{key}" if at else key)
    else:
        yield at, json.dumps(value, sort_keys=True)


def plain(value: Any) -> Any:
    """Numbers as JSON compares them: 1.0 is 1."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def changes(before: Raw, after: Raw) -> list[str]:
    """Paths of the fields that differ."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    differ = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    return sorted(name for name in differ if not name.startswith(_NOISE))


class Recorder:
    """Makes calls, and writes down what came of them."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.client, self.namespace = client, namespace
        self.lines: list[str] = []

    async def find(self, plural: str, name: str) -> Raw:
        """The object, or {}."""
        try:
            return await self.client.get(path(self.namespace, plural, name))
        except ApiError as error:
            if error.code != 404:
                raise
            return {}

    async def make(self, label: str, plural: str, body: Raw) -> None:
        """Create; told are the code, the generation, and what became of spec and status."""
        try:
            made = await self.client.create(path(self.namespace, plural), body)
        except ApiError as error:
            self.lines.append(f"{label}: {error.code} {error.reason}")
            return
        meta = made["metadata"]
        known = [name for name in ("uid", "resourceVersion", "creationTimestamp") if name in meta]
        told = f"generation {meta.get('generation')} {known}"
        if plural == PLURAL:
            spec = json.dumps(plain(made["spec"]), sort_keys=True)
            told += f" {spec} status {made.get('status')}"
        self.lines.append(f"{label}: made {told}")

    async def change(
        self,
        label: str,
        plural: str,
        name: str,
        call: Callable[[], Awaitable[Raw]],
        only: tuple[str, ...] = ("metadata", "spec", "status"),
    ) -> None:
        """A write; told are the answer's code and kind, and the fields that have changed by it."""
        before = await self.find(plural, name)
        try:
            answer = await call()
            told = "Status" if answer.get("kind") == "Status" else "object"
        except ApiError as error:
            told = f"{error.code} {error.reason}"
        after = await self.find(plural, name)
        differ = changes(before, after) if after else ["gone"]
        if not before:
            differ = []
        kept = [d for d in differ if d == "gone" or d.startswith(only)]
        self.lines.append(f"{label}: {told} {kept}")

    async def until(self, label: str, what: Callable[[], Awaitable[Any]]) -> None:
        """Until it is so, by the work of others; two minutes at most: the garbage collector looks
        for new kinds twice a minute.
        """
        for _ in range(1200):
            if await what():
                self.lines.append(f"{label}: so")
                return
            await asyncio.sleep(0.1)
        self.lines.append(f"{label}: never")


def training_job(name: str, **spec: Any) -> Raw:
    """A TrainingJob."""
    wanted = {"dataset": {"name": "d"}, "training": {"epochs": 3}} | spec
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": wanted}


def child(name: str, owner: Raw | None, script: str, *, suspend: bool = False) -> Raw:
    """A Job as the operator makes them, whose container runs a script."""
    config = {"job": name, "uid": name, "attempt": 1, "generation": 1, "stop": False}
    owners = []
    if owner:
        meta = owner["metadata"]
        reference = {"apiVersion": API_VERSION, "kind": KIND, "name": meta["name"]}
        owners = [reference | {"uid": meta["uid"], "controller": True, "blockOwnerDeletion": False}]
    labels = {"kubeseg.dev/job": name, "kubeseg.dev/attempt": "1"}
    container = {
        "name": "trainer",
        "image": "kubeseg-tools:1",
        "command": ["sh", "-c", script],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    note = {ANNOTATION_CONFIG: json.dumps(config | {"training": {"epochs": 900}})}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels, "ownerReferences": owners},
        "spec": {
            "suspend": suspend,
            "completionMode": "Indexed",
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "template": {
                "metadata": {"labels": labels, "annotations": note},
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 2,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": 10001,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [container],
                },
            },
        },
    }
