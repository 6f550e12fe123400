"""The pass over the validation part, or over the test part."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from kubeseg_trainer.engine.finite import refuse_non_finite
from kubeseg_trainer.engine.loading import Loader
from kubeseg_trainer.engine.steps import Remedy, Stepper
from kubeseg_trainer.engine.surroundings import Surroundings
from kubeseg_trainer.engine.task import SampleKey, Sums, Task


def validate(
    task: Task,
    around: Surroundings,
    stepper: Stepper,
    loader: Loader,
    *,
    part: int,
    total: int,
    text: str,
) -> Sums:
    """Sums over the `total` samples of the loader's `part`, with the network as it is.

    The ranks take turns: the batches are the same for any number of them, and so are the sums, on
    all ranks. InterruptionError between two batches: nothing of it is kept, it is done again. So it
    is, with smaller batches, where memory runs out: as a resumed run would do it.
    """
    while True:
        # No gradients are kept: the same memory takes the whole batch at once.
        size = max(1, around.source.config.training.batch_size // stepper.accumulate)
        if not loader.parts[part].alike:
            size = 1
        sums, remedy = _pass(
            task, around, stepper, loader, part=part, total=total, text=text, size=size
        )
        if sums is not None:
            return around.group.total(sums)
        if remedy is not None:
            remedy()
        stepper.agree()


def _pass(
    task: Task,
    around: Surroundings,
    stepper: Stepper,
    loader: Loader,
    *,
    part: int,
    total: int,
    text: str,
    size: int,
) -> tuple[Sums | None, Remedy | None]:
    """This rank's sums; none where a batch failed on any rank, with what mends it on this one."""
    group = around.group
    keys = [
        [SampleKey(None, i) for i in range(start, min(start + size, total))]
        for start in range(0, total, size)
    ]
    own = keys[group.rank :: group.size]
    batches = loader.batches(part, own) if own else iter(())
    sums = Sums.zero(task.new_counts())
    losses = []
    task.network.eval()
    with torch.inference_mode():
        for turn in range(math.ceil(len(keys) / group.size)):
            remedy = None
            if turn < len(own):
                try:
                    loss, counts = stepper.forward(next(batches), len(own[turn]))
                    sums = sums.plus(loss, counts, len(own[turn]))
                    losses.append(loss)
                except (RuntimeError, MemoryError) as error:
                    remedy = stepper.remedy(error, size)
                    if remedy is None:
                        raise
            # Out here the error is gone, and with its frames all that they kept in memory.
            if group.any(remedy is not None):
                return None, remedy
            around.watchdog.beat()
            group.check_stop(around.stop)
            around.store.look()
            around.reporter.step(text, min((turn + 1) * group.size * size, total), total)
    task.network.train()
    # Together at the end: asking a GPU after each batch would wait for it each time.
    values = torch.stack(losses).tolist() if losses else []
    names = loader.parts[part].names
    for value, samples in zip(values, own, strict=True):
        refuse_non_finite(value, [names[key.sample] for key in samples], text)
    return sums, None


@contextmanager
def weights_of_file(network: nn.Module, weights: Path) -> Iterator[None]:
    """`network` with the weights of a file for a while; then bit for bit as it was."""
    own = {name: value.detach().clone() for name, value in network.state_dict().items()}
    network.load_state_dict(load_file(weights))
    try:
        yield
    finally:
        network.load_state_dict(own)
