"""Mutants: the operator's own source with one thing wrong, patched as it is imported."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Literal

ENVIRONMENT = "KUBESEG_FAULTS_MUTANT"


class StaleMutantError(Exception):
    """The source is no longer what the mutant was written for."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """`module` (below kubeseg_operator) with `old` replaced by `new`; `old` stands there once."""

    name: str
    module: str
    old: str
    new: str
    #: Which of the two is tried on it: the schedules, or the seeds of the watches.
    harness: Literal["schedules", "watches"] = "schedules"

    def mutated(self, source: str) -> str:
        """The source with the fault in it. Raises StaleMutantError where it doesn't fit."""
        found = source.count(self.old)
        if found != 1:
            raise StaleMutantError(
                f"mutant {self.name}: {self.module} has its text {found} times, not once: adapt "
                f"tests/faults/mutants:\n{self.old}"
            )
        changed = source.replace(self.old, self.new)
        try:
            compile(changed, self.module, "exec")
        except SyntaxError as error:
            raise StaleMutantError(f"mutant {self.name} is no Python: {error}") from error
        return changed


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, mutant: Mutant) -> None:
        super().__init__(name, path)
        self._mutant = mutant

    def get_code(self, fullname: str) -> object:  # type: ignore[override]
        source = self.get_data(self.path).decode()
        return compile(self._mutant.mutated(source), self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != f"kubeseg_operator.{self._mutant.module}":
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        assert found
        assert found.origin
        loader = _Loader(fullname, found.origin, self._mutant)
        return importlib.util.spec_from_file_location(fullname, found.origin, loader=loader)


def source_of(module: str) -> str:
    """The operator's own source of a module, without importing it."""
    package = importlib.util.find_spec("kubeseg_operator")
    assert package
    assert package.submodule_search_locations
    folder = next(iter(package.submodule_search_locations))
    path = os.path.join(folder, *module.split(".")) + ".py"  # noqa: PTH118
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        return file.read()


def apply_from_environment() -> None:
    """In a process that was started for a mutant: have its module imported with the fault."""
    name = os.environ.get(ENVIRONMENT)
    if not name:
        return
    from tests.faults.mutants import MUTANTS

    loaded = [module for module in sys.modules if module.startswith("kubeseg_operator.")]
    assert not loaded, f"too late to mutate, already imported: {loaded}"
    mutant = next(each for each in MUTANTS if each.name == name)
    mutant.mutated(source_of(mutant.module))
    sys.meta_path.insert(0, _Finder(mutant))
