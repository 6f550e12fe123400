"""The set-up: what it keeps, what it makes anew, how far it is, and why it failed."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
sys.path.insert(0, str(SCRIPTS))

from setup_board import Board, bar, left  # noqa: E402
from setup_steps import Step, check_disk, run  # noqa: E402
from setup_venv import (  # noqa: E402
    PipLog,
    SetupError,
    explain_failure,
    make_venv,
    pip_environment,
    read_stamp,
    wanted_stamp,
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "requirements.lock").write_text("a==1 \\\n    --hash=sha256:0\nb==2\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    return tmp_path


def test_a_stamp_counts_while_nothing_changed(checkout: Path) -> None:
    venv = checkout / ".venv"
    stamp = venv / "kubeseg-stamp.json"
    assert read_stamp(stamp) is None
    stamp.write_text(wanted_stamp(checkout, venv))
    assert read_stamp(stamp) == wanted_stamp(checkout, venv)
    (checkout / "requirements.lock").write_text("a==2\n")
    assert read_stamp(stamp) not in {None, wanted_stamp(checkout, venv)}


@pytest.mark.parametrize(
    "damage",
    [
        lambda venv: (venv / "bin" / "python").unlink(),
        lambda venv: (venv / "kubeseg-stamp.json").write_text("{"),
        lambda venv: (venv / "kubeseg-stamp.json").write_text('{"python": "2.7.1"}'),
    ],
)
def test_a_broken_venv_has_no_stamp(checkout: Path, damage: object) -> None:
    stamp = checkout / ".venv" / "kubeseg-stamp.json"
    stamp.write_text(wanted_stamp(checkout, checkout / ".venv"))
    assert callable(damage)
    damage(checkout / ".venv")
    assert read_stamp(stamp) is None


def test_a_moved_checkout_has_no_stamp(checkout: Path) -> None:
    stamp = checkout / ".venv" / "kubeseg-stamp.json"
    stamp.write_text(wanted_stamp(checkout, Path("/elsewhere/.venv")))
    assert read_stamp(stamp) is None


def test_a_file_in_place_of_the_venv_is_named(tmp_path: Path) -> None:
    (tmp_path / ".venv").write_text("")
    with pytest.raises(SetupError, match="is no folder: remove it"):
        make_venv(tmp_path / ".venv", keep=False)


def test_a_python_without_ensurepip_and_pip_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "python3"
    bare.write_text("#!/bin/sh\necho ensurepip is not available\nexit 1\n")
    bare.chmod(0o755)
    monkeypatch.setattr("setup_venv.sys.executable", str(bare))
    with pytest.raises(SetupError) as error:
        make_venv(tmp_path / ".venv", keep=False)
    assert "-venv) and run the same command again" in str(error.value)
    assert "ensurepip is not available" in str(error.value)
    assert not (tmp_path / ".venv").exists()


def test_a_full_disk_is_found_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="Make room, or clone to a larger disk"):
        check_disk(tmp_path, 2**60)


def test_files_of_this_machine_do_not_replace_locked_ones() -> None:
    given = {"PIP_FIND_LINKS": "/opt/wheels", "PIP_INDEX_URL": "https://i", "PIP_CERT": "c"}
    found = pip_environment(given, Path("/scratch"))
    assert "PIP_FIND_LINKS" not in found
    assert found["PIP_INDEX_URL"] == "https://i"
    assert found["TMPDIR"] == "/scratch"


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("THESE PACKAGES DO NOT MATCH THE HASHES FROM", "differs from the lock"),
        ("NewConnectionError(...)\nNo matching distribution found", "can't be reached"),
        ("ERROR: No matching distribution found for torch", "glibc 2.28"),
        ("Segmentation fault", "the lines above say why"),
    ],
)
def test_failures_of_pip_are_explained(log: str, words: str) -> None:
    assert words in explain_failure(log)


def test_how_far_pip_is(checkout: Path) -> None:
    log = checkout / "log"
    pip_log = PipLog(checkout / "requirements.lock", checkout / ".venv")
    assert pip_log.state(log, 0) == f"{'░' * 20} fetching 0 of 2"
    log.write_text("Ignoring c: markers\nCollecting a==1\n")
    assert "fetching 1 of 1" in pip_log.state(log, 1)
    log.write_text("Collecting a\nCollecting b\nInstalling collected packages: a, b\n")
    (checkout / ".venv/lib/python3.11/site-packages/a-1.dist-info").mkdir(parents=True)
    assert "unpacking 1 of 2" in pip_log.state(log, 2)
    assert "about 10 s left" in pip_log.state(log, 12)


@pytest.mark.parametrize(
    ("done", "elapsed", "text"),
    [(0, 60, ""), (5, 1, ""), (10, 60, ""), (5, 60, "about 1m00s left"), (9, 9, "about 5 s left")],
)
def test_what_is_left(done: int, elapsed: float, text: str) -> None:
    assert left(done, 10, elapsed) == text


def test_bar() -> None:
    assert bar(0, 0) == "░" * 20
    assert bar(3, 2, width=4) == "████"


def test_without_a_terminal_a_step_is_told_now_and_then() -> None:
    out, now = io.StringIO(), [0.0]
    board = Board(out, {}, lambda: now[0])
    for now[0] in (0.0, 1.0, 9.0, 11.0):
        board.show("python", f"at {now[0]}")
    board.finish("python", "done", ok=True)
    assert out.getvalue().splitlines() == [
        "● python   at 0.0",
        "● python   at 11.0",
        "● python   done ✓",
    ]


@pytest.mark.parametrize(
    ("commands", "well"),
    [
        ([["true"], ["true"]], True),
        ([["true"], ["false"]], False),
        ([["false"], ["touch", "never"]], False),
    ],
)
def test_a_step_ends_at_its_first_failure(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    commands: list[list[str]],
    well: bool,
) -> None:
    step = Step("cluster", "something", tmp_path / "log", commands, {"PATH": "/usr/bin:/bin"})
    with (tmp_path / "lock").open("w") as held:
        assert run([step], Board(io.StringIO(), {}), held) is well
    assert ("The whole log" in capsys.readouterr().out) is not well
    assert not (SCRIPTS.parent / "never").exists()


def test_an_interrupted_step_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Step("cluster", "something", tmp_path / "log", [["sleep", "600"]], {"PATH": "/bin"})

    def interrupt(_step: Step, _held: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Step, "poll", interrupt)
    with (tmp_path / "lock").open("w") as held, pytest.raises(KeyboardInterrupt):
        run([step], Board(io.StringIO(), {}), held)
    assert step.process is not None
    assert step.process.returncode is not None


def test_the_first_file_can_be_read_by_old_pythons() -> None:
    """It is the one that has to say that Python is too old."""
    import ast

    ast.parse((SCRIPTS / "setup.py").read_text(), feature_version=(3, 5))


def test_without_a_suitable_python_it_says_what_to_do(tmp_path: Path) -> None:
    program = (
        "import sys, runpy; sys.version_info = (3, 9, 2)\n"
        f"sys.argv = ['setup.py']; runpy.run_path({str(SCRIPTS / 'setup.py')!r}, "
        "run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "needs Python 3.11, 3.12 or 3.13: python3 is 3.9" in done.stderr
    assert "PYTHON=/path/to/python3.12" in done.stderr
