"""README.md of the model folder: what the model is, how to use it, how good it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from kubeseg_trainer.engine.exporting import ExportRequest
from kubeseg_trainer.tasks.segmentation.output.model_info import ModelInfo
from kubeseg_types.trainer import Part, TrainerConfig


@dataclass(frozen=True)
class CardFacts:
    """All that a card tells."""

    config: TrainerConfig
    info: ModelInfo
    request: ExportRequest
    counts: dict[str, int]
    class_pixels: Sequence[int]
    #: Report of the ONNX export.
    onnx: dict[str, Any]
    #: Paths relative to the card.
    pictures: Sequence[str]


def escape(text: str) -> str:
    """`text` as Markdown shows it, in a table too: names are the users' and may hold anything."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _at(values: Sequence[float | None], label: int) -> str:
    return _score(values[label] if label < len(values) else None)


def front_matter(facts: CardFacts) -> str:
    """The YAML head that model hubs read. No licence: the data's is not known here."""
    best, config, info = facts.request.best, facts.config, facts.info
    metrics: list[dict[str, Any]] = [
        {"type": "mean_iou", "name": "Mean IoU", "value": round(best.validation.iou, 4)},
        {"type": "dice", "name": "Mean Dice", "value": round(best.validation.dice, 4)},
    ]
    head = {
        "library_name": "segmentation-models-pytorch",
        "pipeline_tag": "image-segmentation",
        "tags": [
            "semantic-segmentation",
            "pytorch",
            *(["onnx"] if facts.onnx.get("file") else []),
            "kubeseg",
            info.architecture.lower(),
            info.encoder,
        ],
        "model-index": [
            {
                "name": config.job,
                "results": [
                    {
                        "task": {"type": "image-segmentation"},
                        "dataset": {
                            "name": config.dataset.name,
                            "type": config.dataset.name,
                            "split": "validation",
                        },
                        "metrics": metrics,
                    }
                ],
            }
        ],
    }
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n"


def model_card(facts: CardFacts) -> str:
    """The whole card, as Markdown."""
    sections = [
        front_matter(facts),
        _summary(facts),
        _use(facts),
        _metrics(facts),
        _curves(facts),
        _data(facts),
        _training(facts),
        _limits(facts),
        _origin(facts),
    ]
    return "\n\n".join(section.strip() for section in sections if section) + "\n"


def _summary(facts: CardFacts) -> str:
    info, best, config = facts.info, facts.request.best, facts.config
    test = facts.request.test
    tested = f"; on the test part IoU {test.iou:.4f}, Dice {test.dice:.4f}" if test else ""
    return f"""# {escape(config.job)}

{info.architecture} on {info.encoder}: gives each pixel one of {len(info.class_names)} classes.
Trained by kubeseg on the data set `{config.dataset.name}`. These are the weights of epoch
{best.epoch}, the best one: validation IoU {best.validation.iou:.4f}, \
Dice {best.validation.dice:.4f}{tested}.
"""


def _input(info: ModelInfo) -> str:
    channels = {1: "grey", 3: "RGB"}.get(info.in_channels, f"{info.in_channels} channels")
    return f"{channels}, {info.bits} bits a channel"


def _use(facts: CardFacts) -> str:
    info = facts.info
    mean = ", ".join(f"{value:.4g}" for value in info.mean)
    std = ", ".join(f"{value:.4g}" for value in info.std)
    return f"""## Use

With kubeseg's trainer (does all of the steps below, at each image's own size):

    kubeseg-trainer predict path/to/this/folder images/ --out labels/

With segmentation_models_pytorch alone:

    import segmentation_models_pytorch as smp
    model = smp.from_pretrained("path/to/this/folder").eval()

It takes N × {info.in_channels} × H × W ({_input(info)}), divided by {info.full_scale}, less the \
mean ({mean}), divided by
the deviation ({std}), and gives logits N × {len(info.class_names)} × H × W. Height and width must \
be what the network
can halve often enough (multiples of 32 always are, for most networks).

{_use_onnx(facts)}"""


def _use_onnx(facts: CardFacts) -> str:
    report, info = facts.onnx, facts.info
    if not report.get("file"):
        return f"There is no ONNX file: {escape(str(report.get('reason')))}."
    size = f".resize(({info.image_size}, {info.image_size}))" if info.image_mode == "Resize" else ""
    mode = {1: "L", 3: "RGB"}.get(info.in_channels)
    read = (
        f'np.asarray(Image.open("a.jpg").convert("{mode}"){size}, dtype="float32")'
        if mode and info.bits == 8
        else f'np.load("a.npy").astype("float32")  # H × W × {info.in_channels}'
    )
    planes = "pixels[None, None]" if mode == "L" else "pixels.transpose(2, 0, 1)[None]"
    shape = "any number of images" if "batch" in report["dynamic"] else "one image"
    shape += (
        " of any size" if report["size"] is None else " of {}×{} pixels".format(*report["size"])
    )
    checks = ", ".join(
        f"{check['largestDifference']:.1e} at {check['size'][0]}×{check['size'][1]} "
        f"({check['equalLabels']:.2%} of the labels equal)"
        for check in report["checks"]
    )
    return f"""With ONNX Runtime alone:

    import numpy as np, onnxruntime
    from PIL import Image
    session = onnxruntime.InferenceSession("model.onnx")
    pixels = {read}
    logits, labels = session.run(["logits", "labels"], {{"image": {planes}}})

`image` is float32, N × {info.in_channels} × H × W, as read (0 to {info.full_scale}): normalising, \
padding and cropping back are
part of the graph. `logits` is float32, N × {len(info.class_names)} × H × W, `labels` uint8, \
N × H × W. It takes {shape}. Opset {report["opset"]}.
Compared with PyTorch on validation images, logits differ by at most {checks}; up to
{report["tolerance"]:g} of the largest logit passes."""


def _metrics(facts: CardFacts) -> str:
    parts = [("validation", facts.request.best.validation)]
    if facts.request.test is not None:
        parts.append(("test", facts.request.test))
    return "## Metrics\n\n" + "\n\n".join(_part(facts, name, part) for name, part in parts)


def _part(facts: CardFacts, name: str, part: Part) -> str:
    info = facts.info
    more = bool(part.class_precision and part.class_recall)
    head = ["class", "name", "IoU", "Dice", *(["precision", "recall"] if more else [])]
    rows = []
    for label, class_name in enumerate(info.class_names):
        row = [str(label), escape(class_name)]
        row += [_at(part.class_iou, label), _at(part.class_dice, label)]
        row += [_at(part.class_precision, label), _at(part.class_recall, label)] if more else []
        rows.append(row)
    mean = ["", "**mean**", _score(part.iou), _score(part.dice)]
    rows.append(mean + ([_score(part.precision), _score(part.recall)] if more else []))
    when = "evaluated once, with these weights" if name == "test" else "after the best epoch"
    return (
        f"On the {name} part ({part.samples} images, {when}; loss {part.loss:.4f}):\n\n"
        f"{_table(head, rows)}"
    )


def _curves(facts: CardFacts) -> str:
    text = "## Course of the training\n\n![Loss, IoU and Dice by epoch](curves.svg)"
    if facts.pictures:
        shown = "\n".join(f"![sample]({path.replace(' ', '%20')})" for path in facts.pictures)
        text += f"\n\nValidation images: image, truth, prediction, errors.\n\n{shown}"
    return text


def _data(facts: CardFacts) -> str:
    info, total = facts.info, sum(facts.class_pixels)
    counts = ", ".join(f"{count} {name}" for name, count in facts.counts.items() if count)
    rows = []
    for label, name in enumerate(info.class_names):
        known = total and label < len(facts.class_pixels)
        share = f"{facts.class_pixels[label] / total:.2%}" if known else "–"
        rows.append([str(label), escape(name), info.colors[label], share])
    ignore = facts.config.dataset.ignore_index
    void = f" Label {ignore} is void: neither trained on nor counted." if ignore is not None else ""
    how = {
        "Resize": f"Each was made a square of {info.image_size} pixels.",
        "Crop": f"Squares of {info.image_size} pixels were cut from them at their own size.",
    }[info.image_mode]
    return (
        f"## Data\n\nData set `{facts.config.dataset.name}`: {counts} images ({_input(info)}). "
        f"{how}{void}\n\n{_table(['class', 'name', 'colour', 'share of training pixels'], rows)}"
    )


def _training(facts: CardFacts) -> str:
    training, history = facts.config.training, facts.request.history
    loss = " + ".join(
        term.name if term.weight == 1 else f"{term.weight:g} × {term.name}"
        for term in training.loss.terms
    )
    seconds = sum(record.seconds for record in history)
    rows = [
        ["epochs", f"{len(history)} of {training.epochs}; {escape(facts.request.why)}"],
        [
            "optimizer",
            f"{training.optimizer.name}, weight decay {training.optimizer.weight_decay:g}",
        ],
        ["learning rate", f"{training.learning_rate:g}, {training.scheduler.name}"],
        ["batch", str(training.batch_size)],
        ["loss", loss],
        ["augmentation", _augmentation(facts)],
        ["encoder begins with", facts.config.model.encoder_weights or "random weights"],
        ["precision", training.precision],
        ["seed", str(training.seed)],
        ["time in training steps", f"{seconds:.0f} s"],
    ]
    if training.ema is not None:
        rows.append(["moving average", f"decay {training.ema.decay:g}"])
    if facts.config.init_from is not None:
        start = facts.config.init_from
        rows.append(["initial weights", f"run {escape(start.job)}, epoch {start.epoch}"])
    return f"## Training\n\n{_table(['setting', 'value'], rows)}"


def _augmentation(facts: CardFacts) -> str:
    augmentation = facts.config.training.augmentation
    return "as serialized in the configuration" if augmentation.serialized else augmentation.preset


def _limits(facts: CardFacts) -> str:
    info, best = facts.info, facts.request.best
    never = [
        escape(name)
        for name, iou in zip(info.class_names, best.validation.class_iou, strict=False)
        if iou is None
    ]
    chosen = "The best epoch was chosen by the validation part, whose numbers are a little too good"
    tested = "those of the test part are not" if facts.request.test else "there is no test part"
    lines = [
        "It knows the classes above and nothing else: every pixel gets one of them.",
        f"{chosen}; {tested}.",
        "Objects much larger or smaller than in the training pictures are strange to it.",
    ]
    if never:
        lines.append(f"The validation part says nothing about: {', '.join(never)}.")
    if facts.onnx.get("size"):
        lines.append("The ONNX file takes one size only: this network ties its layers to it.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _origin(facts: CardFacts) -> str:
    record = facts.request.record
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    hardware = ", ".join(f"{name} {value}" for name, value in record.hardware.items())
    notes = "".join(f"\n- note: {escape(note)}" for note in record.notes)
    return (
        f"## Origin\n\n- run `{record.job}`, UID `{record.uid}`, begun {record.started}\n"
        f"- data set's fingerprint `{record.fingerprint}`\n"
        f"- {versions}\n- {escape(hardware)}{notes}"
    )
