"""What a recipe needs from outside: said by a dry run after its checks, before anything is loaded or downloaded."""

from __future__ import annotations

from pathlib import Path

from infra.data import is_named_data
from infra.data.rows import is_hub_data
from infra.evals import get_task
from infra.layout import BASE
from infra.models import is_named_model, model_folder
from infra.pipeline.graph import given_models
from infra.pipeline.recipe import Recipe
from infra.pipeline.settings import SourceSettings

MISSING = "MISSING"


def needs_table(recipe: Recipe) -> list[tuple[str, str, str]]:
    """(what, where, state) of the base model, every data source, task and server.

    The state is a size, 'embedded', 'from the hub', 'asked over the network' or 'MISSING'. An unknown task and a model
    folder that is not there raise InputError.
    """
    rows = [("base model", *_model(recipe))]
    rows += [(_uses(source), source.path, _data(source.path)) for source in recipe.data.origins]
    rows += [("correct responses", source.path, _data(source.path)) for source in recipe.data.queries]
    for settings in recipe.tasks:
        task = get_task(settings.name, path=settings.path)
        where = settings.path or task.source
        state = "embedded" if where.startswith("infra.") else _data(where)
        made = f"target {settings.target} and accuracy" if settings.target else "accuracy"
        options = "".join(f", {k} {v}" for k, v in settings.options.items())
        rows.append((f"task {settings.name}: {made}", where + options, state))
    if recipe.data.judge is not None:
        judge = recipe.data.judge
        rows.append((f"judge {judge.model}, {judge.votes} votes", judge.server, "asked over the network"))
    if recipe.eval.server is not None:
        rows.append(("answers of the base model", recipe.eval.server, "asked over the network"))
    return rows


def _model(recipe: Recipe) -> tuple[str, str]:
    if recipe.model.pretrain is not None:
        return "trained by this run", "made here"
    path = given_models(recipe)[BASE]
    if is_named_model(recipe.model.base):
        return recipe.model.base, "embedded"
    found = model_folder(path, fetch=False)
    return path, "from the hub" if found is None else _size(found)


def _uses(source: SourceSettings) -> str:
    if isinstance(source.shares, str):
        return "training data and pool, as marked"
    return ", ".join(f"{share:.0%} {use}" for use, share in source.shares.items())


def _data(where: str) -> str:
    if is_named_data(where):
        return "embedded"
    path = Path(where)
    if path.exists():
        return _size(path)
    return "from the hub" if is_hub_data(where) else MISSING


def _size(path: Path) -> str:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return f"here, {sum(p.stat().st_size for p in files) / 1e6:,.1f} MB"
