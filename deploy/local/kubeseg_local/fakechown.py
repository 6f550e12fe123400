"""Run a program for which every chown succeeds and does nothing.

An ordinary user's namespace has one user only, so giving a file to another one fails. The kubelet
does that to volumes (`fsGroup`, tokens of pods with `runAsUser`) and takes the failure for final.
With one user there is nothing to give away, so here the system calls answer "done".

    python -m kubeseg_local.fakechown PROGRAM [ARGUMENT...]
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
RETURN_ERRNO = 0x00050000
RETURN_ALLOW = 0x7FFF0000
LOAD_WORD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
# (audit's number of the architecture, numbers of chown, fchown, lchown, fchownat)
SYSTEM_CALLS = {
    "x86_64": (0xC000003E, (92, 93, 94, 260)),
    "aarch64": (0xC00000B7, (55, 54)),
}


def filter_program(machine: str) -> bytes:
    """The filter, as the kernel reads it. Raises KeyError for a machine that it doesn't know."""
    architecture, calls = SYSTEM_CALLS[machine]
    count = len(calls)
    steps = [
        (LOAD_WORD, 0, 0, 4),  # the architecture: another one's numbers mean other things
        (JUMP_EQUAL, 0, count + 1, architecture),
        (LOAD_WORD, 0, 0, 0),  # the number of the call
        *((JUMP_EQUAL, count - index, 0, call) for index, call in enumerate(calls)),
        (RETURN, 0, 0, RETURN_ALLOW),
        (RETURN, 0, 0, RETURN_ERRNO),  # with errno 0: it has "succeeded"
    ]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def install(machine: str) -> None:
    """Put the filter on this process and all that it starts. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    steps = filter_program(machine)
    program = _Program(len(steps) // 8, steps)
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0),
    ):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({arguments[0]})")


if __name__ == "__main__":
    install(platform.machine())
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - its purpose
