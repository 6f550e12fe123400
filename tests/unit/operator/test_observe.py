"""Live reads: what they put into the store, and what they take out of it."""

from __future__ import annotations

from kubeseg_operator.decide import Ask
from kubeseg_operator.observe import LiveReader
from kubeseg_operator.store import Store
from kubeseg_operator.views import job_view, pod_view
from tests.support.fake_api import FakeApi, Fault, SlowApi
from tests.support.operator_objects import raw_job, raw_pod, terminated

PROBE = "Liveness probe failed: Get: context deadline exceeded"


async def test_of_a_pod_that_was_killed_its_events_are_read() -> None:
    api, store = FakeApi(), Store()
    job = job_view(api.put("trainingjobs", raw_job()))
    old = raw_pod(attempt=1, uid="old", phase="Failed", state=terminated(137))
    new = raw_pod(attempt=2, phase="Failed", state=terminated(137))
    for raw in (old, new):
        store.put_pod(job.key, pod_view(api.put("pods", raw)))
    api.put("events", {"metadata": {"name": "e", "namespace": "team"}, "message": PROBE})
    reader = LiveReader(api, store)  # type: ignore[arg-type]
    assert [event["message"] for event in await reader.answer(Ask.END_EVENTS, job)] == [PROBE]
    assert api.reads == ["GET events"], "of the last attempt's pod alone"
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
    assert [(pod.index, pod.gone) for pod in store.pods(job.key)] == [(0, True), (1, False)]
