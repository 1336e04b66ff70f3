"""Options: each described, one spelling for one thing, what most calls need apart from the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

from infra import __version__
from infra.cli import app

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
RUNNER = CliRunner()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_argument_and_option_is_described(name: str) -> None:
    assert COMMANDS[name].help
    for parameter in COMMANDS[name].params:
        assert getattr(parameter, "help", None), f"infra {name} {parameter.name} has no description"


@pytest.mark.parametrize(("name", "kind"), [("out", Path), ("limit", int), ("seed", int), ("device", str)])
def test_an_option_means_the_same_in_every_command(name: str, kind: type) -> None:
    having = {n: p for n, c in COMMANDS.items() for p in c.params if f"--{name}" in p.opts}
    assert len(having) >= 3
    for command, parameter in having.items():
        hint = get_type_hints(COMMANDS[command].callback)[name]
        assert {t for t in get_args(hint) or (hint,) if t is not type(None)} == {kind}, command
        assert parameter.name == name and parameter.opts == [f"--{name}"]


def test_every_command_that_loads_a_model_takes_a_device() -> None:
    for name in ("run", "score", "eval", "plan"):
        assert any("--device" in p.opts for p in COMMANDS[name].params), name


@pytest.mark.parametrize("name", COMMANDS)
def test_long_help_has_what_most_calls_need_first(name: str) -> None:
    panels = [getattr(p, "rich_help_panel", None) for p in COMMANDS[name].params if p.param_type_name == "option"]
    assert panels.count(None) <= 9
    required = [p for p in COMMANDS[name].params if p.required]
    assert all(getattr(p, "rich_help_panel", None) is None for p in required)


@pytest.mark.parametrize("words", [["-h"], *([name, "-h"] for name in COMMANDS)])
def test_h_is_help(words: list[str]) -> None:
    short, long = RUNNER.invoke(app, words), RUNNER.invoke(app, [*words[:-1], "--help"])
    assert short.exit_code == 0 and short.stdout == long.stdout and "Usage" in short.stdout


def test_the_version_is_printed() -> None:
    done = RUNNER.invoke(app, ["--version"])
    assert done.exit_code == 0 and done.stdout.strip() == __version__


def test_the_shell_completes_commands() -> None:
    code = "import sys; sys.argv = ['infra']; from infra.cli import app; app(prog_name='infra')"
    words = {"_INFRA_COMPLETE": "complete_bash", "COMP_WORDS": "infra sc", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **words}, capture_output=True, text=True)
    assert done.stdout.split() == ["score"], done.stderr
