"""The virtual environment: when it is complete, how it is made, and why it could not be.

Only the standard library.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from setup_board import bar, left

# Measured: 6.2 GiB installed, and the largest downloads beside it.
VENV_BYTES = 9 * 2**30
# These would let files of this machine replace the locked ones, or install elsewhere.
HARMFUL = (
    "PIP_CONSTRAINT PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_NO_BINARY PIP_NO_DEPS PIP_NO_INDEX "
    "PIP_ONLY_BINARY PIP_PREFIX PIP_REQUIREMENT PIP_ROOT PIP_TARGET PIP_USER PYTHONHOME PYTHONPATH "
    "VIRTUAL_ENV"
).split()


class SetupError(Exception):
    """Something is missing; the message says what, and the remedy."""


def wanted_stamp(root: Path, venv: Path) -> str:
    """What a complete .venv's stamp says: it changes when the venv has to."""
    digest = hashlib.sha256()
    for name in ("requirements.lock", "pyproject.toml"):
        digest.update((root / name).read_bytes())
    version = ".".join(map(str, sys.version_info[:3]))
    # Scripts in a venv name their interpreter by its whole path: a moved one is broken.
    return json.dumps({"inputs": digest.hexdigest(), "python": version, "venv": str(venv)})


def read_stamp(stamp: Path) -> str | None:
    """The stamp of a complete .venv whose Python and place are still these, or None."""
    try:
        text = stamp.read_text()
        said = json.loads(text)
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    version = ".".join(map(str, sys.version_info[:3]))
    venv = stamp.parent
    if said.get("python") != version or said.get("venv") != str(venv):
        return None
    return text if (venv / "bin" / "python").exists() else None


def make_venv(venv: Path, *, keep: bool) -> None:
    """Make the empty virtual environment, or keep a complete one. Raises SetupError."""
    if keep:
        return
    if venv.is_symlink() or venv.is_file():
        raise SetupError(f"{venv} is no folder: remove it")
    if venv.exists():
        shutil.rmtree(venv)
    command = [sys.executable, "-m", "venv"]
    made = subprocess.run([*command, str(venv)], capture_output=True, text=True, check=False)
    if made.returncode == 0:
        return
    # Without ensurepip (Debian keeps it in python3-venv) another pip can fill it.
    bare = [*command, "--clear", "--without-pip", str(venv)]
    if (
        _works([sys.executable, "-m", "pip", "--version"])
        and subprocess.run(bare, capture_output=True, check=False).returncode == 0
    ):
        pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python")]
        if _works([*pip, "install", "--quiet", "pip"]):
            return
    shutil.rmtree(venv, ignore_errors=True)
    minor = f"python{sys.version_info.major}.{sys.version_info.minor}"
    raise SetupError(
        f"{sys.executable} can make no virtual environment, since it comes without ensurepip or "
        f"pip. Install it (Debian, Ubuntu: apt install {minor}-venv) and run the same command "
        f"again. It says: {(made.stdout + made.stderr).strip()[-300:]}"
    )


def _works(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def install_commands(venv: Path, root: Path) -> list[list[str]]:
    """What fills it: the locked packages by hash, then this project, editable."""
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--no-deps"]
    locked = ["--require-hashes", "--only-binary=:all:", "-r", str(root / "requirements.lock")]
    return [
        [*pip, "--progress-bar=off", *locked],
        [*pip, "--no-build-isolation", "--no-index", "--editable", str(root)],
    ]


def pip_environment(environment: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """The caller's environment without what would change the outcome; TMPDIR on .venv's disk."""
    kept = {name: value for name, value in environment.items() if name not in HARMFUL}
    return kept | {
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_NO_COLOR": "1",
        "TMPDIR": str(scratch),
    }


class PipLog:
    """How far pip is: it names what it collects, then unpacks without a word."""

    def __init__(self, lock: Path, venv: Path) -> None:
        self._locked = len(re.findall(r"^[A-Za-z0-9].*==", lock.read_text(), re.MULTILINE))
        self._venv = venv
        self._unpacking_since: float | None = None

    def state(self, log: Path, spent_s: float) -> str:
        """A bar and what is left, `spent_s` seconds after the start."""
        text = log.read_text(errors="replace") if log.exists() else ""
        skipped = len(re.findall(r"^Ignoring ", text, re.MULTILINE))
        total = max(1, self._locked - skipped)
        if "\nInstalling collected packages" not in text:
            done = len(re.findall(r"^Collecting ", text, re.MULTILINE))
            return f"{bar(done, 2 * total)} fetching {done} of {total}"
        if self._unpacking_since is None:
            self._unpacking_since = spent_s
        installed = sum(1 for _ in self._venv.glob("lib/python*/site-packages/*.dist-info"))
        done = min(installed, total)  # pip is one more
        remaining = left(done, total, spent_s - self._unpacking_since)
        return f"{bar(total + done, 2 * total)} unpacking {done} of {total}  {remaining}"


def explain_failure(log: str) -> str:
    """One sentence on why pip failed, with the remedy."""
    if "No space left on device" in log:
        return "The disk is full: make room and run the same command again."
    if "DO NOT MATCH THE HASHES" in log:
        return (
            "A file of the index differs from the lock: a mirror that changes files? Try another "
            "index (PIP_INDEX_URL)."
        )
    signs = ("NewConnectionError", "Temporary failure in name resolution", "Max retries exceeded")
    if any(sign in log for sign in (*signs, "Read timed out", "ProxyError", "SSLError")):
        return (
            "The Python package index can't be reached: check the network, or name an index that "
            "can be (PIP_INDEX_URL, and PIP_CERT for its certificate), and run it again."
        )
    if "No matching distribution" in log or "Could not find a version" in log:
        return (
            "The Python package index doesn't have a locked version for this machine. The lock "
            "serves Linux on x86-64 and arm64 with glibc 2.28 or newer, Python 3.11 to 3.13."
        )
    return "pip failed: the lines above say why."
