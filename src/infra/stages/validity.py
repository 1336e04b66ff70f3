"""Stage `validation`: how well the run's own scores predict retraining, in a time of its own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from infra.errors import PlanTooLong
from infra.progress import say
from infra.recipe import Recipe, ValidationSettings
from infra.stages.runner import Context
from infra.store import RunFolder, read_json, write_json
from infra.validate import validate_run
from infra.validate.plan import MINIMUM_SEEDS, MINIMUM_SUBSETS

STAGE = "validation"
SHOWN = ("lds", "differences", "removal", "accuracy", "tracking")


def run_validation(context: Context, recipe: Recipe) -> None:
    """Retrain on random subsets and write the tables of :func:`infra.validate.validate_run`.

    A plan that does not fit in the time is refused: with ``validation.insist`` that ends the command, otherwise the
    run goes on, says so, and its effects stay 'not validated'.
    """
    v = recipe.validation
    assert v is not None
    below = v.subsets < MINIMUM_SUBSETS or v.seeds < MINIMUM_SEEDS
    if below:
        say(f"under {MINIMUM_SUBSETS} subsets or {MINIMUM_SEEDS} seeds nothing is called validated")
    try:
        validate_run(
            context.folder, v.minutes, out=context.out, kinds=v.kinds, protocols=v.protocols, methods=v.methods,
            n_subsets=v.subsets, n_seeds=v.seeds, accuracy_problems=v.accuracy_problems, below_protocol=below,
        )  # fmt: skip
    except PlanTooLong as error:
        if v.insist:
            raise
        say(f"not validated: {error}")
        write_json(context.out / "validation.json", {"refused": str(error), "validity": {}})


def with_recorded(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe, validated as this run folder already was when it does not say itself."""
    if recipe.validation is not None:
        return recipe
    manifest = RunFolder(folder).manifest(STAGE)
    if manifest is None:
        return recipe
    return recipe.model_copy(update={"validation": ValidationSettings.model_validate(manifest.config["validation"])})


def validation_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """What the report shows of a finished stage ``folder``: whole targets only, under ``validation_<table>``."""
    out = {}
    for name in SHOWN:
        if not (folder / f"{name}.parquet").exists():
            continue
        table = pd.read_parquet(folder / f"{name}.parquet")
        table = table[~table.target.str.contains(":")].drop(columns="fold_changes", errors="ignore")
        out[f"validation_{name}"] = table.reset_index(drop=True)
    return out


def validation_note(folder: Path) -> dict[str, str]:
    """``validation``: a sentence for the report where the stage was refused; nothing otherwise."""
    refused = read_json(folder / "validation.json").get("refused")
    return {"validation": f"Validation was asked for and refused: {refused}."} if refused else {}
