"""Two operators and one Lease: the leader is killed, or stopped past its Lease and woken again."""

from __future__ import annotations

import json
import secrets
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.audit_log import by_account
from tests.support.cluster import ROOT, TestCluster, wait_for
from tests.support.operator_process import CLAIM, OperatorProcess, Place, add_scripted_trainer
from tests.support.operator_rights import LEASE, operators_kubeconfig

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

CRD = ROOT / "charts" / "kubeseg" / "files" / "trainingjobs.yaml"
WRITES = {"create", "update", "patch", "delete"}


@dataclass
class Pair:
    """A namespace with a leader and a standby, each with a service account of its own."""

    place: Place
    leader: OperatorProcess
    standby: OperatorProcess
    #: When the leader was killed or stopped, by the wall clock that the audit log has too.
    struck: datetime

    def holder(self) -> str:
        return str(self.place.get("lease", LEASE).get("spec", {}).get("holderIdentity", ""))

    def writes(self, who: str) -> list[tuple[datetime, str]]:
        """When an operator sent which writes, refused ones too."""
        return [
            (
                datetime.fromisoformat(entry["requestReceivedTimestamp"]),
                f"{entry['verb']} {entry['requestURI']} {entry['responseStatus'].get('code')}",
            )
            for entry in by_account(self.place.cluster, f"{self.place.name}:{who}-kubeseg-operator")
            if entry["verb"] in WRITES
        ]

    def takeover(self) -> datetime:
        """When the standby took the Lease."""
        spec = self.place.get("lease", LEASE)["spec"]
        assert spec["holderIdentity"] == "standby"
        return datetime.fromisoformat(spec["acquireTime"])


def pair(cluster: TestCluster, folder: Path, word: str) -> Pair:
    """Two operators that have been started and not been waited for."""
    place = Place(cluster, f"{word}-{secrets.token_hex(3)}")
    cluster.kubectl("create", "namespace", place.name)
    place.apply(CLAIM)
    operators = [
        OperatorProcess(
            place.name,
            folder / f"{word}-{who}.log",
            operators_kubeconfig(place, folder, f"{who}-kubeseg-operator"),
            KUBESEG_LEASE=f"{place.name}/{LEASE}",
            POD_NAME=who,
        )
        for who in ("leader", "standby")
    ]
    return Pair(place, operators[0], operators[1], datetime.now(UTC))


@pytest.fixture(scope="module")
def pairs(
    cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Pair, Pair]]:
    """Two pairs; the one's leader has just been killed, the other's stopped. Both have work to do.

    At once, since each takes the time in which a Lease runs out.
    """
    folder = tmp_path_factory.mktemp("leadership")
    add_scripted_trainer(cluster)
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    both = pair(cluster, folder, "killed"), pair(cluster, folder, "paused")
    try:
        for each in both:
            each.leader.launch()
        for each in both:
            each.leader.until_ready()
            each.standby.launch()
        for each in both:
            each.standby.until_ready()
            each.place.job("before", {"epochs": 1, "seconds": 3})
            # Of two that stand by, one could not tell which of them leads.
            assert each.holder() == "leader"
        for each in both:
            each.place.until("before", lambda s: s.get("phase") == "Running")
        for each, number in zip(both, (signal.SIGKILL, signal.SIGSTOP), strict=True):
            each.struck = datetime.now(UTC)
            each.leader.send(number)
            each.place.job("after", {"epochs": 2, "seconds": 0.5})
        yield both
    finally:
        for each in both:
            for operator in (each.leader, each.standby):
                operator.end()
            cluster.kubectl("delete", "namespace", each.place.name, "--wait=false")
    for log in folder.glob("*.log"):
        assert "Traceback" not in log.read_text(), log.read_text()


def test_a_standby_is_at_work_15_seconds_after_the_leaders_death(pairs: tuple[Pair, Pair]) -> None:
    killed, _ = pairs
    assert killed.standby.says("readyz") == (200, "standby: leader leads")
    assert killed.standby.probe("healthz") == 200
    assert killed.standby.series("kubeseg_operator_leading") == {"": 0.0}
    done = killed.place.phase("after", "Succeeded")
    assert len(done["attempts"]) == 1
    # What ended meanwhile is told by the new one.
    assert len(killed.place.phase("before", "Succeeded")["attempts"]) == 1
    first = min(when for when, what in killed.writes("standby") if "leases" not in what)
    took = (first - killed.struck).total_seconds()
    print(f"leader's death → the standby's first write: {took:.1f} s")
    assert took < 15
    assert killed.standby.series("kubeseg_operator_leading") == {"": 1.0}
    assert killed.standby.says("readyz") == (200, "ok")
    assert "standby" in killed.place.kubectl("get", "lease", LEASE)


def test_a_leader_that_was_paused_past_its_lease_changes_nothing(pairs: tuple[Pair, Pair]) -> None:
    _, paused = pairs
    assert len(paused.place.phase("after", "Succeeded")["attempts"]) == 1
    # There is work that it learns of as it wakes, and would have done.
    for number in range(3):
        paused.place.job(f"late-{number}", {"epochs": 1, "seconds": 0.2})
    paused.leader.send(signal.SIGCONT)
    assert paused.leader.ended(10) == 1
    assert "no longer the leader" in paused.leader.log.read_text()
    assert f"{paused.place.name}/{LEASE}" in paused.leader.log.read_text()
    for number in range(3):
        paused.place.phase(f"late-{number}", "Succeeded")
    taken = paused.takeover()
    assert [what for when, what in paused.writes("leader") if when >= taken] == []
    assert any(what.startswith("update") for when, what in paused.writes("leader")), "not by chance"


def test_a_lease_that_is_given_back_is_taken_at_once(pairs: tuple[Pair, Pair]) -> None:
    _, paused = pairs
    paused.leader.launch()
    paused.leader.until_ready()
    assert paused.leader.says("readyz") == (200, "standby: standby leads")
    begun = time.monotonic()
    assert paused.standby.stop() == 0
    wait_for("the other leads", lambda: paused.leader.says("readyz") == (200, "ok"), 15)
    took = time.monotonic() - begun
    print(f"SIGTERM → the other leads: {took:.1f} s")
    spec = paused.place.get("lease", LEASE)["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("leader", 2), json.dumps(spec)
    # Less than a Lease would need to run out.
    assert took < 8
