"""The network, what it begins with, and its loss."""
