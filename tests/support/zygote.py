"""Trainer processes that start at once, to be killed: forked from one that has imported it all.

Says "ready", then reads orders from stdin, one JSON a line, and answers each with the process
number when it has started, and with its exit status when it has ended. Torch has run nothing in
the parent, so a child is as good as one that was started by itself.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import IO, Any, Self

ROOT = Path(__file__).resolve().parents[2]


class Zygote:
    """The parent, seen from the test."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.zygote"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == "ready\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def start(self, arguments: list[str], log: Path, *, workers: int = 0, seed: int = 0) -> int:
        """Start `kubeseg-trainer` with these arguments; its process number.

        `workers`: loader processes. `seed`: by it, half of the steps are followed by a checkpoint.
        """
        order = {"arguments": arguments, "log": str(log), "workers": workers, "seed": seed}
        print(json.dumps(order), file=self._stream(self._process.stdin), flush=True)
        return int(self._answer())

    def wait(self) -> int:
        """Exit status of what was started, below 0: the signal that ended it."""
        return int(self._answer())

    def _answer(self) -> str:
        line = self._stream(self._process.stdout).readline()
        assert line, "the zygote has ended"
        return line

    @staticmethod
    def _stream(stream: IO[str] | None) -> IO[str]:
        assert stream is not None
        return stream


def _run(order: dict[str, Any]) -> int:
    output = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    from kubeseg_trainer import assembly
    from kubeseg_trainer.cli import main
    from kubeseg_trainer.engine import loop

    chance = random.Random(order["seed"])
    vars(assembly)["loader_workers"] = lambda *_: order["workers"]
    vars(loop)["checkpoint_due"] = lambda _, __: chance.random() < 0.5
    return main(order["arguments"])


def _serve() -> None:
    # Before torch, as the command line does it.
    from kubeseg_trainer.environment import prepare_environment

    prepare_environment()
    import kubeseg_trainer.assembly
    import kubeseg_trainer.train_command  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = _run(json.loads(line))
            finally:
                sys.stdout.flush()
                # Nothing of the parent's is to be tidied up here.
                os._exit(code)
        print(child, file=answers, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
