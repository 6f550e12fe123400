"""`python -m bench.trainer`: what the trainer reaches, each figure beside its twin."""
