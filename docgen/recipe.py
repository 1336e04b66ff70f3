"""The page of recipe keys, and the JSON Schema of a recipe, from the pydantic models."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from dataclasses import dataclass

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from docgen.text import cell, kind_of, table
from infra.pipeline.recipe import Recipe

HEAD = """# Recipe keys

A recipe is one YAML file that says everything `infra run` needs. This is a small whole one:

```yaml
name: my-first-run
data:
  sources: [{path: train.jsonl}]
model: {base: smollm2-135m-instruct}
tasks: [{name: gsm8k, path: gsm8k_test.jsonl, target: math}]
```

A key that you leave out has its default. An unknown key is an error that names the nearest known one. Relative paths
are taken from the recipe's own folder. `infra run my.yaml --set sft.epochs=1` changes one key for one run. The key is
dotted, and the places of a list count from 0: `data.sources.0.path=mine.jsonl`. `infra score` takes `--set` too.

Your editor can complete and check recipes. Put this first line in the file, with the place of the
[JSON Schema](recipe.schema.json):

```yaml
# yaml-language-server: $schema=recipe.schema.json
```

This page is written from the code when the site is built.
"""


@dataclass(frozen=True)
class Key:
    """One key: its name as YAML has it, and what pydantic knows of it."""

    name: str
    field: FieldInfo

    @property
    def inner(self) -> type[BaseModel] | None:
        """The settings that lie below this key, where it is a mapping or a list of mappings."""
        return next(_models_in(self.field.annotation), None)

    @property
    def is_list(self) -> bool:
        """Whether the key holds a list."""
        return any(
            typing.get_origin(a) is tuple for a in (self.field.annotation, *typing.get_args(self.field.annotation))
        )


def keys_of(model: type[BaseModel]) -> list[Key]:
    """The keys of one group of settings, in the order of the code."""
    return [Key(field.alias or name, field) for name, field in model.model_fields.items()]


def groups(model: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """(dotted place, settings) of every group in a recipe, the top first; `[]` marks a list."""
    yield prefix, model
    for key in keys_of(model):
        if key.inner is not None:
            yield from groups(key.inner, f"{prefix}.{key.name}".lstrip(".") + ("[]" if key.is_list else ""))


def recipe_page() -> str:
    """The page in Markdown."""
    out = [HEAD]
    for place, model in groups():
        out += [f"## `{place}`\n" if place else "## At the top\n", " ".join((model.__doc__ or "").split()) + "\n"]
        rows = [
            [f"`{k.name}`", values(k.field), default(k.field), cell(k.field.description or "")] for k in keys_of(model)
        ]
        out.append(table(["key", "value", "default", "meaning"], rows))
    return "\n".join(out)


def recipe_schema() -> str:
    """The JSON Schema of a recipe, for editors."""
    return json.dumps({"title": "Infra recipe", **Recipe.model_json_schema()}, indent=1) + "\n"


def default(field: FieldInfo) -> str:
    """The default as YAML writes it."""
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined:
        return "none"
    if isinstance(value, BaseModel):
        return "see below"
    return f"`{json.dumps(value)}`"


def values(field: FieldInfo) -> str:
    """What may stand there: the kind of value, its bounds, or the words to choose from."""
    kind = kind_of(field.annotation)
    bounds = [
        f"{sign} {getattr(rule, name):g}"
        for rule in field.metadata
        for name, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
        if isinstance(rule, annotated_types.BaseMetadata) and hasattr(rule, name)
    ]
    return cell(", ".join([kind, *bounds]))


def _models_in(annotation: typing.Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)
