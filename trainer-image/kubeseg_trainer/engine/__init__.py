"""The training engine: knows nothing of the task that it trains."""
