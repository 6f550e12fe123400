"""`spec` of a TrainingJob. Bounds and defaults stand here and reach the CRD from here."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from kubeseg_types import workspace
from kubeseg_types.affinity import Affinity
from kubeseg_types.base import Contract, Quantity
from kubeseg_types.names import DEFAULT_CLAIM
from kubeseg_types.training import CheckpointPolicy, Training

#: The least that a worker may ask for.
LEAST_CPU, LEAST_MEMORY = "10m", "64Mi"

Name = Annotated[str, Field(min_length=1, max_length=253)]


class Architecture(StrEnum):
    """Architectures of segmentation_models_pytorch that the trainer builds."""

    UNET = "Unet"
    UNET_PLUS_PLUS = "UnetPlusPlus"
    MANET = "MAnet"
    LINKNET = "Linknet"
    FPN = "FPN"
    PSPNET = "PSPNet"
    DEEPLABV3 = "DeepLabV3"
    DEEPLABV3_PLUS = "DeepLabV3Plus"
    PAN = "PAN"
    UPERNET = "UPerNet"
    SEGFORMER = "Segformer"
    DPT = "DPT"


class Model(Contract):
    """The network."""

    architecture: Architecture = Field(
        default=Architecture.UNET, description="Architecture, by its name in smp."
    )
    encoder: str = Field(
        default="resnet34",
        pattern=r"^[a-z0-9][a-z0-9_.-]*$",
        max_length=100,
        description="Encoder (backbone), by its name in smp, such as resnet34 or mobilenet_v2.",
    )
    encoder_weights: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$",
        max_length=100,
        description="Pretrained weights of the encoder, from the workspace's weights folder or a "
        "hub; none unless asked for.",
    )
    in_channels: int = Field(
        default=3, ge=1, le=16, description="Channels of the images: 1 grey, 3 RGB, more as TIFF."
    )


class ClassName(Contract):
    """One class; its position in the list is its label, unless it says how masks show it."""

    name: str = Field(min_length=1, max_length=63, description="Name, as metrics carry it.")
    value: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="What stands for it in index masks, where that isn't its position in the list.",
    )
    color: str | None = Field(
        default=None,
        pattern=r"^#[0-9a-fA-F]{6}$",
        max_length=7,
        description="What stands for it in colour masks, as #rrggbb: all classes have one, or "
        "none has.",
    )


class Splits(Contract):
    """Folders of the data set that hold the parts, each with images/ and masks/ inside."""

    train: str = Field(default="train", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=63)
    validation: str = Field(default="val", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=63)
    test: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=63,
        description="Evaluated once, at the end, with the best weights.",
    )


class Dataset(Contract):
    """The images and masks to learn from."""

    name: str = Field(
        pattern=workspace.DATASET_PATTERN,
        max_length=257,
        description="Data set in the workspace: datasets/<name>, or <owner>/<name>.",
    )
    format: Literal["Auto", "Folders", "Coco", "Voc", "Cvat", "Yolo"] = Field(
        default="Auto",
        description="How the annotations are written: masks in folders, COCO JSON, Pascal VOC, "
        "CVAT XML or YOLO polygons. Auto looks at what is there.",
    )
    test_size: float = Field(
        default=0.2,
        gt=0,
        le=0.9,
        description="Share of the images held back for validation, where the data set brings no "
        "split of its own. Which ones depends on each file's name and the seed.",
    )
    ignore_index: int | None = Field(
        default=None,
        ge=0,
        le=255,
        description="Label in the masks that is neither trained on nor counted (void).",
    )
    classes: list[ClassName] | None = Field(
        default=None,
        min_length=2,
        max_length=256,
        description="Classes in the order of their labels, the first being 0. Found from the masks "
        "where not given.",
    )
    splits: Splits | None = Field(
        default=None,
        description="Folders of a data set that brings its own split. Where it is not given, "
        "train/ and val/ (and test/) count if they are there.",
    )


class Resources(Contract):
    """What one worker pod takes."""

    gpus: int = Field(
        default=0,
        ge=0,
        le=64,
        description="GPUs of a worker, which runs one process on each; 0 trains on the CPU.",
    )
    gpu_resource: str = Field(
        default="nvidia.com/gpu",
        pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$",
        max_length=253,
        description="Extended resource that a GPU is asked for by (other vendors, MIG).",
    )
    cpu: Quantity = Field(default="1", description="CPU request of a worker.")
    memory: Quantity = Field(default="4Gi", description="Memory request and limit of a worker.")
    shared_memory: Quantity = Field(
        default="1Gi", description="Size of /dev/shm, a part of `memory`."
    )


class KeyRef(Contract):
    """A key of a Secret or ConfigMap."""

    name: Name
    key: Name
    optional: bool | None = None


class EnvSource(Contract):
    """Where a variable's value comes from: exactly one of the two."""

    secret_key_ref: KeyRef | None = None
    config_map_key_ref: KeyRef | None = None


class EnvVar(Contract):
    """An environment variable of the trainer: a value, or where it comes from."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=253)
    value: str | None = Field(default=None, max_length=4096)
    value_from: EnvSource | None = None


class Toleration(Contract):
    """As in a pod."""

    key: str | None = Field(default=None, max_length=316)
    operator: Literal["Exists", "Equal"] | None = None
    value: str | None = Field(default=None, max_length=63)
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = Field(default=None, ge=0)


class LocalReference(Contract):
    """An object of the same namespace."""

    name: Name


class PodResourceClaim(Contract):
    """Devices by Dynamic Resource Allocation, as in a pod: exactly one of the two names."""

    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)
    resource_claim_name: Name | None = Field(
        default=None, description="A ResourceClaim of the namespace, shared by all workers."
    )
    resource_claim_template_name: Name | None = Field(
        default=None, description="A ResourceClaimTemplate: each worker gets a claim of its own."
    )


class InitFrom(Contract):
    """Another run's weights to begin with."""

    job: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=52)
    epoch: Literal["best", "last"] | Annotated[str, Field(pattern=r"^[1-9][0-9]{0,6}$")] = "best"


class Export(Contract):
    """What is made of the best model at the end, beside its weights."""

    onnx: bool = Field(
        default=True, description="Also an ONNX file, checked against the network numerically."
    )
    samples: int = Field(
        default=4,
        ge=0,
        le=16,
        description="Validation images that are drawn at each epoch: image, truth, prediction and "
        "errors side by side.",
    )


class Artifacts(Contract):
    """What becomes of the run's folder."""

    on_delete: Literal["Retain", "Delete"] = Field(
        default="Retain",
        description="What happens to it when the TrainingJob is deleted, also after its time to "
        "live: Delete removes runs/<job>/<uid> from the workspace.",
    )


class WorkspaceRef(Contract):
    """The volume with data sets and runs."""

    claim_name: str = Field(
        default=DEFAULT_CLAIM,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        max_length=253,
        description="PersistentVolumeClaim of the job's namespace.",
    )


class TrainingJobSpec(Contract):
    """What is wanted."""

    model: Model = Field(default_factory=Model)
    dataset: Dataset
    training: Training
    checkpoint: CheckpointPolicy = Field(default_factory=CheckpointPolicy)
    export: Export = Field(default_factory=Export)
    artifacts: Artifacts = Field(default_factory=Artifacts)
    init_from: InitFrom | None = Field(
        default=None, description="Begin with another run's weights."
    )
    resources: Resources = Field(default_factory=Resources)
    resource_claims: list[PodResourceClaim] | None = Field(
        default=None,
        max_length=16,
        description="Devices that the trainer's container gets beside `resources` (DRA).",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Worker pods that train together; `batchSize` is that of all of them.",
    )

    suspend: bool = Field(
        default=False, description="Pause: a checkpoint is written, the pods go, nothing is lost."
    )
    stop: bool = Field(
        default=False,
        description="End gracefully after the current epoch; counts as success.",
    )
    max_retries: int = Field(
        default=3,
        ge=0,
        le=100,
        description="Failures in a row, without progress between them, after which the job has "
        "failed. Interruptions are not failures.",
    )
    active_deadline_seconds: int | None = Field(
        default=None, ge=1, le=31_536_000, description="The job fails when it has run for so long."
    )
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=0,
        le=31_536_000,
        description="The TrainingJob is deleted so long after it finished; its run stays.",
    )
    preflight: Literal["Auto", "Never"] = Field(
        default="Auto",
        description="Auto checks the data set and the network in a pod without GPUs, before the "
        "first attempt of a job that asks for GPUs. Without GPUs the trainer's own check at its "
        "start says the same as fast.",
    )
    workspace: WorkspaceRef = Field(default_factory=WorkspaceRef)

    image: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        # Printable ASCII: of other blanks pydantic and the API server think differently.
        pattern=r"^[!-~]+$",
        description="Image of the trainer; the operator's default where not given.",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    image_pull_secrets: list[LocalReference] | None = Field(default=None, max_length=16)
    env: list[EnvVar] | None = Field(default=None, max_length=64)
    node_selector: dict[str, Annotated[str, Field(max_length=63)]] | None = Field(
        default=None, max_length=32
    )
    tolerations: list[Toleration] | None = Field(default=None, max_length=32)
    affinity: Affinity | None = Field(default=None, description="As in a pod.")
    scheduler_name: Name | None = None
    priority_class_name: Name | None = None
    runtime_class_name: Name | None = None
    queue_name: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        min_length=1,
        max_length=63,
        description="LocalQueue of Kueue, which then decides when an attempt may run.",
    )
    pod_labels: dict[str, Annotated[str, Field(max_length=63)]] | None = Field(
        default=None, max_length=32
    )
    pod_annotations: dict[str, Annotated[str, Field(max_length=4096)]] | None = Field(
        default=None, max_length=32
    )
