"""Which process of how many, and what the end of several means, as tables."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from kubeseg_trainer.errors import ConfigurationError
from kubeseg_trainer.launcher import code_of, most_telling
from kubeseg_trainer.placement import Placement, Pod, placement_of, pod_of
from kubeseg_types.exit_codes import ExitCode

WORKER = {
    "JOB_COMPLETION_INDEX": "1",
    "KUBESEG_WORKERS": "3",
    "KUBESEG_COORDINATOR": "job-1-0.job:29400",
}


@pytest.mark.parametrize(
    ("env", "processes", "gpus", "pod"),
    [
        ({}, None, 0, Pod(0, 1, 1, "127.0.0.1", 0)),
        ({}, None, 8, Pod(0, 1, 8, "127.0.0.1", 0)),
        ({}, 2, 8, Pod(0, 1, 2, "127.0.0.1", 0)),
        ({"KUBESEG_PROCESSES": "3", "POD_IP": "10.0.0.7"}, None, 1, Pod(0, 1, 3, "10.0.0.7", 0)),
        # The only pod of an Indexed Job.
        ({"JOB_COMPLETION_INDEX": "0"}, None, 0, Pod(0, 1, 1, "127.0.0.1", 0)),
        (WORKER, None, 2, Pod(1, 3, 2, "job-1-0.job", 29400)),
        (
            WORKER | {"KUBESEG_COORDINATOR": "job-1-0.job"},
            None,
            0,
            Pod(1, 3, 1, "job-1-0.job", 29500),
        ),
        (WORKER | {"KUBESEG_COORDINATOR": "[fd00::1]:5"}, 1, 0, Pod(1, 3, 1, "fd00::1", 5)),
    ],
)
def test_a_pod(env: dict[str, str], processes: int | None, gpus: int, pod: Pod) -> None:
    assert pod_of(env, processes=processes, gpus=gpus) == pod


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"JOB_COMPLETION_INDEX": ""}, "JOB_COMPLETION_INDEX"),
        ({"JOB_COMPLETION_INDEX": "3"}, "JOB_COMPLETION_INDEX must be below 3"),
        ({"KUBESEG_WORKERS": "many"}, "KUBESEG_WORKERS must be a whole number"),
        ({"KUBESEG_PROCESSES": "0"}, "KUBESEG_PROCESSES must be a whole number from 1"),
        ({"KUBESEG_COORDINATOR": ""}, "KUBESEG_COORDINATOR must be worker 0's host:port"),
        ({"KUBESEG_COORDINATOR": "host:port"}, "not 'host:port'"),
    ],
)
def test_a_pod_that_contradicts_itself(change: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        pod_of(WORKER | change, processes=None, gpus=0)


def test_what_a_pod_tells_its_processes_is_what_they_read() -> None:
    env = Pod(1, 3, 2, "127.0.0.1", 5).environment(1, 5) | {"POD_IP": "127.0.0.9"}
    assert placement_of(env) == Placement(3, 6, 1, 2, "127.0.0.1", 5, "127.0.0.9")


def test_a_process_as_torchrun_starts_it() -> None:
    env = {
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "5",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "2",
    }
    place = placement_of(env)
    assert place is not None
    assert (place.address, place.agent) == ("127.0.0.1", "/kubeseg/2")


@pytest.mark.parametrize("env", [{}, {"RANK": "0", "WORLD_SIZE": "1"}])
def test_one_process_is_no_group(env: dict[str, str]) -> None:
    assert placement_of(env) is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"RANK": "2"}, "RANK must be below WORLD_SIZE"),
        ({"RANK": "-1"}, "RANK must be a whole number"),
        ({"MASTER_PORT": ""}, "MASTER_PORT"),
    ],
)
def test_a_place_that_can_not_be(change: dict[str, str], named: str) -> None:
    env = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "5"}
    with pytest.raises(ConfigurationError, match=named):
        placement_of(env | change)


@pytest.mark.parametrize(
    ("status", "out_of_memory", "code"),
    [
        (0, False, ExitCode.SUCCESS),
        (75, False, ExitCode.INTERRUPTED),
        (4, True, ExitCode.NON_FINITE),
        (-signal.SIGKILL, False, ExitCode.INTERRUPTED),
        (-signal.SIGKILL, True, ExitCode.OUT_OF_MEMORY),
        (-signal.SIGTERM, False, ExitCode.INTERRUPTED),
        # A crash that would come again must be counted.
        (-signal.SIGSEGV, False, ExitCode.ERROR),
        (-signal.SIGBUS, False, ExitCode.ERROR),
        (120, False, ExitCode.ERROR),
    ],
)
def test_what_a_status_means(status: int, out_of_memory: bool, code: ExitCode) -> None:
    assert code_of(status, out_of_memory=out_of_memory) == code


@pytest.mark.parametrize(
    ("codes", "chosen"),
    [
        ([0, 0], 0),
        ([75, 75, 75], 0),
        ([75, 1, 75], 1),
        ([75, 78, 1], 1),
        ([0, 75], 1),
        ([77, 79], 1),
        ([76, 75], 0),
        ([75, 3, 4], 1),
    ],
)
def test_the_most_telling_end_counts(codes: list[int], chosen: int) -> None:
    assert most_telling([ExitCode(code) for code in codes]) == chosen


def test_every_code_has_its_place_among_endings() -> None:
    for code in ExitCode:
        assert most_telling([code]) == 0


def test_kills_for_memory_are_read_from_the_cgroup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubeseg_trainer import launcher

    file = tmp_path / "memory.events"
    monkeypatch.setattr(launcher, "MEMORY_EVENTS", file)
    assert launcher.kills_for_memory() == 0
    file.write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert launcher.kills_for_memory() == 2
