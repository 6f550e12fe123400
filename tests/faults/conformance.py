"""The calls that the operator makes, as traces that run against the model and the real API server.

Here: TrainingJobs, child Jobs that don't run, pods that do. What others do to them: `disturbances`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from kubeseg_operator.client import ApiError
from kubeseg_types.names import API_VERSION, KIND, PLURAL
from tests.faults.disturbances import changed_jobs, forced_pods, suspended_jobs, the_rest
from tests.faults.recorder import Raw, Recorder, child, path, training_job


def _status(known: Raw, status: Raw, **meta: Any) -> Raw:
    picked = {name: known["metadata"][name] for name in ("name", "uid", "resourceVersion")}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": picked | {"namespace": known["metadata"]["namespace"]} | meta,
        "status": status,
    }


async def trainingjobs(to: Recorder) -> None:
    """TrainingJobs and their status."""
    client, where = to.client, path(to.namespace, PLURAL, "trace")
    await to.make("made", PLURAL, training_job("trace"))
    await to.make("made again", PLURAL, training_job("trace"))
    await to.make("too many workers", PLURAL, training_job("many", workers=999))
    await to.make("no data set", PLURAL, training_job("none", dataset={}))
    old = await to.find(PLURAL, "trace")

    def put(body: Raw, name: str = "trace") -> Callable[[], Awaitable[Raw]]:
        return lambda: client.replace(path(to.namespace, PLURAL, name, "status"), body)

    def merge(body: Raw) -> Callable[[], Awaitable[Raw]]:
        return lambda: client.merge(where, body)

    phase = {"phase": "Starting", "observedGeneration": 1}
    await to.change("status", PLURAL, "trace", put(_status(old, phase)))
    await to.change("status of an old version", PLURAL, "trace", put(_status(old, phase)))
    now = await to.find(PLURAL, "trace")
    await to.change("status as it is", PLURAL, "trace", put(_status(now, phase)))
    other = _status(now, phase, uid=old["metadata"]["uid"][::-1])
    await to.change("status of another uid", PLURAL, "trace", put(other))
    await to.change("status of none", PLURAL, "none", put(_status(now, phase, name="none"), "none"))
    spec = {"spec": {"suspend": True}}
    await to.change("status with a spec", PLURAL, "trace", put(_status(now, {}) | spec))
    now = await to.find(PLURAL, "trace")
    many = [{"number": n, "jobName": f"trace-{n}"} for n in range(1, 12)]
    await to.change("too large", PLURAL, "trace", put(_status(now, {"attempts": many})))
    await to.change("no phase", PLURAL, "trace", put(_status(now, {"phase": "Nowhere"})))
    bare = _status(now, phase)
    del bare["metadata"]["resourceVersion"]
    await to.change("status of no version", PLURAL, "trace", put(bare))
    await to.change("edited", PLURAL, "trace", merge(spec))
    await to.change("edited to what it is", PLURAL, "trace", merge(spec))
    await to.change(
        "immutable", PLURAL, "trace", merge({"spec": {"training": {"learningRate": 0.5}}})
    )
    await to.change("epochs", PLURAL, "trace", merge({"spec": {"training": {"epochs": 9}}}))
    note = {"metadata": {"annotations": {"kubeseg.dev/user": "ann"}}}
    await to.change("annotated", PLURAL, "trace", merge(note))
    await to.change(
        "annotated, of another uid",
        PLURAL,
        "trace",
        merge({"metadata": {"uid": old["metadata"]["uid"][::-1], "annotations": {"x": "y"}}}),
    )

    def delete(**only: str) -> Callable[[], Awaitable[Raw]]:
        options = {"propagationPolicy": "Background", "preconditions": only}
        return lambda: client.delete(where, options)

    now = (await to.find(PLURAL, "trace"))["metadata"]
    await to.change("delete of another uid", PLURAL, "trace", delete(uid=now["uid"][::-1]))
    stale = old["metadata"]["resourceVersion"]
    await to.change(
        "delete of an old version", PLURAL, "trace", delete(uid=now["uid"], resourceVersion=stale)
    )
    await to.change(
        "delete",
        PLURAL,
        "trace",
        delete(uid=now["uid"], resourceVersion=now["resourceVersion"]),
    )
    await to.change("delete again", PLURAL, "trace", delete(uid=now["uid"]))


_META = ("metadata",)


async def jobs(to: Recorder) -> None:
    """Child Jobs that don't run: names, owners, deletion."""
    client = to.client
    await to.make("owner", PLURAL, training_job("owner"))
    owner = await to.find(PLURAL, "owner")
    await to.make("child", "jobs", child("owner-1", owner, "true", suspend=True))
    await to.make("child again", "jobs", child("owner-1", owner, "true", suspend=True))
    await to.make("second", "jobs", child("owner-2", owner, "true", suspend=True))
    found = [
        raw["metadata"]["name"]
        async for raw in client.list(path(to.namespace, "jobs"), selector="kubeseg.dev/job", page=1)
    ]
    to.lines.append(f"listed by label, a page each: {found}")
    none = client.list(path(to.namespace, "jobs"), selector="kubeseg.dev/job=nobody")
    to.lines.append(f"listed by another label: {[raw async for raw in none]}")
    uid = (await to.find("jobs", "owner-1"))["metadata"]["uid"]

    def delete(**options: Any) -> Callable[[], Awaitable[Raw]]:
        return lambda: client.delete(path(to.namespace, "jobs", "owner-1"), options)

    other = {"preconditions": {"uid": uid[::-1]}}
    await to.change("delete of another uid", "jobs", "owner-1", delete(**other), _META)
    only = {"propagationPolicy": "Foreground", "preconditions": {"uid": uid}}
    try:
        leaving = await client.delete(path(to.namespace, "jobs", "owner-1"), only)
        marks = [m for m in ("deletionTimestamp", "finalizers") if m in leaving["metadata"]]
        to.lines.append(f"deleted in the foreground: {marks} {leaving['metadata']['generation']}")
    except ApiError as error:
        to.lines.append(f"deleted in the foreground: {error.code}")

    async def gone() -> bool:
        return not await to.find("jobs", "owner-1")

    await to.until("its dependents are gone, and so is it", gone)
    await to.change(
        "delete in the background",
        PLURAL,
        "owner",
        lambda: client.delete(path(to.namespace, PLURAL, "owner"), {}),
    )

    async def collected() -> bool:
        return not await to.find("jobs", "owner-2")

    await to.until("what it owned is collected", collected)
    await to.make("a child of nobody", "jobs", child("owner-2", owner, "true", suspend=True))
    await to.until("is collected, too", collected)
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "told"}}
    event |= {"reason": "Told", "message": "m", "type": "Normal"}
    uid = owner["metadata"]["uid"]
    about = {"kind": KIND, "name": "owner", "namespace": to.namespace, "uid": uid}
    await to.make("event", "events", event | {"involvedObject": about})
    await to.make("the same event", "events", event | {"involvedObject": about})
    told = await client.get(path(to.namespace, "events"), fieldSelector=f"involvedObject.uid={uid}")
    to.lines.append(f"events by uid: {[e['reason'] for e in told['items']]}")


async def pods(to: Recorder) -> None:
    """Pods of Jobs that run, end, fail and are taken away: what the operator reads of them."""
    client = to.client
    ends = {
        "well": "sleep 1",
        "ill": "sleep 1; exit 3",
        "taken": "trap 'exit 75' TERM; sleep 900 & wait",
    }
    for name, script in ends.items():
        await to.make(name, "jobs", child(name, None, script))

    async def pod_of(name: str) -> Raw:
        selector = f"kubeseg.dev/job={name}"
        async for raw in client.list(path(to.namespace, "pods"), selector=selector):
            return raw
        return {}

    async def runs() -> bool:
        phase = (await pod_of("taken")).get("status", {}).get("phase")
        return bool(phase == "Running")

    await to.until("taken runs", runs)
    pod = await pod_of("taken")
    meta = pod["metadata"]
    where = path(to.namespace, "pods", meta["name"])
    state = pod["status"]["containerStatuses"][0]["state"]
    to.lines.append(f"{sorted(state)} ip {'podIP' in pod['status']} node {bool(pod['spec'])}")
    owners = [(r["kind"], r["controller"]) for r in meta["ownerReferences"]]
    child_uid = (await to.find("jobs", "taken"))["metadata"]["uid"]
    named = meta["labels"].get("batch.kubernetes.io/controller-uid") == child_uid
    to.lines.append(f"owned by {owners}, {meta.get('finalizers')}, uid in a label: {named}")

    def note(**fields: Any) -> Callable[[], Awaitable[Raw]]:
        return lambda: client.merge(where, {"metadata": fields | {"annotations": {"a": "b"}}})

    notes = ("metadata.annotations",)
    await to.change("noted, another uid", "pods", meta["name"], note(uid=meta["uid"][::-1]), notes)
    await to.change("noted", "pods", meta["name"], note(uid=meta["uid"]), notes)
    await client.delete(where, {"preconditions": {"uid": meta["uid"]}})
    for name in ends:

        async def ended(name: str = name) -> bool:
            status = (await to.find("jobs", name)).get("status", {})
            kinds = {str(c["type"]) for c in status.get("conditions", [])}
            return bool({str(kind) for kind in kinds} & {"Complete", "Failed"})

        await to.until(f"{name} has ended", ended)
        status = (await to.find("jobs", name))["status"]
        kinds = {c["type"]: c["reason"] for c in status["conditions"]}
        last = {kind: kinds[kind] for kind in ("Complete", "Failed") if kind in kinds}
        pod = await pod_of(name)
        states = (pod.get("status") or {}).get("containerStatuses", [{}])
        end = (states[0].get("state") or {}).get("terminated", {})
        to.lines.append(
            f"{name}: {last}, started {'startTime' in status}; its pod: "
            f"{(pod.get('status') or {}).get('phase')} {end.get('exitCode')} {end.get('reason')}"
        )


TRACES = (trainingjobs, jobs, pods, changed_jobs, suspended_jobs, forced_pods, the_rest)
