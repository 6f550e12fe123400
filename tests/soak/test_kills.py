"""Twenty trainings while operator, trainers and the cluster's own parts are killed at random."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.e2e.installation import Installation, installed, training_job, values
from tests.e2e.kills import Killer, all_ended, check_undamaged, wait_well
from tests.support.cluster import NotReachedError, TestCluster, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.soak, pytest.mark.timeout(3600)]

NAMESPACE = "kubeseg-kills"
NODE_PORT = 60
TRAININGS, EPOCHS = 20, 10
DEADLINE_S = 3000.0
#: Another seed kills other things at other times.
SEED = int(os.environ.get("KILLS_SEED", "1"))


@pytest.fixture
def kubeseg(
    cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """kubeseg with two operators."""
    chosen = values(NAMESPACE, cluster.node_port(NODE_PORT))
    chosen["operator"]["replicas"] = 2
    folder = tmp_path_factory.mktemp("chart")
    with installed(cluster, NAMESPACE, chosen, folder) as installation:
        yield installation


def test_all_trainings_come_through_random_kills(kubeseg: Installation) -> None:
    kubeseg.data_set("small")
    names = [f"among-kills-{number:02d}" for number in range(TRAININGS)]
    kubeseg.apply(*(training_job(name, epochs=EPOCHS) for name in names))
    killer, begun = Killer(kubeseg, SEED), time.monotonic()
    while not all_ended(kubeseg, names):
        assert time.monotonic() - begun < DEADLINE_S, killer.told
        killer.strike()
        try:
            wait_for("the end", lambda: all_ended(kubeseg, names), killer.pause())
        except NotReachedError:
            continue
    took = time.monotonic() - begun
    wait_well(kubeseg)
    attempts = 0
    for name in names:
        attempts += len(check_undamaged(kubeseg, name, EPOCHS)["attempts"])
    print(
        f"seed {SEED}: {TRAININGS} trainings in {took:.0f} s, "
        f"{len(killer.told)} kills {dict(Counter(killer.told))}, {attempts} attempts"
    )
    assert set(killer.told) == {
        "operator", "trainer", "kube-apiserver", "kube-controller-manager", "kubelet",
    }  # fmt: skip
