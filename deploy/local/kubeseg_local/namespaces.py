"""The namespaces that a cluster lives in: mounts and processes of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOTLESS = ["--user", "--map-root-user"]
OWN = ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
# Settings that forbid user namespaces, and the value that allows them.
SWITCHES = {
    "user.max_user_namespaces": ("0", "15000"),
    "kernel.unprivileged_userns_clone": ("0", "1"),
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
}


class NamespaceError(Exception):
    """This machine allows no namespaces to this user; the message says what to do."""


def unshare_command(*, rootless: bool) -> list[str]:
    """The start of a command line that runs the rest in namespaces of its own."""
    return ["unshare", *(ROOTLESS if rootless else []), *OWN, "--"]


def _try(*, rootless: bool) -> str:
    """Empty when it works, else what `unshare` says."""
    command = [*unshare_command(rootless=rootless), "true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError:
        return "there is no `unshare`: install util-linux"
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"


def choose() -> bool:
    """Whether the cluster runs rootless. Raises NamespaceError when it can't run at all."""
    if os.geteuid() == 0 and not _try(rootless=False):
        return False
    refused = _try(rootless=True)
    if not refused:
        return True
    settings = {name: _read_sysctl(name) for name in SWITCHES}
    raise NamespaceError(refusal(refused, settings, root=os.geteuid() == 0))


def _read_sysctl(name: str) -> str | None:
    path = Path("/proc/sys") / name.replace(".", "/")
    try:
        return path.read_text().strip()
    except OSError:
        return None  # this kernel doesn't have it


def refusal(said: str, settings: dict[str, str | None], *, root: bool) -> str:
    """The sentence for a machine that refuses, given its settings (None: it has no such)."""
    culprits = [
        f"{name} is {value}: `sudo sysctl -w {name}={SWITCHES[name][1]}` allows them"
        for name, value in settings.items()
        if value == SWITCHES[name][0]
    ]
    message = f"The cluster needs namespaces of its own, and this machine refuses them ({said})."
    if culprits:
        return f"{message} {'; '.join(culprits)}; or run this as root."
    if root:
        return (
            f"{message} This root has no CAP_SYS_ADMIN, as in most containers: start the container "
            "privileged, or run on the machine itself."
        )
    return (
        f"{message} Ask for user namespaces ({', '.join(SWITCHES)}), or run this as root. Inside a "
        "container, it has to be a privileged one."
    )
