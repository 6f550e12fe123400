"""What is looked at before a training begins, and kept."""
