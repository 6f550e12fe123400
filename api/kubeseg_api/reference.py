"""/docs: the reference as one page that loads nothing from elsewhere, made from the OpenAPI."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h2{margin-top:2.5rem;font-size:1.1rem}code,h2{font-family:ui-monospace,monospace}
table{border-collapse:collapse;width:100%}td{border-top:1px solid #8884;padding:.3rem .6rem;
vertical-align:top}td:first-child{white-space:nowrap;width:10rem}:root{color-scheme:light dark}
"""


@router.get("/docs")
async def reference(request: Request) -> HTMLResponse:
    """The reference for people; programs take /openapi.json."""
    return HTMLResponse(page(request.app.openapi()))


def page(document: dict[str, Any]) -> str:
    """HTML of an OpenAPI document: each operation with its parameters and replies."""
    info = document["info"]
    body = [f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>"]
    body += [f"<p>{escape(part)}</p>" for part in info["description"].split("\n\n")]
    body.append('<p>For programs: <a href="openapi.json">openapi.json</a></p>')
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            body.append(f"<h2>{method.upper()} {escape(path)}</h2>")
            body.append(f"<p>{escape(operation.get('description', ''))}</p><table>")
            for parameter in operation.get("parameters", []):
                name = f"{parameter['name']}{'' if parameter.get('required') else ' (optional)'}"
                body.append(_row(name, parameter.get("description", "")))
            if "requestBody" in operation:
                body.append(_row("body", operation["requestBody"].get("description", "")))
            for status, reply in operation["responses"].items():
                body.append(_row(f"→ {status}", reply.get("description", "")))
            body.append("</table>")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}'
        f"</title><style>{_STYLE}</style>{''.join(body)}</html>"
    )


def _row(name: str, text: str) -> str:
    return f"<tr><td><code>{escape(name)}</code></td><td>{escape(text)}</td></tr>"
