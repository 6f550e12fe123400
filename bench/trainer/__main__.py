"""`python -m bench.trainer [--data DIR --void N] [--only NAME …] [--json]`."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench.data import Data, data_for
from bench.report import Measure, show
from bench.trainer.against_plain import quality, throughput
from bench.trainer.goodput import goodput
from bench.trainer.loader import loader
from bench.trainer.ready import ready
from bench.trainer.runs import Setting
from bench.trainer.saving import saving
from bench.trainer.startup import startup

Subject = Callable[[], Iterator[Measure]]


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
    parser = argparse.ArgumentParser(prog="python -m bench.trainer", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with train/ and val/; default: shapes")
    parser.add_argument("--void", type=int, help="label that is neither trained on nor counted")
    parser.add_argument("--only", action="append", help="a subject; may be given several times")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    with data_for(options.data, options.void) as data, tempfile.TemporaryDirectory() as folder:
        known = subjects(Path(folder), data, options.repeats)
        unknown = set(options.only or ()) - known.keys()
        if unknown:
            parser.error(f"--only: must be one of {', '.join(known)}, not {', '.join(unknown)}")
        for name in options.only or known:
            for measure in known[name]():
                show(measure, as_json=options.json)


if __name__ == "__main__":
    main()
