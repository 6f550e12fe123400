"""The operator: TrainingJob → attempt → Indexed `batch/v1 Job`, and the status that people read.

observe (`observe`) → decide (`decide`, pure) → apply (`apply`) → one status write → events.
"""
