from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kubeseg_local import build, toolchain


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go1.26.8 linux/amd64", (1, 26, 8)),
        ("go1.27 linux/amd64", (1, 27, 0)),
        ("go1.26rc1 linux/amd64", (1, 26, 0)),
        ("1.26.0", (1, 26, 0)),
        ("nothing", ()),
    ],
)
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert toolchain.parse_version(text) == version


def test_the_wanted_version_stands_in_go_mod() -> None:
    assert toolchain.wanted_version((build.SOURCES / "go.mod").read_text()) >= (1, 26, 0)
    assert toolchain.parse_version(toolchain.GO_WHEEL) >= toolchain.wanted_version(
        (build.SOURCES / "go.mod").read_text()
    ), "the wheel can build it"
    with pytest.raises(toolchain.ToolchainError, match="no line"):
        toolchain.wanted_version("module x\n")


def test_what_would_change_a_build_is_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOFLAGS", "-mod=mod -tags=x")
    monkeypatch.setenv("GOOS", "plan9")
    monkeypatch.setenv("GOPROXY", "https://proxy.example")
    env = toolchain.go_environment(Path("/opt/go/bin/go"))
    assert env["GOFLAGS"] == "-mod=readonly -buildvcs=false"
    assert "GOOS" not in env
    assert env["GOPROXY"] == "https://proxy.example", "the way to the modules is the user's"
    assert env["PATH"].startswith("/opt/go/bin:")


def edit_go_mod(folder: Path) -> None:
    (folder / "go.mod").write_text((folder / "go.mod").read_text() + "\n// x\n")


def edit_main(folder: Path) -> None:
    (folder / "main.go").write_text("package main\n")


def add_readme(folder: Path) -> None:
    (folder / "README.md").write_text("text")


@pytest.mark.parametrize(
    ("edit", "same"), [(edit_go_mod, False), (edit_main, False), (add_readme, True)]
)
def test_the_key_follows_the_sources(
    tmp_path: Path, edit: Callable[[Path], None], same: bool
) -> None:
    copy = tmp_path / "kubernetes"
    shutil.copytree(build.SOURCES, copy)
    before = build.source_key(copy)
    assert before == build.source_key()
    edit(copy)
    assert (build.source_key(copy) == before) is same


def script(tmp_path: Path, text: str, mode: int = 0o755) -> Path:
    path = tmp_path / "kubernetes"
    path.write_text(text)
    path.chmod(mode)
    return path


GOOD = '#!/bin/sh\necho "Client Version: v1.36.3"\n'


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        (None, 0, "no such executable file"),
        (GOOD, 0o644, "no such executable file"),
        ("#!/bin/sh\necho broken >&2; exit 1\n", 0o755, "`kubectl version --client` fails"),
        ("#!/bin/sh\necho hello\n", 0o755, "`kubectl version --client` fails"),
    ],
)
def test_a_named_binary_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, mode: int, words: str
) -> None:
    path = tmp_path / "none" if text is None else script(tmp_path, text, mode)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(build.ENV_BINARY, str(path))
    with pytest.raises(build.BuildError, match=words):
        build.ensure()


def test_a_named_binary_is_linked_under_each_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = script(tmp_path, GOOD)
    (tmp_path / "api.proto").write_text("syntax")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(build.ENV_BINARY, str(path))
    folder = build.ensure()
    assert sorted(each.name for each in folder.iterdir()) == sorted(build.PROGRAMS)
    assert (folder / "helm").resolve() == path
    assert (folder.parent / "api.proto").read_text() == "syntax"
    assert build.ensure() == folder


def test_a_full_disk_is_told_before_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**30))
    with pytest.raises(build.BuildError, match=r"1\.0 GiB free, and the build needs 4\."):
        build._check_disk([tmp_path / "not" / "there" / "yet"])


def test_an_interrupted_build_leaves_nothing_that_counts(tmp_path: Path) -> None:
    target = tmp_path / "key"

    def interrupted() -> None:
        with build.staged(target) as stage:
            (stage / "bin").mkdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_it_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    path = script(tmp_path, GOOD)
    (tmp_path / "api.proto").write_text("syntax")
    env: dict[str, Any] = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    env[build.ENV_BINARY] = str(path)
    # -I and -S: no environment, no site-packages.
    done = subprocess.run(
        [sys.executable, "-I", "-S", build.__file__],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).parent.parent == tmp_path / ".cache/kubeseg/kubernetes"
