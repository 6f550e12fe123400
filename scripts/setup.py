"""Find a Python that the lock serves, then set everything up: see setup_steps.py.

This file keeps to the syntax of old Pythons, so that it can say what is missing.
"""

import os
import shutil
import subprocess
import sys

OLDEST, NEWEST = (3, 11), (3, 13)
CHECK = "import sys; sys.exit(not (%r <= sys.version_info[:2] <= %r))" % (OLDEST, NEWEST)  # noqa: UP031


def suitable_python():
    # type: () -> str | None
    """Path of a Python from 3.11 to 3.13: this one, else the newest on PATH."""
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return sys.executable
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        path = shutil.which("python3.%d" % minor)  # noqa: UP031
        # Version managers put programs into PATH that only say that they are not installed.
        if path and subprocess.call([path, "-c", CHECK], stderr=subprocess.DEVNULL) == 0:
            return path
    return None


def main():
    # type: () -> None
    """Go on in setup_steps.py, with a suitable Python."""
    python = suitable_python()
    if python is None:
        sys.exit(
            "kubeseg needs Python 3.11, 3.12 or 3.13: python3 is %d.%d, and PATH has no other. "  # noqa: UP031
            "Install one, or name it: make demo PYTHON=/path/to/python3.12" % sys.version_info[:2]
        )
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    steps = os.path.join(here, "setup_steps.py")  # noqa: PTH118
    os.execv(python, [python, steps] + sys.argv[1:])  # noqa: RUF005, S606


if __name__ == "__main__":
    main()
