"""Steps that ask models: `evals/*`, held-out accuracy, and `responses`, what targets are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from infra.errors import InputError
from infra.evals import evaluate
from infra.layout import BASE, EXPLAINED
from infra.models import load_model, model_hash
from infra.models.generation import InProcess, OpenAIServer, Sampling
from infra.parallel.generation import DistributedGenerator, generate_for_rank_0
from infra.parallel.process_group import this_rank
from infra.pipeline.data import load_records
from infra.pipeline.recipe import Recipe
from infra.pipeline.stage import Context
from infra.pipeline.step import Job, Step, Uses
from infra.pipeline.train import EVERY_PART, ORIGINAL, RUNS_MODEL, models_of
from infra.progress import progress


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One model whose held-out answers are asked for: ``base``, or ``sft/...``, by the step that trains it."""

    model: str
    arm: bool = False

    @property
    def step(self) -> str:
        """The name of the step that asks."""
        return f"evals/{self.model.removeprefix('sft/')}"


def evaluated_models(recipe: Recipe) -> list[Evaluated]:
    """Every model of the run whose accuracy is measured."""
    return [Evaluated(BASE), *(Evaluated(m.step, m.arm != ORIGINAL) for m in models_of(recipe))]


def answer(context: Context, model: str, split: str, sampling: Sampling, tasks: Sequence[str]) -> pd.DataFrame | None:
    """Generate and verify responses to every task's problems of one split: one row per (task, problem, sample).

    Under torchrun every process generates its share; the rows are rank 0's, and None elsewhere.
    """
    recipe, path = context.recipe, context.use(model)
    problems = {
        name: [r for r in load_records(context.problems(name)) if r.attributes["split"] == split] for name in tasks
    }
    generator: InProcess | OpenAIServer | DistributedGenerator
    if recipe.eval.server is not None and model == BASE:
        generator = OpenAIServer(recipe.eval.server, path)
        if not this_rank().first:
            return None
    else:
        loaded, tokenizer = load_model(path, dtype=recipe.model.dtype, device=this_rank().device(recipe.model.device))
        generator = InProcess(loaded, tokenizer, recipe.eval.max_batch_tokens)
        if not this_rank().first:
            generate_for_rank_0(generator)
            return None
        if this_rank().size > 1:
            generator = DistributedGenerator(generator)
    cache = context.out / "generations.jsonl"
    frames = []
    own = {t.label: t.samples for t in recipe.tasks} if split == "held-out" else {}
    count = {name: own.get(name) or sampling.n for name in problems}
    total = sum(len(p) * count[name] for name, p in problems.items())
    with progress(total, context.label, "response") as bar:
        for name, records in problems.items():
            if not records:
                continue
            rows = evaluate(
                records,
                generator,
                replace(sampling, n=count[name]),
                recipe.eval.seed,
                cache_file=cache,
                model_hash=model_hash(path),
                unsafe_execution=recipe.eval.unsafe_execution,
                progress=bar.advance,
            )
            frames.append(
                pd.DataFrame(
                    [
                        {
                            "task": name,
                            "problem_id": r.problem_id,
                            "index": r.index,
                            "outcome": r.outcome,
                            "correct": bool(r.correct),
                            "text": r.text,
                            "n_tokens": r.n_tokens,
                            "difficulty": r.difficulty,
                            "split": r.split,
                        }
                        for r in rows
                    ]
                )
            )
    if isinstance(generator, DistributedGenerator):
        generator.close()
    cache.unlink(missing_ok=True)  # rows hold every text; the cache's order depends on interruptions
    if not frames:
        raise InputError(f"no problems of split '{split}' in tasks {', '.join(tasks)}; raise tasks.limit")
    return pd.concat(frames, ignore_index=True).sort_values(["task", "problem_id", "index"], ignore_index=True)


def run_evals(context: Context) -> None:
    """Held-out accuracy of one model on every task (an arm's model: on those the arms are judged by)."""
    e, of = context.recipe.eval, context.member
    sampling = Sampling(temperature=e.temperature, top_p=e.top_p, max_new_tokens=e.max_new_tokens, n=e.samples)
    tasks = [t.label for t in context.recipe.tasks if t.arms or not of.arm]
    rows = answer(context, of.model, "held-out", sampling, tasks)
    if rows is not None:
        rows.to_parquet(context.answers(of.step), index=False)


def run_responses(context: Context) -> None:
    """Responses of the fine-tuned model to target problems, verified. Writes rows.parquet."""
    recipe = context.recipe
    t = recipe.targets
    sampling = Sampling(temperature=t.temperature, top_p=1.0, max_new_tokens=recipe.eval.max_new_tokens, n=t.samples)
    tasks = [task.label for task in recipe.tasks if task.target]
    rows = answer(context, EXPLAINED, "target", sampling, tasks)
    if rows is not None:
        rows.to_parquet(context.answers("responses"), index=False)


def _asked(_: Job, of: Evaluated) -> list[Uses]:
    return [Uses(of.model, EVERY_PART)]


def _questions(job: Job, of: Evaluated) -> Mapping[str, Any]:
    return {"model": asdict(of), "tasks": {t.label: t.samples for t in job.recipe.tasks if t.arms or not of.arm}}


EVALS = Step(
    "evals",
    run_evals,
    reads=("records",),
    uses=_asked,
    settings=("eval", *RUNS_MODEL),
    unhashed=("tasks",),
    also=_questions,
    when=lambda job: job.trains,
    each=lambda job: evaluated_models(job.recipe),
    parallel=True,
)
RESPONSES = Step(
    "responses",
    run_responses,
    reads=("records",),
    uses=(Uses(EXPLAINED, EVERY_PART),),
    settings=("targets.samples", "targets.temperature", "eval", *RUNS_MODEL),
    unhashed=("tasks",),
    also=lambda job, _: {"tasks": [t.label for t in job.recipe.tasks if t.target]},
    when=lambda job: job.trains and not job.recipe.data.queries,
    parallel=True,
)
