"""`kubeseg-trainer` with the second, tiny task in the place of segmentation: starts faster."""

from __future__ import annotations

import sys

from kubeseg_trainer import tasks
from kubeseg_trainer.cli import main
from tests.support.line_task import LineKind

#: What `task_kind` looks for.
KIND = LineKind()

if __name__ == "__main__":
    tasks._KINDS[tasks.DEFAULT] = "tests.support.line_program"
    sys.exit(main())
