"""The description of the API for programs, OpenAPI 3.1, made from the routes and the classes of answers.

``python -m fallow.serve.openapi FILE`` writes the file in ``docs``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from . import answers
from .routes import PICTURE, ROUTES, Route

_REF = "#/components/schemas/{name}"
_FAILURES = {
    400: "A wrong word or value.",
    401: "No token of this server.",
    403: "Another page asks, or the token does not allow it.",
    404: "There is no such thing, or this run does not have it.",
    405: "Another method.",
    408: "The body came too slowly.",
    409: "It is too early, or another file is there.",
    413: "The body is too large.",
    414: "The URL is too long.",
    415: "Another type than application/json, or application/octet-stream for a piece of a file.",
    429: "Too many wrong tokens, or too much work at a time.",
    431: "The headers are too large.",
    503: "A file of the run is damaged or gone.",
    507: "There is no room for it.",
}


def document() -> dict[str, Any]:
    """Return the OpenAPI document as plain values."""
    kinds = [answers.Failure, answers.Pending]
    kinds += [route.answer for route in ROUTES if route.answer is not PICTURE]
    kinds += [route.ask for route in ROUTES]
    _, schemas = msgspec.json.schema_components(list(dict.fromkeys(kinds)), ref_template=_REF)
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    failures = {str(status): _failure(text) for status, text in _FAILURES.items()}
    # Parameters stand with their routes.
    asked = {route.ask.__name__ for route in ROUTES if route.method != "POST"}
    asked -= {route.ask.__name__ for route in ROUTES if route.method == "POST"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "fallow serve",
            "version": "1",
            "description": "Runs, read from their files. Shares are in [0, 1]; epochs count from 0.",
        },
        "servers": [{"url": "."}],
        "security": [{"token": []}, {"cookie": []}],
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in schemas.items() if name not in asked},
            "responses": {f"failure{status}": value for status, value in failures.items()},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "fallow-PORT"},
            },
        },
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    if route.answer is PICTURE:
        content = {"image/png": {"schema": {"type": "string", "format": "binary"}}}
    else:
        content = {"application/json": {"schema": {"$ref": _REF.format(name=route.answer.__name__)}}}
    found: dict[str, Any] = {"description": route.about, "content": content}
    answers_: dict[str, Any] = {"200": found}
    if route.method == "GET":
        found["headers"] = {"ETag": {"schema": {"type": "string"}}}
        answers_["304"] = {"description": "Nothing has changed."}
    if route.slow:
        schema = {"$ref": _REF.format(name="Pending")}
        answers_["202"] = {"description": "Ask again.", "content": {"application/json": {"schema": schema}}}
    answers_ |= {str(status): {"$ref": f"#/components/responses/failure{status}"} for status in _FAILURES}
    name = route.path.removeprefix("/api/").replace("/", "_")
    operation: dict[str, Any] = {
        "operationId": name if route.method == "GET" else f"{route.method.lower()}_{name}",
        "summary": route.about,
        "responses": dict(sorted(answers_.items())),
    }
    if route.method != "POST":
        schema = schemas[route.ask.__name__]
        if parameters := _parameters(schema):
            operation["parameters"] = parameters
    if route.method == "PUT":
        piece = {"schema": {"type": "string", "format": "binary"}}
        operation["requestBody"] = {"required": True, "content": {"application/octet-stream": piece}}
    elif route.method == "POST":
        body = {"$ref": _REF.format(name=route.ask.__name__)}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation


def _parameters(schema: dict[str, Any]) -> list[dict[str, Any]]:
    required = schema.get("required", [])
    found = []
    for name, kind in schema["properties"].items():
        options = [one for one in kind.get("anyOf", [kind]) if one != {"type": "null"}]
        plain = options[0] if len(options) == 1 else {"anyOf": options}
        plain = {key: value for key, value in plain.items() if not (key == "default" and value is None)}
        if kind.get("default") is not None:
            plain["default"] = kind["default"]
        found.append({"name": name, "in": "query", "required": name in required, "schema": plain})
    return found


def _failure(text: str) -> dict[str, Any]:
    schema = {"$ref": _REF.format(name="Failure")}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def dumped() -> str:
    """Return the text of the file."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(dumped(), encoding="utf-8")
