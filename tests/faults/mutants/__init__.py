"""The mutants: what a change of the operator must never do unnoticed.

Each is one fault of the kind that reviews miss. A mutant whose text is no longer in the source
fails loudly (`StaleMutantError`): adapt it to what the source has become.
"""

from tests.faults.mutants import attempts, control, ends, keeping_up, surroundings, watches

_BY_SUBJECT = (ends, attempts, control, keeping_up, surroundings, watches)
MUTANTS = tuple(one for subject in _BY_SUBJECT for one in subject.MUTANTS)

__all__ = ["MUTANTS"]
