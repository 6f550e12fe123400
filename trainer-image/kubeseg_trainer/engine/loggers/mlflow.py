"""Reports to an MLflow server, in a thread of its own: a server that is slow or away costs the
training nothing.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from kubeseg_trainer.engine.loggers.logger import scalars
from kubeseg_trainer.errors import StorageError
from kubeseg_trainer.files import write_file
from kubeseg_types.trainer import EpochRecord, TrainerConfig

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)

URI = "MLFLOW_TRACKING_URI"
EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
_DEFAULT_EXPERIMENT = "kubeseg"
#: Seconds between two tries while the server doesn't answer.
_RETRY = 30.0
#: Seconds that the end of a start waits for what is still to be sent.
_LAST_WORDS = 5.0
_LONGEST_PARAM = 500
_PARAMS_A_CALL = 100
_METRICS_A_CALL = 1000
#: What MLflow calls the states of run.json.
_STATES = {"Succeeded": "FINISHED", "Failed": "FAILED", "Interrupted": "KILLED"}
#: Its own patience is minutes a call, and it reports its use to its makers unless told not to.
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@dataclass(frozen=True)
class Identity:
    """Which run of ours the server is told about."""

    config: TrainerConfig
    class_names: Sequence[str]
    #: Remembers the server's run, so that the next start goes on with it.
    file: Path

    def tags(self) -> dict[str, str]:
        """What the server's run can be found by."""
        return {
            "kubeseg.namespace": self.config.namespace,
            "kubeseg.job": self.config.job,
            "kubeseg.uid": self.config.uid,
            "kubeseg.attempt": str(self.config.attempt),
        }

    def params(self) -> dict[str, str]:
        """The configuration as MLflow has parameters: flat, names such as training.epochs."""
        document = self.config.to_dict()
        parts = {name: document.get(name) for name in ("model", "dataset", "training", "initFrom")}
        return {name: value[:_LONGEST_PARAM] for name, value in flat(parts).items()}


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested mapping with dotted names; lists as JSON, what is None left out."""
    result: dict[str, str] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            result[prefix + key] = text
    return result


def metric_key(name: str) -> str:
    """`name` (group/rest) with the characters that MLflow takes, at most 250 of them."""
    group, _, rest = name.partition("/")
    # It reads keys as paths, too: a class may be called "..", or "n/a".
    rest = re.sub(r"[^\w.\- :]", "_", rest)
    rest = re.sub(r"^\.+$", "_", rest)
    return f"{group}/{rest}"[:250]


def public(uri: str) -> str:
    """`uri` without a user's name and password."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def start_mlflow(identity: Identity) -> MlflowLogger | None:
    """The logger where MLFLOW_TRACKING_URI names a server and its client is installed."""
    uri = os.environ.get(URI)
    if not uri:
        return None
    if importlib.util.find_spec("mlflow") is None:
        log.warning(
            "%s is set, but the package mlflow-skinny is not installed: this run is not reported "
            "to %s. Install kubeseg[mlflow], or unset the variable",
            URI,
            public(uri),
        )
        return None
    return MlflowLogger(uri, identity)


class MlflowLogger:
    """Tells the server of each epoch, and catches up on what it has missed."""

    def __init__(self, uri: str, identity: Identity, *, retry: float = _RETRY) -> None:
        self._uri = uri
        self._identity = identity
        self._retry = retry
        self._changed = threading.Condition()
        #: What is to be told: the whole history (each `log` replaces it) and, once, the end.
        self._history: list[EpochRecord] = []
        self._state: str | None = None
        self._thread: threading.Thread | None = None
        # Of the thread alone.
        self._client: MlflowClient | None = None
        self._run = ""
        self._told = 0
        self._warned = False

    # -- the training's side -----------------------------------------------------------------

    def log(self, history: Sequence[EpochRecord]) -> None:
        """The newest epoch of this history is finished."""
        with self._changed:
            self._history = list(history)
            self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
            self._thread.start()

    def close(self, state: str) -> None:
        """Tell the end, and give what is still to be sent a few seconds."""
        if self._thread is None:
            return
        with self._changed:
            self._state = state
            self._changed.notify()
        self._thread.join(_LAST_WORDS)
        missing = len(self._history) - self._told
        if missing > 0:
            log.warning(
                "MLflow (%s) was not told of the last %d epochs; the next start of this run tells "
                "it, and metrics.jsonl has them",
                public(self._uri),
                missing,
            )
        elif self._thread.is_alive():
            log.warning("MLflow (%s) was not told that this run is %s", public(self._uri), state)

    # -- the thread's side -------------------------------------------------------------------

    def _work(self) -> None:
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        for name in ("urllib3", "mlflow"):
            # Of what goes wrong there is one warning, ours.
            logging.getLogger(name).setLevel(logging.ERROR)
        while True:
            with self._changed:
                history, state = self._history, self._state
            try:
                self._tell(history, state)
            except Exception as error:  # noqa: BLE001 - whatever the client raises, training goes on
                self._warn(error)
                if state is not None:
                    return
                with self._changed:
                    self._changed.wait_for(lambda: self._state is not None, self._retry)
                continue
            if state is not None:
                return
            with self._changed:
                self._changed.wait_for(self._news, None)

    def _news(self) -> bool:
        return self._state is not None or len(self._history) > self._told

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            first = (str(error).splitlines() or [type(error).__name__])[0][:300]
            # The client's messages bear the address as it is set.
            first = first.replace(self._uri, public(self._uri))
            log.warning(
                "MLflow (%s) can't be told of this run: %s. The training goes on; it is tried "
                "again, without another warning",
                public(self._uri),
                first,
            )
        self._warned = True

    def _tell(self, history: Sequence[EpochRecord], state: str | None) -> None:
        if self._client is None:
            self._client = self._connect()
        for record in history[self._told :]:
            self._send(self._client, record)
            self._told = record.epoch
        if state in _STATES:
            self._client.set_terminated(self._run, _STATES[state])

    def _connect(self) -> MlflowClient:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        client = MlflowClient(self._uri)
        run = self._known(client)
        if run is None:
            run = client.create_run(
                self._experiment(client),
                run_name=self._identity.config.job,
                tags=self._identity.tags(),
            )
            self._remember(run.info.run_id)
        else:
            client.update_run(run.info.run_id, status="RUNNING")
            client.set_tag(
                run.info.run_id, "kubeseg.attempt", self._identity.tags()["kubeseg.attempt"]
            )
        self._run = run.info.run_id
        # Epochs that were done again after a break are told once: the server takes nothing back.
        self._told = int(run.data.metrics.get("epoch", 0))
        # Nor does it change a parameter: those that may change keep their first value.
        params = [
            Param(name, value)
            for name, value in self._identity.params().items()
            if name not in run.data.params
        ]
        for start in range(0, len(params), _PARAMS_A_CALL):
            client.log_batch(self._run, params=params[start : start + _PARAMS_A_CALL])
        return client

    def _remember(self, run_id: str) -> None:
        text = json.dumps({"uri": public(self._uri), "run": run_id})
        try:
            write_file(self._identity.file, text.encode())
        except StorageError as error:
            log.warning("the next start of this run will be another run in MLflow: %s", error)

    def _known(self, client: MlflowClient) -> Any:
        """The run that an earlier start made on this server, or None."""
        from mlflow.exceptions import MlflowException

        try:
            stored = json.loads(self._identity.file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        if stored.get("uri") != public(self._uri):
            return None
        try:
            run = client.get_run(stored["run"])
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return None if run.info.lifecycle_stage == "deleted" else run

    @staticmethod
    def _experiment(client: MlflowClient) -> str:
        name = os.environ.get(EXPERIMENT) or _DEFAULT_EXPERIMENT
        found = client.get_experiment_by_name(name)
        return str(found.experiment_id if found else client.create_experiment(name))

    def _send(self, client: MlflowClient, record: EpochRecord) -> None:
        from mlflow.entities import Metric

        moment = int(datetime.fromisoformat(record.time).timestamp() * 1000)
        values = {metric_key(k): v for k, v in scalars(record, self._identity.class_names).items()}
        metrics = [Metric(name, value, moment, record.epoch) for name, value in values.items()]
        for start in range(0, len(metrics), _METRICS_A_CALL):
            client.log_batch(self._run, metrics=metrics[start : start + _METRICS_A_CALL])
        # Last: an epoch of which only a part arrived is sent again, and looks the same.
        client.log_metric(self._run, "epoch", record.epoch, moment, record.epoch)
