"""Names that more than one part must agree on."""

from __future__ import annotations

GROUP = "kubeseg.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "TrainingJob"
PLURAL = "trainingjobs"
SINGULAR = "trainingjob"
SHORT = "tj"

#: `metadata.name` of a TrainingJob: a DNS label, short enough for `<job>-<attempt>-<index>-<hash>`.
MAX_NAME_LENGTH = 52

LABEL_JOB = f"{GROUP}/job"
LABEL_ATTEMPT = f"{GROUP}/attempt"
#: On the Job that removes a run: the UID of its TrainingJob, which can't own it (the garbage
#: collector would delete it with its owner, before it is done).
LABEL_CLEANUP_OF = f"{GROUP}/cleanup-of"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY = "kubeseg-operator"

#: Holds up the deletion of a TrainingJob until its run is removed (`artifacts.onDelete: Delete`).
FINALIZER_ARTIFACTS = f"{GROUP}/artifacts"
#: On a child Job: the queue of Kueue that decides when it runs; and on what Kueue keeps of it.
LABEL_QUEUE = "kueue.x-k8s.io/queue-name"
LABEL_WORKLOAD_JOB = "kueue.x-k8s.io/job-uid"
KUEUE_GROUP = "kueue.x-k8s.io"

#: On the trainer's pod: its configuration (`trainer.TrainerConfig` as JSON).
ANNOTATION_CONFIG = f"{GROUP}/config"
#: Of a Job: a hash of the pods it was made to make.
ANNOTATION_TEMPLATE = f"{GROUP}/template"
#: On a TrainingJob made by the facade: the id that the caller knows it by, and the caller's name.
ANNOTATION_STUDY = f"{GROUP}/study"
ANNOTATION_USER = f"{GROUP}/user"

#: Resources that exist only for access reviews (`kubectl auth can-i create datasets.kubeseg.dev`).
VIRTUAL_DATASETS = "datasets"
VIRTUAL_MODELS = "models"

TRAINER_CONTAINER = "trainer"
TRAINER_PORT_NAME = "http"
TRAINER_PORT = 9100

# Where things are mounted in the trainer's pod.
WORKSPACE_MOUNT = "/workspace"
CONFIG_MOUNT = "/etc/kubeseg"
CONFIG_FILE = f"{CONFIG_MOUNT}/config.json"
SCRATCH_MOUNT = "/scratch"
TERMINATION_LOG = "/dev/termination-log"
DEFAULT_CLAIM = "kubeseg-workspace"

# Environment of the apps.
ENV_POD_IP = "POD_IP"
ENV_POD_NAME = "POD_NAME"
ENV_POD_NAMESPACE = "POD_NAMESPACE"
ENV_TRAINER_IMAGE = "KUBESEG_TRAINER_IMAGE"
ENV_WORKSPACE = "KUBESEG_WORKSPACE"

# A trainer of several processes: which pod of how many (Kubernetes sets the index of an Indexed
# Job's pods itself), where rank 0 is found (host:port), how many processes a pod runs (not set:
# one for each GPU it sees), and how many seconds they wait for each other at the beginning.
ENV_WORKER_INDEX = "JOB_COMPLETION_INDEX"
ENV_WORKERS = "KUBESEG_WORKERS"
ENV_COORDINATOR = "KUBESEG_COORDINATOR"
ENV_PROCESSES = "KUBESEG_PROCESSES"
ENV_RENDEZVOUS_TIMEOUT = "KUBESEG_RENDEZVOUS_TIMEOUT"
#: Where rank 0 listens, unless the coordinator names another port.
COORDINATOR_PORT = 29500

MAX_CONFIG_BYTES = 128 * 1024
MAX_TERMINATION_BYTES = 4096
