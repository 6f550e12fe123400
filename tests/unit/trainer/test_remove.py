"""`kubeseg-trainer remove`: one run goes, and nothing else, whatever lies there."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from kubeseg_trainer.cli import main
from kubeseg_trainer.errors import ConfigurationError
from kubeseg_trainer.remove_command import remove_run
from kubeseg_types.exit_codes import ExitCode

UID = "11111111-0000-0000-0000-000000000000"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Runs of two jobs, one of them applied twice, and a data set."""
    root = tmp_path / "workspace"
    for folder in (f"runs/street/{UID}", "runs/street/other", f"runs/field/{UID}", "datasets/a"):
        (root / folder / "deep").mkdir(parents=True)
        (root / folder / "deep/file").write_text(folder)
    return root


def everything(root: Path) -> set[str]:
    """All files and links, relative to `root`."""
    return {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() or path.is_symlink()
    }


def run(root: Path, log: Path, job: str = "street", uid: str = UID) -> tuple[int, dict[str, Any]]:
    """The command; its exit code and termination message."""
    log.write_bytes(b"")
    options = ["--workspace", str(root), "--job", job, "--uid", uid]
    code = main(["remove", *options, "--termination-log", str(log)])
    return code, json.loads(log.read_text())


def test_one_run_goes_and_all_else_stays(workspace: Path, tmp_path: Path) -> None:
    before = everything(workspace)
    code, told = run(workspace, tmp_path / "log")
    assert (code, told["message"]) == (0, f"runs/street/{UID} removed")
    assert before - everything(workspace) == {f"runs/street/{UID}/deep/file"}
    code, told = run(workspace, tmp_path / "log")
    assert (code, told["message"]) == (0, f"runs/street/{UID} was not there")
    assert (workspace / "runs/street").is_dir()
    assert run(workspace, tmp_path / "log", uid="other")[0] == 0
    assert not (workspace / "runs/street").exists()


def test_a_workspace_without_runs_is_as_good(tmp_path: Path) -> None:
    assert remove_run(tmp_path, "street", UID) is False
    assert list(tmp_path.iterdir()) == []


def test_links_inside_go_and_what_they_lead_to_stays(workspace: Path) -> None:
    run = workspace / f"runs/street/{UID}"
    (run / "to-data").symlink_to(workspace / "datasets/a")
    (run / "deep/to-other").symlink_to("../../other")
    (run / "to-file").symlink_to(workspace / "datasets/a/deep/file")
    before = everything(workspace)
    assert remove_run(workspace, "street", UID)
    gone = before - everything(workspace)
    assert all(name.startswith(f"runs/street/{UID}/") for name in gone)


@pytest.mark.parametrize("link", ["runs", "runs/street", f"runs/street/{UID}"])
def test_a_link_in_place_of_a_folder_is_refused(workspace: Path, tmp_path: Path, link: str) -> None:
    there = workspace / link
    elsewhere = tmp_path / "elsewhere"
    shutil.move(there, elsewhere)
    there.symlink_to(elsewhere)
    before = everything(tmp_path)
    code, told = run(workspace, tmp_path / "log")
    assert code == ExitCode.CONFIGURATION
    assert "is a link or a file" in told["message"]
    assert everything(tmp_path) - {"log"} == before


@pytest.mark.parametrize(
    ("job", "uid"),
    [
        ("..", UID),
        (".", UID),
        ("", UID),
        ("street", ".."),
        ("street", "../other"),
        ("street", ""),
        ("street", "."),
        ("street/other", UID),
        ("/etc", UID),
        ("street", "a/b"),
        ("street", "x" * 200),
        ("street", "other\0"),
        ("street", "*"),
    ],
)
def test_names_that_are_none_are_refused(workspace: Path, job: str, uid: str) -> None:
    before = everything(workspace)
    with pytest.raises(ConfigurationError, match="must be a name"):
        remove_run(workspace, job, uid)
    assert everything(workspace) == before


def test_broken_off_it_goes_on(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.rmtree

    def broken(name: str, *, dir_fd: int) -> None:
        if not os.access(name, os.F_OK, dir_fd=dir_fd):
            raise FileNotFoundError(name)
        os.unlink(f"{name}/deep/file", dir_fd=dir_fd)
        raise OSError(5, "Input/output error", name)

    broken.avoids_symlink_attacks = True  # type: ignore[attr-defined]
    monkeypatch.setattr("shutil.rmtree", broken)
    code, told = run(workspace, tmp_path / "log")
    assert code == ExitCode.STORAGE
    assert told["message"].startswith(f"runs/street/{UID} can't be removed: ")
    # It is no run any more, for whoever reads the workspace.
    assert not (workspace / f"runs/street/{UID}").exists()
    assert len(list((workspace / "runs").glob(".removed-*"))) == 1
    monkeypatch.setattr("shutil.rmtree", real)
    assert run(workspace, tmp_path / "log")[1]["message"] == f"runs/street/{UID} removed"
    assert list((workspace / "runs").glob(".removed-*")) == []


def test_a_workspace_that_is_not_there_is_said(tmp_path: Path) -> None:
    code, told = run(tmp_path / "nowhere", tmp_path / "log")
    assert code == ExitCode.CONFIGURATION
    assert "is not a folder" in told["message"]
