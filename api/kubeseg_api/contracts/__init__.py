"""One package for each source system whose callers keep their calls; none leaks into another."""
