"""The names of scores on the command line, read without importing them: they load torch."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from ..spelling import kebab_case


@cache
def score_names() -> frozenset[str]:
    """Return what :func:`fallow.scores.score_names` knows: short names, and class names in kebab case."""
    names: set[str] = set()
    for path in (Path(__file__).parent.parent / "scores").glob("*.py"):
        for node in ast.parse(path.read_bytes()).body:
            if isinstance(node, ast.ClassDef) and (short := _short_name(node)):
                names |= {short, kebab_case(node.name)}
    return frozenset(names)


def _short_name(score: ast.ClassDef) -> str:
    """Return the text that a class assigns to ``name``, or nothing."""
    for line in score.body:
        if isinstance(line, ast.AnnAssign) and ast.unparse(line.target) == "name":
            return str(ast.literal_eval(line.value)) if line.value is not None else ""
    return ""
