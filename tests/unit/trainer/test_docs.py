"""docs/trainer.md: its table of exit codes is complete, its job is one."""

from __future__ import annotations

import re
from pathlib import Path

from kubeseg_trainer.config import parse_config
from kubeseg_types.exit_codes import TABLE
from kubeseg_types.training import CheckpointPolicy

DOCS = (Path(__file__).resolve().parents[3] / "docs/trainer.md").read_text(encoding="utf-8")


def test_every_exit_code_is_in_the_table() -> None:
    section = DOCS.split("## Exit codes")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| .+ \|$", section, re.MULTILINE)
    assert {int(code): reason for code, reason in rows} == {
        int(code): reason for code, (_, reason) in TABLE.items()
    }


def test_the_job_to_begin_with_is_one() -> None:
    text = re.findall(r"```yaml\n(kind: TrainingJob\n.*?)```", DOCS, re.DOTALL)[0]
    config = parse_config(text)
    assert (config.job, config.uid) == ("discs", "local")


def test_the_least_time_between_checkpoints_is_named() -> None:
    least = CheckpointPolicy.model_fields["every_seconds"].metadata[0].ge
    assert f"every `everySeconds` ({least} at least)" in DOCS
