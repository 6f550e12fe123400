"""Settings, all from the environment; a wrong one stops the start with a sentence."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubeseg_types.names import ENV_POD_IP, ENV_POD_NAMESPACE, ENV_WORKSPACE

ENV_ANONYMOUS = "KUBESEG_ANONYMOUS_TOKEN_FILE"
ENV_TEMPLATE = "KUBESEG_STUDY_TEMPLATE"
ENV_MAX_UPLOAD = "KUBESEG_MAX_UPLOAD_BYTES"

DEFAULT_MAX_UPLOAD = 16 * 1024**3


class SettingsError(Exception):
    """A variable of the environment that can't be used."""


@dataclass(frozen=True)
class Settings:
    """What a facade is started with.

    `max_upload_bytes` bounds an upload and, again, what it unpacks to.
    """

    workspace: Path
    namespace: str | None = None
    bind: str = "127.0.0.1"
    port: int = 8080
    metrics_port: int = 9090
    anonymous_token_file: Path | None = None
    study_template: dict[str, Any] = field(default_factory=dict)
    max_upload_bytes: int = DEFAULT_MAX_UPLOAD
    max_files: int = 200_000
    temporary: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings of this process. Raises SettingsError, which names the variable."""
    workspace = environment.get(ENV_WORKSPACE) or "/workspace"
    anonymous = environment.get(ENV_ANONYMOUS)
    return Settings(
        workspace=Path(workspace).absolute(),
        namespace=environment.get(ENV_POD_NAMESPACE) or None,
        bind=environment.get(ENV_POD_IP) or "127.0.0.1",
        port=_number(environment, "KUBESEG_PORT", 8080),
        metrics_port=_number(environment, "KUBESEG_METRICS_PORT", 9090),
        anonymous_token_file=Path(anonymous) if anonymous else None,
        study_template=_template(environment.get(ENV_TEMPLATE, "")),
        max_upload_bytes=_number(environment, ENV_MAX_UPLOAD, DEFAULT_MAX_UPLOAD),
    )


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise SettingsError(f"{name} must be a whole number above 0: {text!r}")
    return int(text)


def _template(text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"{ENV_TEMPLATE} must be JSON: {error}") from error
    if not isinstance(value, dict):
        raise SettingsError(f"{ENV_TEMPLATE} must be a JSON object, part of a TrainingJob's spec")
    return value
