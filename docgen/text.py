"""Markdown that the generated pages share."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel


def cell(text: str) -> str:
    """Text for a cell of a table: one line, with bars and angle brackets outside code escaped."""
    return re.sub(r"<(?=[a-z])(?![^`]*`[^`]*$)", "&lt;", " ".join(text.split())).replace("|", "\\|")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; nothing where it has no rows."""
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def plain_roles(text: str) -> str:
    """A docstring's Sphinx roles as code: :class:`InputError` becomes `InputError`."""
    return re.sub(r":(?:class|func|meth|data|mod|attr):`~?\.?([^`]+)`", r"`\1`", text)


_KINDS = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    typing.Any: "anything",
}


def kind_of(annotation: typing.Any) -> str:
    """A type in the words of somebody who writes YAML or a command line."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in _KINDS:
        return _KINDS[annotation]
    if origin is typing.Annotated:
        return kind_of(arguments[0])
    if origin is typing.Literal:
        return " or ".join(f"`{a}`" for a in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(kind_of(a) for a in arguments if a is not type(None))
    if origin in (tuple, list):
        inner = kind_of(arguments[0])
        return f"list of {inner}" + ("s" if inner in ("text", "whole number", "group") else "")
    if origin is dict:
        return f"mapping of {kind_of(arguments[0])} to {kind_of(arguments[1])}"
    return "group" if isinstance(annotation, type) and issubclass(annotation, BaseModel) else str(annotation)
