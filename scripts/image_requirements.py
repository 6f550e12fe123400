"""The part of requirements.lock that one image needs: `image_requirements.py NAME…`.

NAME is an extra of pyproject.toml (with the dependencies that all share), or a package of the
lock. Prints the lock's own lines, hashes included, so that one lock serves every image. What needs
what is read from the lock's `# via` comments, whatever platform or Python they are for.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")


def canonical(requirement: str) -> str:
    """The package's name in its normal form: `Prometheus_Client>=0.22` → `prometheus-client`.

    Raises ValueError where there is none.
    """
    match = _NAME.match(requirement.strip())
    if match is None:
        raise ValueError(f"not a requirement: {requirement!r}")
    return re.sub(r"[-_.]+", "-", match.group()).lower()


def blocks(lock: str) -> dict[str, str]:
    """Package → its lines in the lock: the pin, the hashes, who asked for it."""
    found: dict[str, str] = {}
    name = ""
    for line in lock.splitlines(keepends=True):
        if line[0] not in " #\n":
            name = canonical(line)
        if name:
            found[name] = found.get(name, "") + line
    return found


def askers(block: str) -> set[str]:
    """The packages that need this one."""
    comments = [line.strip(" #\n") for line in block.splitlines() if line.startswith("    #")]
    named = [c.removeprefix("via").strip() for c in comments]
    return {canonical(n) for n in named if n and "(" not in n}


def closure(roots: set[str], packages: dict[str, str]) -> list[str]:
    """`roots` and everything they need, sorted. Raises KeyError for one that is not locked."""
    missing = sorted(roots - packages.keys())
    if missing:
        raise KeyError(f"not in requirements.lock: {', '.join(missing)}; run `make lock`")
    found = set(roots)
    while True:
        more = {n for n, block in packages.items() if n not in found and askers(block) & found}
        if not more:
            return sorted(found)
        found |= more


def roots_of(names: list[str], project: dict[str, object]) -> set[str]:
    """The packages that `names`, extras or packages, ask for directly."""
    extras = project["optional-dependencies"]
    shared = project["dependencies"]
    assert isinstance(extras, dict)
    assert isinstance(shared, list)
    roots: set[str] = set()
    for name in names:
        asked = [*shared, *extras[name]] if name in extras else [name]
        roots |= {canonical(requirement) for requirement in asked}
    return roots


def main() -> int:
    """Print the lines; 2 where NAME is missing or unknown."""
    if len(sys.argv) < 2:
        print(f"usage: {sys.argv[0]} NAME…", file=sys.stderr)
        return 2
    packages = blocks((ROOT / "requirements.lock").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    try:
        wanted = closure(roots_of(sys.argv[1:], project), packages)
    except KeyError as error:
        print(error.args[0], file=sys.stderr)
        return 2
    sys.stdout.write("".join(packages[name] for name in wanted))
    return 0


if __name__ == "__main__":
    sys.exit(main())
