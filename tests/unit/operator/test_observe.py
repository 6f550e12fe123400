"""Live reads: what they put into the store, and what they take out of it."""

from __future__ import annotations

from kubeseg_operator.decide import Ask
from kubeseg_operator.observe import LiveReader
from kubeseg_operator.store import Store
from kubeseg_operator.views import job_view, pod_view
from tests.support.fake_api import FakeApi, Fault, SlowApi
from tests.support.operator_objects import child, raw_job, raw_pod, running_attempt, terminated

PROBE = "Liveness probe failed: Get: context deadline exceeded"


async def test_of_a_pod_that_was_killed_its_events_are_read() -> None:
    api, store = FakeApi(), Store()
    job = job_view(api.put("trainingjobs", raw_job(status={"attempts": [running_attempt()]})))
    store.put_child(job.key, child(finished="Failed"))
    ours = raw_pod(phase="Failed", state=terminated(137))
    # Of a later attempt, as its label says; nobody knows who made it.
    strange = raw_pod(attempt=7, child_uid="x", uid="y", phase="Failed", state=terminated(137))
    for raw in (ours, strange):
        store.put_pod(job.key, pod_view(api.put("pods", raw)))
    message = PROBE + "!" * 5000
    api.put("events", {"metadata": {"name": "e", "namespace": "team"}, "message": message})
    reader = LiveReader(api, store)  # type: ignore[arg-type]
    (event,) = await reader.answer(Ask.END_EVENTS, job)
    assert event["message"] == message[:1024], "whoever makes events may write a megabyte"
    assert api.reads == ["GET events"], "of the pod that the attempt's Job has made alone"
    api.faults.append(Fault(lambda _verb, path: path.endswith("/events"), 403))
    assert await reader.answer(Ask.END_EVENTS, job) == (), "an end is decided without them"


async def test_a_pod_that_comes_while_its_list_is_on_its_way_is_not_gone() -> None:
    api, store = SlowApi(), Store()
    job = job_view(api.put("trainingjobs", raw_job()))
    store.put_job(job)
    old = pod_view(api.put("pods", raw_pod()))
    store.put_pod(job.key, old)
    api.remove("pods", "team", old.name)

    async def make_one() -> None:
        store.put_pod(job.key, pod_view(api.put("pods", raw_pod(index=1))))

    api.slow, api.meanwhile = "pods", make_one
    await LiveReader(api, store).answer(Ask.PODS, job)  # type: ignore[arg-type]
    assert {pod.index: pod.gone for pod in store.pods(job.key)} == {0: True, 1: False}
