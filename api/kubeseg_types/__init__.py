"""The contract of kubeseg: one description, read by operator, facade and trainer.

Spec and status of a TrainingJob (`spec`, `status`), what the operator hands to the trainer and
the trainer reports back (`trainer`), exit codes (`exit_codes`), names (`names`) and the layout of
the workspace volume (`workspace`). Depends on pydantic alone.
"""
