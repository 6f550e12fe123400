"""The REST facade: every call becomes a TrainingJob's create, patch, delete or read, or a read of
the workspace. It holds no state of its own; the caller's token decides what is allowed.
"""
