"""What can be trained; each task supplies data, network, loss and metrics to the engine."""
