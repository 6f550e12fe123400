"""`python -m bench.trainer [--data DIR --void N] [--only NAME …] [--json]`."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from bench.command import Subject, measure, parser_of
from bench.data import Data, data_for
from bench.trainer.against_plain import quality, throughput
from bench.trainer.goodput import goodput
from bench.trainer.loader import loader
from bench.trainer.ready import ready
from bench.trainer.runs import Setting
from bench.trainer.saving import saving
from bench.trainer.startup import startup


def subjects(folder: Path, data: Data, repeats: int) -> dict[str, Subject]:
    """What there is to measure, by name; on a GPU at the size that its goal names."""
    import torch

    small = Setting(side=128)
    found: dict[str, Subject] = {
        "loader": partial(loader, folder, data, Setting(side=256), repeats=repeats),
        "saving": partial(saving, folder, repeats=repeats),
        "startup": partial(startup, folder, data, small, repeats=repeats),
        "ready": partial(ready, folder, data, small, repeats=repeats),
        "quality": partial(quality, folder, data, Setting(side=128, epochs=6), seeds=3),
        "goodput": partial(goodput, folder, data, small, seconds=240, period=60),
    }
    if torch.cuda.is_available():
        large = Setting(encoder="resnet34", side=512, batch=32, epochs=4)
        gpu = partial(throughput, folder, data, large, repeats=repeats)
        found["throughput"] = partial(gpu, name="GPU beside the plain script", goal=5.0)
    else:
        cpu = partial(throughput, folder, data, Setting(), repeats=repeats)
        found["throughput"] = partial(cpu, name="CPU beside the plain script", goal=1.3)
    return found


def main() -> None:
    """Measure and print."""
    parser = parser_of("bench.trainer", __doc__, repeats=3)
    parser.add_argument("--data", type=Path, help="folder with train/ and val/; default: shapes")
    parser.add_argument("--void", type=int, help="label that is neither trained on nor counted")
    options = parser.parse_args()
    with data_for(options.data, options.void) as data, tempfile.TemporaryDirectory() as folder:
        known = subjects(Path(folder), data, options.repeats)
        measure(parser, options, known)


if __name__ == "__main__":
    main()
