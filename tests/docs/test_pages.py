"""The docs say what the code does: described keys, commands that exist, code that parses, links that lead somewhere."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from docgen.commands import commands, commands_page
from docgen.recipe import groups, keys_of, recipe_page, recipe_schema
from docgen.text import cell

from infra.influence.methods import method_names
from infra.pipeline.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TAUGHT = [p for p in PAGES if "results" not in p.parts]


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of some languages, without the indentation of a list."""
    fence = re.compile(rf"^( *)```(?:{'|'.join(languages)})\n(.*?)^ *```", re.M | re.S)
    return [re.sub(rf"(?m)^{m.group(1)}", "", m.group(2)) for m in fence.finditer(page.read_text(encoding="utf-8"))]


def calls(page: Path) -> Iterator[tuple[str, list[str]]]:
    """(command, options) of every call of `infra` in a page's shell blocks."""
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.split(" #")[0]
            found = re.match(r"(?:.*?-m infra|infra|python3 dev\.py infra|python3 dev\.py(?= run)) +([a-z]+)(.*)", line)
            if found:
                yield found[1], re.findall(r"(?<= )--[a-z-]+", found[2])


def test_every_key_of_a_recipe_and_every_group_is_described() -> None:
    for place, model in groups():
        assert model.__doc__ and model.__doc__ != Settings.__doc__, f"the settings at {place or 'the top'} say nothing"
        for key in keys_of(model):
            assert key.field.description, f"recipe key {place}.{key.name} has no description"


def test_every_command_and_option_is_on_the_page_with_its_meaning() -> None:
    page = commands_page()
    for name, command in commands().items():
        assert f"## infra {name}\n" in page
        for parameter in command.params:
            assert cell(parameter.help) in page, f"infra {name} {parameter.name}"


def test_every_key_is_on_the_page_of_recipes() -> None:
    page = recipe_page()
    for place, model in groups():
        section = page.split(f"## `{place}`\n" if place else "## At the top\n")[1].split("\n## ")[0]
        assert all(f"| `{key.name}` |" in section for key in keys_of(model)), place


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_schema_for_editors_takes_the_recipes_there_are_and_no_unknown_key(recipe: Path) -> None:
    schema = json.loads(recipe_schema())
    content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    jsonschema.validate(content, schema)
    for wrong in ({**content, "sead": 1}, {**content, "sft": {"learning_rate": "fast"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


@pytest.mark.parametrize("page", TAUGHT, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_command_that_a_page_shows_exists_with_these_options(page: Path) -> None:
    known = commands()
    for name, options in calls(page):
        assert name in known, f"there is no command infra {name}"
        mine = {o for p in known[name].params for o in p.opts} | {"--help", "--nproc-per-node", "--num_processes"}
        assert not set(options) - mine, f"infra {name} has no option {set(options) - mine}"


def test_every_method_is_on_the_page_of_methods() -> None:
    page = (ROOT / "docs" / "reference" / "methods.md").read_text()
    assert not [name for name in method_names() if f"`{name}`" not in page]


def test_the_pages_show_every_command_that_there_is() -> None:
    assert {name for page in TAUGHT for name, _ in calls(page)} >= commands().keys() - {"work"}


@pytest.mark.parametrize("page", TAUGHT, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_python_in_the_pages_parses_and_imports_what_exists(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "infra":
                module: Any = import_module(str(node.module))
                missing = [a.name for a in node.names if not hasattr(module, a.name)]
                assert not missing, f"{node.module} has no {missing}"


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name)
def test_links_of_the_pages_outside_the_site_lead_somewhere(page: Path) -> None:
    """mkdocs checks those inside."""
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert links and not [link for link in links if "://" not in link and not (page.parent / link).exists()]


@pytest.mark.parametrize("room", ["infra.influence", "infra.models", "infra.data"])
def test_every_public_name_has_a_summary_and_every_function_says_what_it_takes(room: str) -> None:
    module = import_module(room)
    for name in module.__all__:
        value = getattr(module, name)
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        text = inspect.getdoc(value) or ""
        summary = text.split("\n\n")[0]
        assert summary.rstrip().endswith((".", ":")), f"{room}.{name}: a summary that ends with a full stop"
        if inspect.isfunction(value) and len(inspect.signature(inspect.unwrap(value)).parameters) > 1:
            told = "Args:" in text or ":func:" in summary  # that other function says it
            assert told, f"{room}.{name}: no Args in its docstring"
