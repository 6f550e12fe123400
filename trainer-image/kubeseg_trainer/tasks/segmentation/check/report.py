"""What a check says about a data set: for people, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kubeseg_trainer.tasks.segmentation.data.dataset import SHOWN, Problem, shorten, summarize


@dataclass(frozen=True)
class ClassShare:
    """How often a class occurs."""

    name: str
    #: In the training part.
    pixels: int
    #: Of the counted pixels of the training part, 0 to 1.
    share: float
    #: Images that show it, by part.
    images: dict[str, int]


@dataclass
class Report:
    """The outcome of a check. Without errors the data set can be trained on."""

    dataset: str
    format: str
    fingerprint: str
    #: Images, by part.
    images: dict[str, int]
    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    classes: list[ClassShare] = field(default_factory=list)
    #: Pixels of the training part that count nowhere, as a share of all.
    void: float = 0.0
    #: ((width, height), images), the most frequent first.
    sizes: list[tuple[tuple[int, int], int]] = field(default_factory=list)
    bits: int = 8
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    #: Images that mean and deviation were measured on.
    measured: int = 0
    #: Whether an earlier look at the same files was used.
    kept: bool = False

    def to_json(self) -> dict[str, Any]:
        """As a JSON document."""
        return {
            "formatVersion": 1,
            "dataset": self.dataset,
            "format": self.format,
            "fingerprint": self.fingerprint,
            "ok": not self.errors,
            "images": self.images,
            "problems": [_problem(problem) for problem in self.errors],
            "warnings": [_problem(problem) for problem in self.warnings],
            "classes": [vars(share) for share in self.classes],
            "void": self.void,
            "sizes": [{"width": w, "height": h, "images": n} for (w, h), n in self.sizes],
            "channels": {
                "bits": self.bits,
                "mean": self.mean,
                "std": self.std,
                "measured": self.measured,
            },
            "kept": self.kept,
        }

    def sentence(self, where: str | None = None) -> str:
        """All errors in one sentence, a few files by name; `where` the whole list is."""
        total = sum(self.images.values()) + sum(p.kind == "pair" for p in self.errors)
        return summarize(self.dataset, total, self.errors, where)

    def lines(self) -> list[str]:
        """As text: a few files of each kind by name, the rest by number."""
        counts = ", ".join(f"{number} {part}" for part, number in self.images.items() if number)
        lines = [f'data set "{self.dataset}" ({self.format}): {counts or "no"} images']
        lines += [f"error: {text}" for text in some_of_each_kind(self.errors)]
        lines += [f"warning: {text}" for text in some_of_each_kind(self.warnings)]
        if self.classes:
            lines += ["", "class                     pixels   images"]
            for label, share in enumerate(self.classes):
                seen = "/".join(str(number) for number in share.images.values())
                lines.append(f"{label:3d} {share.name[:20]:20s} {share.share:7.2%}   {seen}")
            if self.void:
                lines.append(f"    {'(void)':20s} {self.void:7.2%}")
        if self.sizes:
            shown = shorten([f"{w}×{h}: {number}" for (w, h), number in self.sizes])
            lines += ["", f"sizes    {shown}"]
        if self.mean and self.std:
            mean = " ".join(f"{value:.4f}" for value in self.mean)
            std = " ".join(f"{value:.4f}" for value in self.std)
            lines.append(f"channels {self.bits} bits, mean {mean}, deviation {std}")
        verdict = f"{len(self.errors)} errors, it can't be trained on" if self.errors else "good"
        lines += ["", f"{verdict}; {len(self.warnings)} warnings"]
        return lines


def _problem(problem: Problem) -> dict[str, str]:
    return {"file": problem.file, "problem": problem.text, "kind": problem.kind}


def some_of_each_kind(problems: Sequence[Problem]) -> list[str]:
    """A text for some problems of each kind, and one with the number of the others."""
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(f"{problem.file} {problem.text}".strip())
    shown = []
    for texts in kinds.values():
        shown += texts[:SHOWN]
        if len(texts) > SHOWN:
            shown.append(f"(+{len(texts) - SHOWN} more like these)")
    return shown
