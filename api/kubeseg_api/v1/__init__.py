"""The native calls, under /v1; their errors are application/problem+json (RFC 9457)."""
