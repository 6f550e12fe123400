"""What a training leaves, and its use."""
