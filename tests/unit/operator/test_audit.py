"""The audit: what the watches missed is made good, and counted."""

from __future__ import annotations

import asyncio

import pytest

from kubeseg_operator.audit import Auditor
from kubeseg_operator.client import ApiUnreachableError
from kubeseg_operator.store import Store
from kubeseg_operator.views import Key
from kubeseg_operator.watched import Intake
from kubeseg_types.names import LABEL_JOB
from tests.support.fake_api import FakeApi, SlowApi
from tests.support.operator_objects import raw_child, raw_job, raw_pod

KEY = Key("team", "job")


@pytest.fixture
def api() -> SlowApi:
    api = SlowApi()
    api.put("trainingjobs", raw_job())
    api.put("jobs", raw_child())
    api.put("pods", raw_pod())
    return api


def auditor(api: FakeApi, queued: list[Key] | None = None) -> Auditor:
    intake = Intake(Store(), (queued if queued is not None else []).append)
    return Auditor(api, intake, [None], patience=0)  # type: ignore[arg-type]


async def test_loading_lists_everything_once(api: FakeApi) -> None:
    queued: list[Key] = []
    audit = auditor(api, queued)
    assert await audit.load() == 3
    assert (len(audit.store), queued) == (1, [KEY] * 3)
    assert await audit.load() == 0


async def test_what_is_gone_is_dropped(api: FakeApi) -> None:
    audit = auditor(api)
    await audit.load()
    for plural, name in (("pods", "job-1-0-abcde"), ("jobs", "job-1"), ("trainingjobs", "job")):
        api.remove(plural, "team", name)
        assert await audit.load() == 1
    assert audit.store.keys() == set()


@pytest.mark.parametrize(
    ("plural", "name"), [("pods", "job-1-0-abcde"), ("jobs", "job-1"), ("trainingjobs", "job")]
)
async def test_a_deletion_that_no_watch_has_told_is_found_out(
    api: FakeApi, plural: str, name: str
) -> None:
    queued: list[Key] = []
    audit = auditor(api, queued)
    await audit.load()
    queued.clear()
    api.remove(plural, "team", name)
    await audit._audit()
    assert (audit.missed, queued) == (1, [KEY])


async def test_a_watch_that_tells_in_time_is_well(api: FakeApi) -> None:
    audit = auditor(api)
    await audit.load()
    await audit._audit()
    assert audit.missed == 0


@pytest.mark.parametrize(
    ("plural", "name"), [("trainingjobs", "job"), ("jobs", "job-1"), ("pods", "job-1-0-abcde")]
)
async def test_a_silent_watch_is_found_out_and_made_good(
    api: FakeApi, plural: str, name: str
) -> None:
    queued: list[Key] = []
    audit = auditor(api, queued)
    await audit.load()
    queued.clear()
    for count in (1, 2):
        api.change(plural, "team", name, metadata={"labels": raw_pod()["metadata"]["labels"]})
        await audit._audit()
        assert audit.missed == count
        assert queued == [KEY] * count
    await audit._audit()
    assert audit.missed == 0


@pytest.mark.parametrize("plural", ["jobs", "pods"])
async def test_what_no_list_puts_right_is_no_fault_of_the_watch(api: FakeApi, plural: str) -> None:
    """Whoever may make pods must not be able to have the operator ended."""
    audit = auditor(api)
    await audit.load()
    strange = raw_child() if plural == "jobs" else raw_pod()
    strange["metadata"] |= {"name": "strange", "uid": "strange", "labels": {LABEL_JOB: ""}}
    strange["metadata"].pop("ownerReferences")
    unreadable = raw_child() if plural == "jobs" else raw_pod()
    unreadable["metadata"] |= {"name": "odd", "uid": "odd", "ownerReferences": 3}
    api.put(plural, strange)
    api.put(plural, unreadable)
    for _ in range(3):
        await audit._audit()
        assert audit.missed == 0


async def test_one_that_wanders_from_label_to_label_is_no_fault_of_the_watch(api: FakeApi) -> None:
    audit = auditor(api)
    await audit.load()
    for name in ("a", "b", "c"):
        labels = raw_pod()["metadata"]["labels"] | {LABEL_JOB: name}
        api.change("pods", "team", "job-1-0-abcde", metadata={"labels": labels})
        api.tell(audit.intake)
        await audit._audit()
        assert audit.missed == 0
    assert len(audit.store.pods(Key("team", "c"))) == 1


@pytest.mark.parametrize(("plural", "name"), [("jobs", "job-1"), ("pods", "job-1-0-abcde")])
async def test_what_comes_back_while_a_list_is_on_its_way_stays(
    api: SlowApi, plural: str, name: str
) -> None:
    audit = auditor(api)
    await audit.load()
    labels = api.objects[plural, "team", name]["metadata"]["labels"]
    api.change(plural, "team", name, metadata={"labels": {}})

    async def label_it() -> None:
        api.change(plural, "team", name, metadata={"labels": labels})
        api.tell(audit.intake)

    api.slow, api.meanwhile = plural, label_it
    await audit.load()
    assert audit._versions(plural)


@pytest.mark.parametrize(
    ("plural", "name"), [("pods", "job-1-0-abcde"), ("jobs", "job-1"), ("trainingjobs", "job")]
)
async def test_what_a_list_lacks_no_slower_list_brings_back(
    api: SlowApi, plural: str, name: str
) -> None:
    """Whether it was heard of before or not."""
    audit = auditor(api)
    others: list[asyncio.Task[int]] = []

    async def list_once_more() -> None:
        api.remove(plural, "team", name)
        others.append(asyncio.create_task(audit.load()))
        for _ in range(20):
            await asyncio.sleep(0)

    api.slow, api.meanwhile = plural, list_once_more
    await audit.load()
    await others[0]
    assert not audit._versions(plural)


async def test_a_failed_audit_is_tried_again_soon(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = auditor(api)
    waits: list[float] = []
    outcomes = iter([ApiUnreachableError("no answer"), None, None])

    async def once(_: Auditor) -> None:
        if error := next(outcomes):
            raise error

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr(Auditor, "_audit", once)
    monkeypatch.setattr("kubeseg_operator.audit.asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await audit.run()
    assert waits == [300, 15, 300]
