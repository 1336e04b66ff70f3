"""The plan against a finished run: what was planned for each stage, what it took."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from infra.errors import ArtifactError
from infra.layout import EXPLAINED, Run
from infra.models import model_place
from infra.models.shape import Shape, shape_of
from infra.pipeline.plan.amounts import Amounts, amounts_of
from infra.pipeline.plan.calibrate import calibrate
from infra.pipeline.plan.costs import Costs
from infra.pipeline.plan.devices import Device
from infra.pipeline.plan.plan import as_it_stands
from infra.pipeline.recipe import Recipe, parse_recipe
from infra.store import RunFolder, read_json


@dataclass(frozen=True, slots=True)
class Checked:
    """Seconds of one stage, planned now and measured; memory in bytes. ``expected``: what the run said beforehand."""

    stage: str
    planned: float
    measured: float
    planned_memory: float
    measured_memory: float
    expected: float | None = None
    expected_memory: float | None = None

    @property
    def error(self) -> float:
        """(planned - measured) / measured."""
        return self.planned / self.measured - 1.0


def check(folder: Path, device: Device | None = None) -> tuple[Device, list[Checked]]:
    """Plan the run in ``folder`` from its recipe and model configuration, on ``device`` or this machine calibrated now.

    Stages' processor time is compared where the run noted it (one thread's time does not depend on who else uses the
    machine), else time on the clock. Raises :class:`ArtifactError` for a folder without recipe.json or runtimes.
    """
    run = Run(folder)
    recipe = parse_recipe(read_json(run.recipe_file), where=str(run.recipe_file), folder=folder)
    times = RunFolder(folder).runtimes()
    if not times:
        raise ArtifactError(f"{folder / 'runtime.jsonl'} holds no runtimes; give the folder of a finished run")
    shape, amounts = shape_of_recipe(recipe), amounts_of(recipe)
    amounts = counted(run, amounts) if run.counts.exists() else amounts
    costs = Costs(recipe, shape, amounts, trains=EXPLAINED in times and recipe.warmup is None)
    threads = int(next((t["environment"]["threads"] for t in times.values() if "environment" in t), 1))
    if device is None:
        import torch

        torch.set_num_threads(threads)
        device = calibrate(costs)
    rows = []
    for stage in as_it_stands(costs, device).stages:
        time = times.get(stage.stage)
        if time is not None:
            spent = time["cpu_seconds"] if threads == 1 and "cpu_seconds" in time else time["seconds"]
            before = (time.get("expected_seconds"), time.get("expected_memory_bytes"))
            peak = time["peak_memory_bytes"]
            rows.append(Checked(stage.stage, stage.seconds, max(spent, 1e-3), stage.memory, peak, *before))
    return device, rows


def shape_of_recipe(recipe: Recipe, model: str | None = None) -> Shape:
    """The shape of a recipe's base model: the one named, the embedded one, the one it trains, or its own."""
    if model is not None:
        return shape_of(model)
    p = recipe.model.pretrain
    if p is not None:
        return Shape(
            "trained in the run", p.layers, p.hidden_size, p.intermediate_size, p.heads, p.kv_heads, p.vocab_size, True
        )
    return shape_of(model_place(recipe.model.base))


def counted(run: Run, amounts: Amounts) -> Amounts:
    """What the run turned out to have: examples, and the queries and folds that its answers gave. A check is of the
    formulas and the machine's speed, and not of a guess at the data."""
    import pandas as pd

    def table(path: Path) -> pd.DataFrame | None:
        return pd.read_parquet(path) if path.exists() else None

    try:
        known = read_json(run.counts)
        counts = {use: int(c["n"]) for use, c in known.items() if use != "judge"}
        queries, folds, answers = (
            table(run.query_folds),
            table(run.folds),
            table(run.answers("responses")),
        )
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ArtifactError(f"{run.root} holds no artifacts that can be read ({error}); give a finished run") from error
    return replace(
        amounts,
        train=counts.get("train", amounts.train),
        pool=counts.get("pool", amounts.pool),
        pretrain=counts.get("pretrain", amounts.pretrain),
        given_queries=amounts.given_queries if queries is None else len(queries),
        folds=amounts.folds if folds is None else len(folds),
        answer=amounts.answer if answers is None else float(answers.n_tokens.mean()),
    )
