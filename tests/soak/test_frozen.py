"""A trainer that is frozen as a whole, its own watchdog included: its kubelet ends it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.installation import Installation, installed, training_job, values
from tests.e2e.kills import Killer, check_undamaged
from tests.support.cluster import TestCluster, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.soak, pytest.mark.timeout(900)]

NAMESPACE = "kubeseg-frozen"
NODE_PORT = 64
EPOCHS = 30
#: Four probes of 30 s fail at the least, then come 60 s of grace.
PATIENCE_S = 300


@pytest.fixture
def kubeseg(
    cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    chosen = values(NAMESPACE, cluster.node_port(NODE_PORT))
    folder = tmp_path_factory.mktemp("chart")
    with installed(cluster, NAMESPACE, chosen, folder) as installation:
        yield installation


def test_a_frozen_trainer_is_ended_and_the_training_goes_on(kubeseg: Installation) -> None:
    kubeseg.data_set("small")
    kubeseg.apply(training_job("frozen", epochs=EPOCHS, training={"stallTimeout": "60s"}))
    kubeseg.wait_epoch("frozen", 2)
    Killer(kubeseg, seed=1).freeze()

    def first() -> dict[str, object]:
        attempt: dict[str, object] = kubeseg.status("frozen")["attempts"][0]
        return attempt

    wait_for("its attempt ends", lambda: "endTime" in first(), PATIENCE_S)
    end = first()
    assert (end["outcome"], end["reason"], end["exitCode"]) == ("Failed", "Stalled", 137)
    assert "liveness probe, killed by SIGKILL. Its last lines: " in str(end["message"])
    wait_for("the end", lambda: kubeseg.status("frozen")["phase"] in {"Succeeded", "Failed"}, 240)
    assert len(check_undamaged(kubeseg, "frozen", EPOCHS)["attempts"]) == 2
