"""Step `convergence`: is the explained model near the end of training on this data, so that influence describes it?"""

from __future__ import annotations

from infra.influence.convergence import Convergence, convergence
from infra.influence.steps.settings import engine_of, forget_model
from infra.layout import EXPLAINED
from infra.parallel.launch import Runtime
from infra.parallel.shards import open_shards
from infra.pipeline.spread import PASSES, TRACKED, model_of, recomputing
from infra.pipeline.stage import Context
from infra.pipeline.step import Step, Uses
from infra.pipeline.tokenized import sampled
from infra.progress import say
from infra.store import write_json

SAMPLE = 48
"""Training examples that are looked at."""


@recomputing
def run_convergence(context: Context) -> None:
    """Measure it on a sample of the training data, say it in one line, and write convergence.json."""
    recipe = context.recipe
    sample = sampled(open_shards(context.tokenized("train")).stream(), SAMPLE, recipe.seed)
    if len(sample) < 2:
        write_json(context.convergence, {"examples": len(sample), "holds": None})
        return
    found = convergence(engine_of(model_of(context), context.out, Runtime()), sample)
    forget_model()
    say(f"{context.label}: {line(found)}")
    write_json(context.convergence, found.as_dict())


def line(found: Convergence) -> str:
    """The finding in one line of a terminal."""
    template = "" if found.template_loss is None else f", template {found.template_loss:.2f}"
    measured = (
        f"loss per token: content {found.content_loss:.2f}{template}; alignment of the gradients of "
        f"{found.examples} training examples: {found.alignment:.3f}"
    )
    if found.holds:
        return f"{measured}: the model is near the end of training on this data"
    return (
        f"{measured}: the model has much in common left to learn from this data, so the scores will say what a first "
        "step on it would teach; fine-tune first, or `infra score --warmup`"
    )


CONVERGENCE = Step(
    "convergence",
    run_convergence,
    reads=("tokenized",),
    uses=(Uses(EXPLAINED),),
    settings=("seed", TRACKED, *PASSES),
    unhashed=("scale.recompute",),
    when=lambda job: not job.recipe.scale.fsdp,  # one process holds the model here
)
