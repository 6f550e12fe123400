"""Traces of what others do to Jobs and pods, and of how the operator puts it right."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from kubeseg_operator.client import ApiError
from kubeseg_types.names import PLURAL
from tests.faults.recorder import Raw, Recorder, child, path, training_job

_LABEL = "kubeseg.dev/job"
_WAITS = "trap 'exit 75' TERM; sleep 900 & wait"
_OF_A_JOB = ("metadata.labels", "metadata.ownerReferences", "metadata.generation", "spec")


def _patch(to: Recorder, name: str, uid: str, **body: Raw) -> Callable[[], Awaitable[Raw]]:
    """A merge patch of this very Job."""
    patch = body | {"metadata": body.get("metadata", {}) | {"uid": uid}}
    return lambda: to.client.merge(path(to.namespace, "jobs", name), patch)


async def _pods_of(to: Recorder, name: str) -> list[Raw]:
    where, selector = path(to.namespace, "pods"), f"{_LABEL}={name}"
    return [raw async for raw in to.client.list(where, selector=selector)]


async def changed_jobs(to: Recorder) -> None:
    """A Job that does not run: what of it can be changed, and put right."""
    await to.make("owner of a changed Job", PLURAL, training_job("drift"))
    owner = await to.find(PLURAL, "drift")
    await to.make("Job", "jobs", child("drift-1", owner, "true", suspend=True))
    made = (await to.find("jobs", "drift-1"))["metadata"]
    uid = made["uid"]

    async def change(label: str, of: str = uid, **body: Raw) -> None:
        call = _patch(to, "drift-1", of, **body)
        await to.change(label, "jobs", "drift-1", call, _OF_A_JOB)

    await change("label taken", metadata={"labels": {_LABEL: None}})
    await change("label put back, another uid", uid[::-1], metadata={"labels": {_LABEL: "drift-1"}})
    await change("label put back", metadata={"labels": {_LABEL: "drift-1"}})
    await change("owner taken", metadata={"ownerReferences": None})
    await change("owner put back", metadata={"ownerReferences": made["ownerReferences"]})
    await change("scaled", spec={"parallelism": 2, "completions": 2})
    await change("completions alone", spec={"completions": 3})
    await change("parallelism alone", spec={"parallelism": 0})
    await change("scaled back", spec={"parallelism": 1, "completions": 1})
    await change("scaled to what it is", spec={"parallelism": 1, "completions": 1})
    await change("template", spec={"template": {"spec": {"restartPolicy": "OnFailure"}}})
    await to.client.delete(path(to.namespace, PLURAL, "drift"), {})

    async def collected() -> bool:
        return not await to.find("jobs", "drift-1")

    await to.until("what was put back is collected", collected)


async def suspended_jobs(to: Recorder) -> None:
    """A Job that runs, is suspended, and goes on: the same Job with another pod."""
    await to.make("Job that waits", "jobs", child("paused", None, _WAITS, suspend=True))
    uid = (await to.find("jobs", "paused"))["metadata"]["uid"]

    async def status() -> Raw:
        return dict((await to.find("jobs", "paused")).get("status") or {})

    async def is_suspended(value: str) -> bool:
        conditions = (await status()).get("conditions") or []
        return any((c["type"], c["status"]) == ("Suspended", value) for c in conditions)

    async def runs() -> bool:
        pods = await _pods_of(to, "paused")
        return any((pod.get("status") or {}).get("phase") == "Running" for pod in pods)

    async def without_pods() -> bool:
        return await is_suspended("True") and not await _pods_of(to, "paused")

    await to.until("it is suspended", lambda: is_suspended("True"))
    to.lines.append(f"started {'startTime' in await status()}, {await _pods_of(to, 'paused')}")
    go, stop = ({"suspend": value} for value in (False, True))
    await to.change("admitted", "jobs", "paused", _patch(to, "paused", uid, spec=go), _OF_A_JOB)
    await to.until("it runs", runs)
    to.lines.append(f"started {'startTime' in await status()}")
    before = {pod["metadata"]["uid"] for pod in await _pods_of(to, "paused")}
    await to.change("suspended", "jobs", "paused", _patch(to, "paused", uid, spec=stop), _OF_A_JOB)
    await to.until("it is suspended again, and its pod is gone", without_pods)
    to.lines.append(f"failed pods: {(await status()).get('failed', 0)}")
    await to.change("resumed", "jobs", "paused", _patch(to, "paused", uid, spec=go), _OF_A_JOB)
    await to.until("it runs again", runs)
    after = {pod["metadata"]["uid"] for pod in await _pods_of(to, "paused")}
    to.lines.append(f"pods: {len(before)}, {len(after)}, the same: {bool(before & after)}")
    await to.until("it is no longer suspended", lambda: is_suspended("False"))


async def forced_pods(to: Recorder) -> None:
    """A pod that is deleted at once keeps its finalizer until its Job has counted it."""
    await to.make("forced", "jobs", child("forced", None, _WAITS))

    async def runs() -> bool:
        pods = await _pods_of(to, "forced")
        return any((pod.get("status") or {}).get("phase") == "Running" for pod in pods)

    await to.until("forced runs", runs)
    meta = (await _pods_of(to, "forced"))[0]["metadata"]
    where = path(to.namespace, "pods", meta["name"])
    for label, uid in (("another uid", meta["uid"][::-1]), ("at once", meta["uid"])):
        options: Raw = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        try:
            leaving = (await to.client.delete(where, options))["metadata"]
            marks = [name for name in ("deletionTimestamp", "finalizers") if name in leaving]
            told: Any = (marks, leaving.get("deletionGracePeriodSeconds"))
        except ApiError as error:
            told = (error.code, error.reason)
        to.lines.append(f"pod deleted, {label}: {told}")

    async def failed() -> bool:
        status = (await to.find("jobs", "forced")).get("status") or {}
        return any(c["type"] == "Failed" for c in status.get("conditions") or [])

    await to.until("its Job has failed", failed)


async def the_rest(to: Recorder) -> None:
    """Claims, and groups that are served or not."""
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}}
    body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "claim"}}
    await to.make("claim", "persistentvolumeclaims", body | {"spec": spec})
    found = await to.find("persistentvolumeclaims", "claim")
    to.lines.append(f"claim: {found['spec']['accessModes']}")
    to.lines.append(f"no claim: {await to.find('persistentvolumeclaims', 'none')}")
    for group in ("batch", "none.example.com"):
        try:
            answer = await to.client.get(f"/apis/{group}")
            to.lines.append(f"{group}: {answer['preferredVersion']['version']}")
        except ApiError as error:
            to.lines.append(f"{group}: {error.code}")
