"""Step `validation`: how well the run's own scores predict retraining, in a time of its own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from infra.data import is_whole
from infra.errors import ArtifactError, PlanTooLong
from infra.experiments.retraining import ValidationOptions, validate_run
from infra.experiments.retraining.plan import MINIMUM_SEEDS, MINIMUM_SUBSETS
from infra.layout import BASE, EXPLAINED, Run
from infra.pipeline.recipe import Recipe, parse_recipe
from infra.pipeline.settings import ValidationSettings
from infra.pipeline.stage import PRECISION, Context
from infra.pipeline.step import TOKENIZER, WEIGHTS, Step, Uses
from infra.progress import say
from infra.store import RunFolder, read_json, write_json

STAGE = "validation"
AFTER = ("effects", "results", "report")
SHOWN = ("lds", "differences", "removal", "accuracy", "tracking")


def run_validation(context: Context) -> None:
    """Retrain on random subsets and write the tables of :func:`infra.experiments.retraining.validate_run`.

    A plan that does not fit in the time is refused: with ``validation.required`` that ends the command, otherwise the
    run goes on, says so, and its effects stay 'not validated'.
    """
    v = context.recipe.validation
    assert v is not None
    below = v.subsets < MINIMUM_SUBSETS or v.seeds < MINIMUM_SEEDS
    if below:
        say(f"under {MINIMUM_SUBSETS} subsets or {MINIMUM_SEEDS} seeds nothing is called validated")
    try:
        validate_run(
            context.root_for("records", "tokenized", EXPLAINED, "targets", "directions", "scores"),
            v.minutes,
            ValidationOptions(
                kinds=v.kinds,
                protocols=v.protocols,
                methods=v.methods,
                n_subsets=v.subsets,
                n_seeds=v.seeds,
                accuracy_problems=v.accuracy_problems,
                below_protocol=below,
                insist=v.kinds is not None,
                partial=not v.required,
                compile=v.compile,
            ),
            context.out,
        )
    except PlanTooLong as error:
        if v.required:
            raise
        say(f"not validated: {error}")
        write_json(context.out / "validation.json", {"refused": str(error), "validity": {}})


def validate_finished(folder: Path, settings: ValidationSettings) -> pd.DataFrame:
    """Validate a finished run and write its report and summary again. Returns the LDS table.

    Where the run's own stages are not those that its recipe asks for today (made by another version, or its files
    are gone) only RUN/validation is written, since going on would train it again. Raises ArtifactError for a folder
    that is no finished run, PlanTooLong for a plan that does not fit in the time.
    """
    from infra.pipeline import plan_table, run_recipe, run_subject, stages_of
    from infra.pipeline.checks import check_validation

    run = Run(folder)
    if not run.recipe_file.exists():
        raise ArtifactError(f"{folder} is no run folder: recipe.json is missing; make a run with infra run")
    recipe = parse_recipe(read_json(run.recipe_file), where=str(run.recipe_file), folder=folder)
    recipe = recipe.model_copy(update={"validation": settings})
    check_validation(run_subject(recipe, folder))
    stages = stages_of(recipe, folder)
    states = plan_table(stages, RunFolder(folder))
    stale = [name for name, state, _ in states if state != "done" and name not in (STAGE, *AFTER)]
    if not stale:
        run_recipe(recipe, folder)
    else:
        say(f"stage {stale[0]} would run again, so the report stays as it is; writing {run.validation} only")
        run.validation.mkdir(exist_ok=True)
        run_validation(Context(next(s for s in stages if s.name == STAGE), run.validation, folder))
    return measured_table(run.validation)


def measured_table(folder: Path) -> pd.DataFrame:
    """The LDS table of a finished stage ``folder``. Raises PlanTooLong when its plan was refused."""
    told = read_json(folder / "validation.json")
    if "refused" in told:
        raise PlanTooLong(told["refused"])
    return pd.read_parquet(folder / "lds.parquet")


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
        table = table[table.target.map(is_whole)].drop(columns="fold_changes", errors="ignore")
        out[f"validation_{name}"] = table.reset_index(drop=True)
    return out


def validation_note(folder: Path) -> dict[str, str]:
    """``validation``: what the report must say of the stage in words; nothing where its tables say it all."""
    told = read_json(folder / "validation.json")
    if "refused" in told:
        return {"validation": f"Validation was asked for and refused: {told['refused']}."}
    said = []
    if not told["validity"]:
        said.append("The retrains of this run are fewer than the protocol asks, so its influence is not validated.")
    if told["left_out"]:
        blocks = ", ".join(f"{kind} ({protocol})" for kind, protocol in told["left_out"])
        said.append(f"Validation left out for want of time: {blocks}.")
    if "metasmoothness" in told:
        values = ", ".join(f"{s:.2f}" for s in told["metasmoothness"])
        said.append(f"Metasmoothness of training: {values} (1 is smooth); unrolled scores are only as good as that.")
    return {"validation": " ".join(said)} if said else {}


VALIDATION = Step(
    STAGE,
    run_validation,
    reads=("records", "tokenized", EXPLAINED, "targets", "directions", "scores"),
    uses=(Uses(BASE, (WEIGHTS, TOKENIZER)),),
    settings=(
        *("validation", "curvature", "targets", "tasks", "eval.max_new_tokens"),
        *("data.max_length", "data.on_error", "model.dtype", PRECISION, "model.device"),
    ),
    when=lambda job: job.recipe.validation is not None and job.trains,
)
