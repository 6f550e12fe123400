"""Everything that a training needs is killed while it runs; tests/soak does it at length."""

from __future__ import annotations

import pytest

from tests.e2e.installation import Installation, training_job
from tests.e2e.kills import Killer, all_ended, check_undamaged, wait_well
from tests.support.cluster import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

EPOCHS = 20


def test_trainings_come_through_the_death_of_each_part(kubeseg: Installation) -> None:
    kubeseg.data_set("small")
    names = ["killed-around-1", "killed-around-2"]
    kubeseg.apply(*(training_job(name, epochs=EPOCHS) for name in names))
    killer = Killer(kubeseg, seed=5)
    kubeseg.wait_epoch(names[0], 1)
    for target in ("trainer", "operator", "kubelet", "kube-controller-manager", "kube-apiserver"):
        killer.strike(target)
    assert len(killer.told) == 5, killer.told
    wait_for("all have ended", lambda: all_ended(kubeseg, names), 240)
    wait_well(kubeseg)
    for name in names:
        status = check_undamaged(kubeseg, name, EPOCHS)
        # What was killed goes on in a second attempt; nobody else was hurt by all the rest.
        again = killer.trainers[kubeseg.get("tj", name)["metadata"]["uid"]]
        assert len(status["attempts"]) == 1 + again, (again, status)
