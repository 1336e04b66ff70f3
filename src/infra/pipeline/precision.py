"""The precision of matrix products, where the recipe says ``auto``: the fastest that gives the same ranks.

Rounded products (bfloat16 on a CPU with AMX or AVX512-BF16, TF32 on a GPU) are up to nine times as fast and keep three
digits of each factor. Whether that is enough is measured on this model and this machine, before the first stage: the
scores of some training examples in both precisions. Solving with the curvature stays in float32 whatever is chosen.

The choice is kept in the run's folder (``precision.json``), so that a run goes on as it began, and becomes a setting
like any other: in ``recipe.json``, and in the keys of the stages.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.layout import Run
from infra.pipeline.recipe import Recipe
from infra.progress import say
from infra.store import read_json, write_json

if TYPE_CHECKING:
    from infra.pipeline.checks import Subject

RECORDS = 12
"""Records of the check: the gradient of the first four is the target, the others are scored."""
TARGET = 4
RANKS, TOKENS = 0.999, 0.99
"""Least rank agreement of example scores and least correlation of token scores with float32."""
GAIN = 1.2
"""Least factor by which products must be faster to be worth their rounding."""
SMALL = 20_000_000
"""Models with fewer parameters spend their time elsewhere."""


@dataclass(frozen=True)
class Choice:
    """``precision``: of the products. ``why``: one sentence. The rest is what was measured, None where nothing was.

    ``gain``: how many times as fast products are. ``ranks``: Spearman correlation of example scores with those of
    float32; ``tokens``: correlation of token scores; ``error``: norm of the difference of example scores over theirs.
    """

    precision: str
    why: str
    gain: float | None = None
    ranks: float | None = None
    tokens: float | None = None
    error: float | None = None


def with_recorded(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with the precision that was chosen for this run folder, where it says ``auto``."""
    path = Run(folder).precision
    if recipe.model.precision != "auto" or not path.exists():
        return recipe
    return _with(recipe, str(read_json(path)["precision"]))


def settle(subject: Subject, recipe: Recipe) -> Recipe:
    """The recipe with the precision settled. What is chosen now is said, and written into the run's folder."""
    path = Run(subject.folder).precision
    if recipe.model.precision != "auto" or path.exists():
        return with_recorded(recipe, subject.folder)
    choice = choose(subject, recipe)
    write_json(path, asdict(choice))
    if choice.gain is not None:
        say(f"matrix products in {choice.precision} precision: {choice.why}")
    return _with(recipe, choice.precision)


def choose(subject: Subject, recipe: Recipe) -> Choice:
    """The fastest precision whose scores agree with float32 on this model, machine and data."""
    from infra.models.precision import product_gain
    from infra.models.tracked import tracked_weights
    from infra.parallel.process_group import this_rank

    if recipe.model.dtype != "float32":
        return Choice("float32", f"the model's weights are {recipe.model.dtype}, and so are its products")
    if subject.model is None or subject.skeleton is None or subject.skeleton.num_parameters() < SMALL:
        return Choice("float32", "a small model spends little time in its products")
    device = str(this_rank().device(recipe.model.device))
    gain = product_gain(device)
    if gain < GAIN:
        return Choice("float32", f"rounded products are only {gain:.2f} times as fast on this processor", gain)
    records = sorted(subject.sets["train"], key=lambda r: len(r.question) + len(r.response or ""))[: 4 * RECORDS]
    examples = [e for e in subject.tokens(records) if e.n_response_tokens][:RECORDS]
    if len(examples) < RECORDS:
        return Choice("float32", f"fewer than {RECORDS} records are there to check rounded products with", gain)
    from infra.models import load_model

    model, _ = load_model(subject.model, device=device)
    found = compared(model, examples, tracked_weights(model, recipe.curvature.tracked), device)
    holds = found["ranks"] >= RANKS and found["tokens"] >= TOKENS
    why = (
        f"rounded products are {gain:.1f} times as fast here; on {len(examples) - TARGET} records example scores have "
        f"a rank agreement of {found['ranks']:.4f} with float32, token scores a correlation of {found['tokens']:.4f}"
    )
    return Choice("fast" if holds else "float32", why if holds else f"{why}, which is too little", gain, **found)


def compared(model: Any, examples: Any, tracked: Any, device: str) -> dict[str, float]:
    """``ranks``, ``tokens`` and ``error`` of scores under rounded products against those under float32's."""
    import numpy as np
    from scipy.stats import spearmanr

    from infra.influence import MeanLogLikelihood, gradient, token_influence
    from infra.models.precision import products_in

    def scored(precision: str) -> list[Any]:
        with products_in(precision, device):
            target = gradient(model, MeanLogLikelihood("check", examples[:TARGET]), tracked)
            chunks = token_influence(model, examples[TARGET:], [target])
            found = {i: scores[0] for chunk in chunks for i, scores in zip(chunk.indices, chunk.scores)}
            return [found[i] for i in range(len(examples) - TARGET)]

    plain, fast = scored("float32"), scored("fast")
    sums = [np.array([row.sum(dtype=np.float64) for row in rows]) for rows in (plain, fast)]
    tokens = np.corrcoef(np.concatenate(plain), np.concatenate(fast))[0, 1]
    error = float(np.linalg.norm(sums[1] - sums[0]) / np.linalg.norm(sums[0]))
    return {"ranks": float(spearmanr(*sums).statistic), "tokens": float(tokens), "error": error}


def _with(recipe: Recipe, precision: str) -> Recipe:
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"precision": precision})})
