from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kubeseg_local.runtime import images, launch, spec
from kubeseg_local.runtime.containers import exit_code, parse_report
from kubeseg_local.runtime.faults import CallError, NotFoundError, UnsupportedError
from kubeseg_local.runtime.hosts import compose
from kubeseg_local.runtime.images import Image
from kubeseg_local.runtime.logs import MAX_LINE, LineCutter, LogPump, timestamp
from kubeseg_local.runtime.memory import added_up, used_by
from kubeseg_local.runtime.store import next_address

STATUS = "Name:\tpython\nRssAnon:\t    2048 kB\nRssFile:\t 9999 kB\nRssShmem:\t 1024 kB\n"


def test_memory_that_counts_is_anonymous_or_shared() -> None:
    assert added_up(STATUS, ("RssAnon:", "RssShmem:")) == 3 << 20
    assert added_up("", ("RssAnon:",)) == 0


EATER = """
import os, sys
eaten = bytearray(os.urandom(1)) * (64 << 20)
child = os.fork()
if child == 0:
    sys.stdin.read()
    os._exit(0)
print(os.getpid(), child, flush=True)
sys.stdin.read()
"""


def test_what_processes_share_counts_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", EATER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as eater:
        assert eater.stdout
        pids = [int(text) for text in eater.stdout.readline().split()]
        mib = 1 << 20
        # Far from the limit the cheap sum will do: it counts the block twice.
        assert used_by(pids, 1 << 40) > 120 * mib
        assert 64 * mib < used_by(pids, 100 * mib) < 90 * mib
        eater.communicate(b"")
    assert used_by(pids, 0) == 0


@pytest.mark.parametrize(
    ("reference", "name", "tag"),
    [
        ("kubeseg-trainer", "kubeseg-trainer", "latest"),
        ("kubeseg-trainer:1.2", "kubeseg-trainer", "1.2"),
        ("registry:5000/team/kubeseg-api", "kubeseg-api", "latest"),
        ("registry:5000/team/kubeseg-api:v1", "kubeseg-api", "v1"),
        ("r/kubeseg-api:v1@sha256:abc", "kubeseg-api", "v1"),
    ],
)
def test_references(reference: str, name: str, tag: str) -> None:
    assert images.parse_reference(reference) == (name, tag)


KNOWN = {"app": Image("app", ["/app"], ["serve"], {"A": "1"}, 10001)}


@pytest.mark.parametrize("reference", ["nothing", "app:missing", "r/app-2:1"])
def test_images_that_are_not_there(reference: str) -> None:
    assert images.find(KNOWN, reference) is None
    with pytest.raises(NotFoundError, match=f"image '{reference}' not found"):
        images.pull(KNOWN, reference)


def test_images_are_found_by_any_registry_and_by_id() -> None:
    assert images.pull(KNOWN, "ghcr.io/x/app:3") is KNOWN["app"]
    assert images.pull(KNOWN, KNOWN["app"].id) is KNOWN["app"]


@pytest.mark.parametrize(
    ("command", "args", "argv"),
    [
        ([], [], ["/app", "serve"]),
        ([], ["train"], ["/app", "train"]),
        (["sh"], [], ["sh"]),
        (["sh"], ["-c"], ["sh", "-c"]),
    ],
)
def test_command_and_args_as_kubernetes_means_them(
    command: list[str], args: list[str], argv: list[str]
) -> None:
    assert images.command_line(KNOWN["app"], command, args) == argv


def test_times_of_log_lines() -> None:
    assert timestamp(1_700_000_000_000_000_042) == "2023-11-14T22:13:20.000000042Z"


@pytest.mark.parametrize(
    ("chunks", "parts"),
    [
        ([b"a\nb\n"], [("F", b"a"), ("F", b"b")]),
        ([b"a", b"b\n"], [("F", b"ab")]),
        ([b"\n"], [("F", b"")]),
        ([b"open"], [("P", b"open")]),
        ([b"x" * MAX_LINE + b"\n"], [("F", b"x" * MAX_LINE)]),
        ([b"x" * MAX_LINE + b"y\n"], [("P", b"x" * MAX_LINE), ("F", b"y")]),
        ([b"x" * MAX_LINE, b"y\n"], [("P", b"x" * MAX_LINE), ("F", b"y")]),
        ([b"x" * (2 * MAX_LINE + 1)], [("P", b"x" * MAX_LINE)] * 2 + [("P", b"x")]),
    ],
)
def test_lines_are_cut(chunks: list[bytes], parts: list[tuple[str, bytes]]) -> None:
    cutter = LineCutter()
    found = [part for chunk in chunks for part in cutter.feed(chunk)]
    assert found + cutter.end() == parts


def test_a_rotated_log_goes_on_in_a_new_file(tmp_path: Path) -> None:
    out, err = os.pipe(), os.pipe()
    path = tmp_path / "pod" / "0.log"
    pump = LogPump(path, out[0], err[0])
    os.write(out[1], b"before\n")
    while b"before" not in path.read_bytes():
        pass
    path.rename(tmp_path / "old.log")
    pump.reopen()
    os.write(err[1], b"after\n")
    os.close(out[1])
    os.close(err[1])
    pump.join(5)
    assert (tmp_path / "old.log").read_text().endswith(" stdout F before\n")
    assert path.read_text().endswith(" stderr F after\n")


@pytest.mark.parametrize(("status", "code"), [(0, 0), (7 << 8, 7), (9, 137), (15, 143)])
def test_exit_codes(status: int, code: int) -> None:
    assert exit_code(status) == code


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pid 7\n", (7, "")),
        ("pid 7\nerror exec: no such program\n", (7, "exec: no such program")),
        ("error unshare: no\n", (0, "unshare: no")),
        ("", (0, "")),
    ],
)
def test_reports_of_the_launcher(text: str, found: tuple[int, str]) -> None:
    assert parse_report(text) == found


def test_addresses_go_round() -> None:
    assert next_address("127.9", set(), 0) == ("127.9.0.1", 1)
    assert next_address("127.9", {"127.9.0.2"}, 1) == ("127.9.0.3", 3)
    assert next_address("127.9", set(), 255) == ("127.9.1.0", 256)
    last = (1 << 16) - 2
    assert next_address("127.9", {"127.9.0.1"}, last) == ("127.9.0.2", 2)
    everything = {f"127.9.{n >> 8}.{n & 255}" for n in range(1, last + 1)}
    with pytest.raises(CallError, match="no address is free"):
        next_address("127.9", everything, 5)


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ([], ["ALL"], set()),
        (["NET_BIND_SERVICE"], ["ALL"], {"NET_BIND_SERVICE"}),
        ([], [], set(spec.DEFAULT_CAPABILITIES)),
        ([], ["CAP_MKNOD"], set(spec.DEFAULT_CAPABILITIES) - {"MKNOD"}),
        (["ALL"], ["SYS_ADMIN"], set(spec.CAPABILITIES) - {"SYS_ADMIN"}),
    ],
)
def test_capabilities(add: list[str], drop: list[str], expected: set[str]) -> None:
    numbers = spec.capability_numbers(add, drop)
    assert {spec.CAPABILITIES[each] for each in numbers} == expected


def test_an_unknown_capability_is_named() -> None:
    with pytest.raises(CallError, match="no such Linux capability: FLY"):
        spec.capability_numbers(["FLY"], [])


def test_the_environment_is_the_images_and_the_pods_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_CALLER", "x")
    given = [
        ("A", "2"), ("KUBERNETES_SERVICE_HOST", "127.1.0.1"), ("KUBERNETES_SERVICE_PORT", "443"),
        ("KUBERNETES_PORT_443_TCP_ADDR", "127.1.0.1"),
    ]  # fmt: skip
    env = spec.environment(KNOWN["app"], given, "host", 26443)
    assert env["A"] == "2", "the pod's goes before the image's"
    assert env["HOME"] == "/tmp"
    assert env["HOSTNAME"] == "host"
    assert (env["KUBERNETES_SERVICE_HOST"], env["KUBERNETES_SERVICE_PORT"]) == (
        "127.0.0.1",
        "26443",
    )
    assert "KUBERNETES_PORT_443_TCP_ADDR" not in env
    assert "SECRET_OF_CALLER" not in env
    bare = spec.environment(Image("tools"), [("HOME", "/h")], "host", 1)
    assert bare["HOME"] == "/h"
    assert not any(each.startswith("KUBERNETES") for each in bare)


def context(**fields: Any) -> Any:
    values = {
        "run_as_username": "", "supplemental_groups": [],
        **{name: SimpleNamespace(value=value) for name, value in fields.items()},
    }  # fmt: skip
    return SimpleNamespace(HasField=lambda name: name in fields, **values)


@pytest.mark.parametrize(
    ("fields", "ids"),
    [
        ({}, (10001, 10001)),
        ({"run_as_user": 5}, (5, 0)),
        ({"run_as_user": 10001}, (10001, 10001)),
        ({"run_as_user": 5, "run_as_group": 6}, (5, 6)),
        ({"run_as_user": 0}, (0, 0)),
    ],
)
def test_users(fields: dict[str, int], ids: tuple[int, int]) -> None:
    assert spec.user_ids(context(**fields), KNOWN["app"])[:2] == ids


def sandbox(pid: int = 1, network: int = 0, host_port: int = 0) -> Any:
    options = SimpleNamespace(pid=pid, network=network)
    ports = [SimpleNamespace(host_port=host_port)]
    return SimpleNamespace(
        linux=SimpleNamespace(security_context=SimpleNamespace(namespace_options=options)),
        port_mappings=ports,
    )


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (sandbox(pid=0), "shareProcessNamespace"),
        (sandbox(pid=2), "hostPID"),
        (sandbox(host_port=80), "hostPort 80"),
    ],
)
def test_what_processes_can_not_do(config: Any, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        spec.check_sandbox(config)


def test_what_processes_can_do() -> None:
    spec.check_sandbox(sandbox())
    spec.check_sandbox(sandbox(network=2, host_port=80))  # the port is the pod's own then


@pytest.mark.parametrize(
    ("folders", "kept"),
    [
        (["/a", "/a/b", "/c/"], ["/a", "/c"]),
        (["/usr/lib/python3", "/ab", "/a"], ["/a", "/ab"]),
    ],
)
def test_shown_folders(folders: list[str], kept: list[str]) -> None:
    assert spec.outermost(folders) == kept


@pytest.mark.parametrize(
    ("servers", "text"),
    [
        ([], "machine's"),
        (["127.0.0.53"], "machine's"),
        (["10.0.0.1"], "nameserver 10.0.0.1\nsearch a b\noptions ndots:5\n"),
    ],
)
def test_resolver(servers: list[str], text: str) -> None:
    dns = SimpleNamespace(servers=servers, searches=["a", "b"], options=["ndots:5"])
    assert spec.resolver(dns, "machine's") == text


def test_hosts_files_keep_the_kubelets_lines() -> None:
    text = compose("127.0.0.1 localhost\n", "127.1.0.2\tweb\n")
    assert text.startswith("127.0.0.1 localhost\n#")
    assert text.endswith("127.1.0.2\tweb\n")


def test_mounts_stay_inside_the_container(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to("/etc")
    (root / "inner").mkdir()
    (root / "fine").symlink_to("inner")
    assert launch.within(str(root), "/fine/x") == str(root / "fine/x")
    with pytest.raises(OSError, match="leads out of the container"):
        launch.within(str(root), "/link/passwd")
    assert launch.within(str(root), "/../../etc") == str(root / "etc")
    assert launch.within(str(root), "/") == str(root)


def test_places_for_mounts_are_made_once(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("text")
    assert Path(launch.place(str(tmp_path), "/kept", folder=False)).read_text() == "text"
    assert Path(launch.place(str(tmp_path), "/a/b", folder=True)).is_dir()
    assert Path(launch.place(str(tmp_path), "/c/d", folder=False)).read_text() == ""


def test_the_image_map_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "images.json"
    path.write_text(json.dumps({"images": {"x": {"entrypoint": ["a"], "uid": 5}}}))
    assert images.load(path) == {"x": Image("x", ["a"], uid=5)}
