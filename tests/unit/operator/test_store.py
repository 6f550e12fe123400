"""The store: newer wins, names come again with other UIDs, and ends are remembered."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from kubeseg_operator.store import Store
from kubeseg_operator.views import Key, Pod, child_view, job_view, pod_view
from kubeseg_operator.watched import CHILDREN, JOBS, PODS, Intake, Kind
from tests.support.operator_objects import (
    NOW,
    at,
    child,
    ended_pod,
    job,
    pod,
    raw_child,
    raw_job,
    raw_pod,
)

KEY = Key("team", "job")
Raw = dict[str, Any]


@pytest.mark.parametrize(
    ("version", "news"), [("99", False), ("100", False), ("101", True), ("odd", True)]
)
def test_an_older_version_never_replaces_a_newer(version: str, news: bool) -> None:
    store = Store()
    assert store.put_job(job())
    assert store.put_job(job(resourceVersion=version)) is news


def test_a_namesake_made_later_replaces_and_its_predecessors_end_changes_nothing() -> None:
    store = Store()
    old, new = job(), job(uid="new", creationTimestamp=at(5))
    store.put_job(old)
    assert store.put_job(new)
    assert not store.put_job(old)
    assert not store.drop_job(KEY, old.uid)
    known = store.job(KEY)
    assert known is not None
    assert known.uid == "new"


def test_old_news_brings_nothing_back_that_a_watch_has_told_to_be_gone() -> None:
    store = Store()
    intake = Intake(store, lambda _key: None)
    intake.take(JOBS, raw_job(), deleted=True)
    intake.take(CHILDREN, raw_child(resourceVersion="201"), deleted=True)
    assert not intake.take(JOBS, raw_job())
    assert not intake.take(CHILDREN, raw_child())
    assert intake.take(JOBS, raw_job(uid="its namesake"))


def test_what_lost_its_label_comes_back_with_it() -> None:
    """To a watch by label it was gone, in the version in which the label was taken."""
    store = Store()
    intake = Intake(store, lambda _key: None)
    intake.take(CHILDREN, raw_child())
    assert intake.take(CHILDREN, raw_child(resourceVersion="201"), deleted=True)
    assert intake.take(CHILDREN, raw_child(resourceVersion="202"))
    # What a slow watch tells once more is older than what is known.
    assert not intake.take(CHILDREN, raw_child(resourceVersion="201"), deleted=True)
    assert [each.version for each in store.children(KEY)] == ["202"]


@pytest.mark.parametrize("known", [True, False])
def test_old_news_of_a_pod_that_is_gone_brings_it_back_under_no_key(known: bool) -> None:
    """An audit's list may be slower than the watch, and may tell of jobs that are gone."""
    store = Store()
    if known:
        store.put_job(job())
    intake = Intake(store, lambda _key: None)
    intake.take(PODS, raw_pod())
    intake.take(PODS, raw_pod(resourceVersion="301"), deleted=True)
    store.forget_gone(KEY, below_attempt=9)
    assert not intake.take(PODS, raw_pod())
    assert store.pods(KEY) == ()
    assert intake.take(PODS, raw_pod(resourceVersion="302"))


def labelled(kind: Kind, name: str, version: str) -> Raw:
    raw = raw_pod() if kind is PODS else raw_child(owner=None)
    labels = raw["metadata"]["labels"] | {"kubeseg.dev/job": name}
    raw["metadata"] |= {"labels": labels, "resourceVersion": version}
    return raw


def everywhere(store: Store) -> list[tuple[str, str]]:
    keys = store.keys()
    jobs = [(key.name, job.version) for key in keys for job in store.children(key)]
    return jobs + [(key.name, pod.version) for key in keys for pod in store.watched_pods(key)]


@pytest.mark.parametrize("kind", [CHILDREN, PODS])
def test_old_news_moves_nothing_back_to_the_job_that_its_label_named(kind: Kind) -> None:
    store = Store()
    intake = Intake(store, lambda _key: None)
    assert intake.take(kind, labelled(kind, "other", "310"))
    assert not intake.take(kind, labelled(kind, "job", "305"))
    assert everywhere(store) == [("other", "310")]


def test_a_live_read_moves_no_pod_from_job_to_job() -> None:
    """It may be older than the watch, or newer: only the watch tells both jobs."""
    store = Store()
    intake = Intake(store, lambda _key: None)
    intake.take(PODS, labelled(PODS, "job", "305"))
    assert not store.put_pod(Key("team", "other"), pod_view(labelled(PODS, "other", "310")))
    assert everywhere(store) == [("job", "305")]
    intake.take(PODS, labelled(PODS, "other", "310"))
    assert everywhere(store) == [("other", "310")]


@pytest.mark.parametrize("kind", [CHILDREN, PODS])
def test_what_is_labelled_with_no_name_is_gone(kind: Kind) -> None:
    told: list[Key] = []
    store = Store()
    intake = Intake(store, told.append)
    intake.take(kind, labelled(kind, "job", "305"))
    intake.take(kind, labelled(kind, "", "310"))
    assert (everywhere(store), told) == ([], [KEY, KEY])
    assert intake.take(kind, labelled(kind, "job", "315"))


def test_a_job_is_its_owners_whatever_its_label_says() -> None:
    told: list[Key] = []
    store = Store()
    intake = Intake(store, told.append)
    raw = raw_child()
    raw["metadata"]["labels"] = {"kubeseg.dev/job": "other", "kubeseg.dev/attempt": "1"}
    intake.take(CHILDREN, raw)
    assert told == [KEY]
    assert [each.labelled for each in store.children(KEY)] == [False]


def test_a_404_alone_is_no_end_for_good() -> None:
    store = Store()
    store.put_job(job())
    assert store.drop_job(KEY, job().uid)
    assert store.put_job(job())


def test_a_pod_that_is_gone_still_tells_how_it_ended_until_the_next_attempt() -> None:
    store = Store()
    store.put_job(job())
    store.put_pod(KEY, pod(phase="Running"))
    assert store.drop_pod(KEY, ended_pod(75))
    (last,) = store.pods(KEY)
    assert (last.gone, last.exit_code) == (True, 75)
    assert not store.put_pod(KEY, replace(pod(phase="Running"), version="299"))
    store.forget_gone(KEY, below_attempt=2)
    assert store.pods(KEY) == ()


def test_a_pod_that_only_lost_its_label_comes_back() -> None:
    store = Store()
    store.put_job(job())
    store.put_pod(KEY, pod(phase="Running"))
    # To the watch it was gone in the version in which it lost the label, to a list in its own.
    for gone, own, listed in (("310", "310", "312"), ("320", "315", "321"), ("330", "340", None)):
        there = pod(phase="Running", resourceVersion=own, labels={})
        assert store.drop_pod(KEY, pod(phase="Running"), gone)
        assert not store.put_pod(KEY, replace(there, version="305"))
        assert store.put_pod(KEY, there, listed)
        (known,) = store.pods(KEY)
        assert (known.gone, known.version) == (False, own)
        assert store.watched_pods(KEY) == (), "nobody tells of it before it has its label again"
        assert store.key_of(known.uid) == KEY


def test_a_pod_is_with_the_job_that_has_made_it_whatever_its_label_names() -> None:
    store = Store()
    store.put_job(job())
    other = Key("team", "other")
    for told, read, kept in (("310", "310", "310"), ("330", "320", "330")):
        store.drop_pod(KEY, pod(resourceVersion=told))
        assert store.put_pod(other, pod(resourceVersion=told))
        assert not store.put_pod(KEY, pod(resourceVersion=read), "340"), "its label names another"
        assert store.adopt_pod(KEY, pod(resourceVersion=read), "340")
        assert [each.version for each in store.pods(KEY)] == [kept]
        assert store.pods(other) == ()
        assert store.key_of(pod().uid) == KEY


def test_gone_from_one_job_it_may_be_with_another() -> None:
    """It got the other's label before it was missed here."""
    store = Store()
    store.put_job(job())
    store.put_pod(KEY, pod(resourceVersion="300"))
    assert store.drop_pod(KEY, pod(resourceVersion="300"), "340")
    assert not store.put_pod(KEY, pod(resourceVersion="330"))
    assert store.put_pod(Key("team", "other"), pod(resourceVersion="330"))


def test_an_older_end_is_none() -> None:
    store = Store()
    store.put_job(job())
    store.put_pod(KEY, pod(phase="Running", resourceVersion="400"))
    assert not store.drop_pod(KEY, pod(phase="Running", resourceVersion="390"))
    assert not store.drop_pod(KEY, pod(phase="Running", resourceVersion="400"), "399")
    assert [each.gone for each in store.pods(KEY)] == [False]


def test_when_a_pods_deletion_was_first_seen_is_kept() -> None:
    store = Store()
    store.put_job(job())
    store.put_pod(KEY, pod(phase="Running"))
    for version in ("310", "320"):
        store.put_pod(KEY, pod(resourceVersion=version, deletionTimestamp=at(30)))
    store.drop_pod(KEY, pod(resourceVersion="330", deletionTimestamp=at(30)))
    assert [each.leaving_version for each in store.pods(KEY)] == [310]


def test_nothing_is_left_of_a_job_that_is_gone() -> None:
    store = Store()
    store.put_job(job())
    store.put_child(KEY, child())
    store.put_pod(KEY, pod())
    store.drop_pod(KEY, pod())
    store.drop_job(KEY, job().uid)
    assert store.keys() == {KEY}  # its Job is still being collected
    store.drop_child(KEY, child().name, child().uid)
    assert (store.keys(), len(store)) == (set(), 0)


def test_a_pods_end_after_its_job_is_gone_leaves_nothing() -> None:
    store = Store()
    store.put_pod(KEY, pod())
    assert store.drop_pod(KEY, pod())
    assert store.keys() == set()


def test_only_news_is_queued() -> None:
    queued: list[Key] = []
    intake = Intake(Store(), queued.append)
    for kind, raw in ((JOBS, raw_job()), (CHILDREN, raw_child()), (PODS, raw_pod())):
        assert intake.take(kind, raw)
        assert not intake.take(kind, raw)
        assert intake.take(kind, raw, deleted=True)
    assert queued == [KEY] * 6


def test_what_does_not_name_a_job_is_not_ours() -> None:
    stranger = raw_pod(labels={})
    assert not Intake(Store(), lambda _key: None).take(PODS, stranger)


def test_of_pods_that_are_gone_a_number_is_kept() -> None:
    """Anybody who may make pods may make thousands with a job's label, and delete them."""
    store = Store()
    store.put_job(job())
    for number in range(600):
        made = pod_view(raw_pod(uid=f"u{number}", name=f"p{number}", resourceVersion=f"{number}"))
        store.put_pod(KEY, made)
        store.drop_pod(KEY, made)
    kept = [pod.name for pod in store.pods(KEY)]
    assert kept == [f"p{number}" for number in range(88, 600)], "those that went last"


@pytest.mark.parametrize(
    ("owner", "of"),
    [(None, "c"), ({"kind": "ReplicaSet", "uid": "r", "controller": True}, None)],
)
def test_a_label_tells_who_made_a_pod_only_where_nobody_has_it(
    owner: dict[str, object] | None, of: str | None
) -> None:
    raw = raw_pod()
    raw["metadata"]["ownerReferences"] = [owner] if owner else []
    raw["metadata"]["labels"]["batch.kubernetes.io/controller-uid"] = "c"
    assert pod_view(raw).child == of


@pytest.mark.parametrize("view", [job_view, child_view, pod_view])
@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"metadata": None, "status": None, "spec": None},
        {"metadata": {"labels": None, "ownerReferences": None, "annotations": None}},
        {"metadata": {"labels": {"kubeseg.dev/attempt": "9" * 40}}, "status": {}},
        {"status": {"conditions": None, "containerStatuses": None}},
        {"status": {"containerStatuses": [{"name": "trainer"}], "conditions": [{}]}},
    ],
)
def test_anything_may_be_missing(view: object, raw: dict[str, object]) -> None:
    assert callable(view)
    assert view(raw) is not None


def test_old_news_does_not_bring_back_a_job_that_was_not_found() -> None:
    """A 404 may prove wrong, but what was known before it is not unlearnt."""
    store = Store()
    known = job()
    store.put_job(replace(known, version="120"))
    assert store.drop_job(KEY, known.uid)
    assert not store.put_job(replace(known, version="110"))
    assert store.put_job(replace(known, version="120"))


def placed(seconds: float, **more: Any) -> Pod:
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(seconds)}
    return pod_view(raw_pod(conditions=[scheduled], **more))


def test_it_knows_when_a_controller_and_a_scheduler_last_did_something() -> None:
    store = Store(clock=lambda: NOW)
    assert (store.last_taken_up, store.last_placed) == ("", "")
    store.put_child(KEY, child_view(raw_child(started=at(-50))))
    store.put_child(Key("other", "job"), child_view(raw_child(started=at(-70), uid="another")))
    store.put_pod(KEY, placed(-40))
    store.put_pod(KEY, pod_view(raw_pod(conditions=[], uid="another")))
    store.put_pod(KEY, replace(placed(-5, uid="others"), scheduler="binpack"))
    assert (store.last_taken_up, store.last_placed) == (at(-50), at(-40))


def test_a_clock_that_is_ahead_counts_as_now() -> None:
    store = Store(clock=lambda: NOW)
    store.put_child(KEY, child_view(raw_child(started=at(100_000))))
    store.put_pod(KEY, placed(3))
    assert (store.last_taken_up, store.last_placed) == (at(0), at(0))


def test_what_gets_the_label_of_another_is_gone_to_the_first() -> None:
    queued: list[Key] = []
    store = Store()
    intake = Intake(store, queued.append)
    other = Key("team", "other")
    intake.take(JOBS, raw_job())
    for kind, raw in ((CHILDREN, raw_child()), (PODS, raw_pod())):
        # A Job that a TrainingJob owns is that one's, whatever its label says.
        raw["metadata"].pop("ownerReferences", None)
        intake.take(kind, raw)
        queued.clear()
        moved = copy.deepcopy(raw)
        moved["metadata"]["resourceVersion"] = "900"
        moved["metadata"]["labels"]["kubeseg.dev/job"] = "other"
        intake.take(kind, moved)
        assert queued == [KEY, other]
    assert store.children(KEY) == ()
    assert [pod.gone for pod in store.pods(KEY)] == [True]
    assert [child.version for child in store.children(other)] == ["900"]
    assert [pod.version for pod in store.pods(other)] == ["900"]


def test_a_pod_of_the_same_name_is_another() -> None:
    store = Store()
    store.put_pod(KEY, pod_view(raw_pod(uid="new")))
    assert not store.drop_pod(KEY, pod_view(raw_pod(uid="old")))
    assert [pod.uid for pod in store.pods(KEY)] == ["new"]
