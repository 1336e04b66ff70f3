"""The page of commands and options, from Typer."""

from __future__ import annotations

from typing import Any, get_type_hints

import typer

from docgen.text import cell, kind_of, table
from infra.cli import app

HEAD = """# Commands

`infra COMMAND --help` prints the same in the terminal. In a clone of the repository, `python3 dev.py infra COMMAND`
makes the environment first.

Every command ends with one of these exit codes:

| code | meaning |
|---|---|
| 0 | done |
| 1 | an error of the environment |
| 2 | bad input or a bad recipe, or wrong usage |
| 3 | a damaged artifact, or one of another run |
| 4 | a model that cannot be used as asked |
| 5 | out of memory, disk or time |
| 130 | stopped by Ctrl-C; the same command goes on from there |

This page is written from the code when the site is built.
"""


def commands() -> dict[str, Any]:
    """Every command by name, in the order of the help: click's objects, of which Typer has its own copy."""
    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def commands_page() -> str:
    """The page in Markdown."""
    return "\n".join([HEAD, *(section(name, command) for name, command in commands().items())])


def section(name: str, command: Any) -> str:
    """One command: what it does, its arguments, its options, its advanced options."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join(["infra", name, "[OPTIONS]", *(_usage(p) for p in arguments)])
    help_text = (command.help or "").strip()
    out = [f"## infra {name}\n", f"```\n{usage}\n```\n", help_text + "\n"]
    hints = get_type_hints(command.callback)
    panels: dict[str, list[Any]] = {}
    for parameter in command.params:
        panels.setdefault(getattr(parameter, "rich_help_panel", None) or "Arguments and options", []).append(parameter)
    for panel, parameters in panels.items():
        rows = [[_names(p), _kind(p, hints), _default(p), cell(getattr(p, "help", None) or "")] for p in parameters]
        out += [f"**{panel}**\n", table(["name", "value", "default", "meaning"], rows)]
    return "\n".join(out)


def _usage(parameter: Any) -> str:
    name = (parameter.name or "").upper()
    return name if parameter.required else f"[{name}]"


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{(parameter.name or '').upper()}`"
    return ", ".join(f"`{o}`" for o in (*parameter.opts, *parameter.secondary_opts))


def _kind(parameter: Any, hints: dict[str, Any]) -> str:
    if getattr(parameter, "is_flag", False):
        return "flag"
    bounds = [
        f"{sign} {bound:g}"
        for sign, bound in (("≥", getattr(parameter, "min", None)), ("≤", getattr(parameter, "max", None)))
        if bound is not None
    ]
    if parameter.multiple:
        return "text, repeatable"
    return cell(", ".join([kind_of(hints[parameter.name]), *bounds]))


def _default(parameter: Any) -> str:
    if parameter.required:
        return "**required**"
    value = parameter.default
    shown = value not in (None, False, "") and getattr(parameter, "show_default", True)
    return f"`{value}`" if shown and not callable(value) else ""
