"""JSON of the API server that no parser reads as it is.

Users write some parts of any object as they like (`metadata.managedFields`): they may be nested
deeper than a parser goes, or hold bytes that are no UTF-8. One object must not hide all others of
its list, or of its watch.
"""

from __future__ import annotations

import re

#: What lies deeper is left out; TrainingJobs, Jobs and pods need not a third of it.
DEEPEST = 100
_TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)


def shallow(text: bytes) -> bytes:
    """`text`, which is UTF-8 then, with null in place of what is nested deeper than `DEEPEST`."""
    text = text.decode(errors="replace").encode()
    parts, depth, kept = [], 0, 0
    for token in _TOKENS.finditer(text):
        match text[token.start() : token.start() + 1]:
            case b"{" | b"[":
                depth += 1
                if depth == DEEPEST + 1:
                    parts += [text[kept : token.start()], b"null"]
                    kept = len(text)
            case b"}" | b"]":
                if depth == DEEPEST + 1:
                    kept = token.end()
                depth -= 1
    return b"".join([*parts, text[kept:]])
