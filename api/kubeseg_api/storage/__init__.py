"""The workspace as the facade reads and writes it: blocking functions, called in threads."""
