"""`python -m kubeseg_trainer`, and so `torchrun … -m kubeseg_trainer train …`."""

from __future__ import annotations

import sys

from kubeseg_trainer.cli import main

if __name__ == "__main__":
    sys.exit(main())
