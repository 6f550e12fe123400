from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from kubeseg_local import fakechown, processes
from kubeseg_local.namespaces import refusal
from kubeseg_local.progress import Progress, eta_text
from kubeseg_local.restarts import GiveUp, Restart, decide
from kubeseg_local.runner import exit_text, last_lines
from kubeseg_local.state import ClusterState, ComponentState, Crash


@pytest.mark.parametrize(
    ("crashes", "decision"),
    [
        ([100.0], Restart(0.5)),
        ([99.0, 100.0], Restart(1.0)),
        ([97.0, 98.0, 99.0, 100.0], Restart(4.0)),
        ([96.0, 97.0, 98.0, 99.0, 100.0], GiveUp("crashed 5 times within 60 s")),
        ([1.0, 2.0, 3.0, 4.0, 100.0], Restart(0.5)),
    ],
)
def test_restart_or_give_up(crashes: list[float], decision: Restart | GiveUp) -> None:
    assert decide(crashes, now=100.0) == decision


@pytest.mark.parametrize(
    ("status", "text"),
    [(0, "exit code 0"), (7 << 8, "exit code 7"), (9, "signal 9 (SIGKILL)")],
)
def test_exit_in_words(status: int, text: str) -> None:
    assert exit_text(status) == text


def test_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one\ntwo\n" + b"x" * 400 + b"\nbad \xff byte\n")
    assert last_lines(log, 3) == ["two", "x" * 300, "bad � byte"]
    assert last_lines(tmp_path / "none") == []


WELL = ComponentState(running=True, healthy=True)


@pytest.mark.parametrize(
    ("state", "problems"),
    [
        (ClusterState("Ready", components={"etcd": WELL}), []),
        (ClusterState("Starting", "waiting for the node"), ["waiting for the node"]),
        (ClusterState("Ready", components={"etcd": ComponentState()}), ["etcd is down"]),
        (
            ClusterState("Ready", components={"etcd": ComponentState(running=True)}),
            ["etcd does not answer its health check"],
        ),
        (
            ClusterState("Failed", "x crashed", components={"x": ComponentState()}),
            ["failed: x crashed", "x is down"],
        ),
    ],
)
def test_problems(state: ClusterState, problems: list[str]) -> None:
    assert state.problems() == problems


def test_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    crash = Crash("etcd", "now", "exit code 1", ["line"], "started again")
    state = ClusterState("Ready", "", {"etcd": WELL}, [crash], ["a warning"])
    state.save(tmp_path / "state.json")
    assert ClusterState.load(tmp_path / "state.json") == state
    assert ClusterState.load(tmp_path / "none.json") is None


@pytest.mark.parametrize(
    ("settings", "root", "words"),
    [
        (
            {"user.max_user_namespaces": "0"},
            False,
            "user.max_user_namespaces is 0: `sudo sysctl -w user.max_user_namespaces=15000`",
        ),
        (
            {"kernel.apparmor_restrict_unprivileged_userns": "1"},
            False,
            "`sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` allows them",
        ),
        ({"kernel.unprivileged_userns_clone": None}, False, "Inside a container"),
        ({"user.max_user_namespaces": "15000"}, True, "no CAP_SYS_ADMIN"),
    ],
)
def test_refused_namespaces_name_their_remedy(
    settings: dict[str, str | None], root: bool, words: str
) -> None:
    text = refusal("unshare failed: Operation not permitted", settings, root=root)
    assert words in text
    assert "Operation not permitted" in text


def test_a_listening_socket_is_found_with_its_owner() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        port = server.getsockname()[1]
        assert not processes.port_is_free(port)
        (found,) = [each for each in processes.listeners() if each.port == port]
        assert found.address == "127.0.0.1"
        assert found.inode in processes.socket_inodes(os.getpid())
        assert f"process {os.getpid()} (" in processes.port_owner(port)
    assert processes.port_is_free(port)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0100007F", "127.0.0.1"),
        ("00000000", "0.0.0.0"),
        ("00000000000000000000000001000000", "::1"),
        ("0000000000000000FFFF00000100007F", "::ffff:127.0.0.1"),
    ],
)
def test_addresses_of_the_kernels_table(text: str, address: str) -> None:
    assert processes._address(text) == address


def test_no_supervisor_no_end(tmp_path: Path) -> None:
    assert processes.supervisors(tmp_path) == []
    assert processes.end_cluster(tmp_path) == 0


@pytest.mark.parametrize("machine", sorted(fakechown.SYSTEM_CALLS))
def test_the_filter_decides_by_architecture_and_call(machine: str) -> None:
    """Run the filter's program by hand, over every call's number."""
    architecture, faked = fakechown.SYSTEM_CALLS[machine]
    code = fakechown.filter_program(machine)
    steps = [struct.unpack_from("HBBI", code, i) for i in range(0, len(code), 8)]

    def verdict(arch: int, call: int) -> int:
        at, word = 0, 0
        while True:
            operation, yes, no, value = steps[at]
            if operation == fakechown.RETURN:
                return int(value)
            if operation == fakechown.LOAD_WORD:
                word = {0: call, 4: arch}[value]
                at += 1
            else:
                at += 1 + (yes if word == value else no)

    for call in range(500):
        expected = fakechown.RETURN_ERRNO if call in faked else fakechown.RETURN_ALLOW
        assert verdict(architecture, call) == expected
        assert verdict(1234, call) == fakechown.RETURN_ALLOW


def test_chown_succeeds_and_does_nothing(tmp_path: Path) -> None:
    script = (
        "import os, sys; os.chown(sys.argv[1], 4321, 4321); os.lchown(sys.argv[1], 1, 1);"
        "print(os.stat(sys.argv[1]).st_uid); open(sys.argv[1] + '2', 'w').close()"
    )
    done = subprocess.run(
        [
            sys.executable, "-m", "kubeseg_local.fakechown",
            sys.executable, "-c", script, str(tmp_path),
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) == tmp_path.stat().st_uid
    assert Path(f"{tmp_path}2").exists()


@pytest.mark.parametrize(
    ("done", "elapsed", "text"),
    [
        (0, 100, ""),
        (2, 100, ""),
        (50, 1, ""),
        (100, 100, ""),
        (50, 100, "about 1m30s left"),
        (90, 90, "about 10s left"),
        (10, 60, "about 9m00s left"),
    ],
)
def test_what_is_left_in_words(done: int, elapsed: float, text: str) -> None:
    assert eta_text(done, 100, elapsed) == text


def test_progress_is_told_now_and_then_only() -> None:
    lines: list[str] = []
    progress = Progress("building", lines.append)
    for done in range(1, 1001):
        progress.step(done, 1000)
    assert len(lines) <= 2
    assert lines[0].startswith("building  ")
    progress.note("linking")
    assert lines[-1] == "building: linking"
