"""Fitting curvature to training data: EK-FAC, K-FAC and the diagonal. What is computed is in :mod:`.factors`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from infra.errors import InputError
from infra.influence.batches import DEFAULT_MAX_TOKENS, Progress
from infra.influence.curvature import Curvature, Factor
from infra.influence.factors import Eigenvalues, Fisher, Setting, corrected_eigenvalues, covariances, eigenbases
from infra.influence.functional import record_stream
from infra.models.tracked import TrackedWeights
from infra.records.tokenized import TokenizedExample


def fit_ekfac(
    model: Any,
    examples: Sequence[TokenizedExample],
    tracked: TrackedWeights,
    fisher: Fisher = "true",
    seed: int = 0,
    eigenvalues: Eigenvalues = "per_sequence",
    include_prompt: bool = True,
    fraction: float = 1.0,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    packed: bool = False,
    progress: Progress | None = None,
    model_hash: str | None = None,
) -> Curvature:
    """EK-FAC factors of the summed response loss, mean over sequences.

    ``include_prompt`` False leaves prompt positions out of the factors. ``fraction`` below 1 takes that share
    of the examples, chosen by hash of their ids. Sums in float32 (float64 for a float64 model), eigenvectors
    in float64. ``model_hash`` is stored (computed when None). ``progress`` counts both visits.

    Raises :class:`InputError` for settings out of range or no examples, :class:`ModelError` naming a record
    whose gradient is NaN or infinite. A factor that cannot be decomposed falls back to the diagonal, with a
    warning that names the weight.
    """
    chosen = _checked(examples, fisher, eigenvalues, fraction, seed)
    setting = Setting(model, chosen, tracked, fisher, seed, include_prompt, max_tokens, packed)
    sums = covariances(setting, _part(progress, 0, 2, len(chosen)))
    bases, warned = eigenbases(sums, tracked)
    corrected = corrected_eigenvalues(setting, bases, eigenvalues, _part(progress, 1, 2, len(chosen)))
    factors = {key: Factor(corrected[key] / len(chosen), basis.outputs, basis.inputs) for key, basis in bases.items()}
    return Curvature(factors, tracked.blocks, setting.info("ekfac", eigenvalues, sums, model_hash, warned))


def fit_kfac(
    model: Any,
    examples: Sequence[TokenizedExample],
    tracked: TrackedWeights,
    fisher: Fisher = "true",
    seed: int = 0,
    include_prompt: bool = True,
    fraction: float = 1.0,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    packed: bool = False,
    progress: Progress | None = None,
    model_hash: str | None = None,
) -> Curvature:
    """K-FAC: as :func:`fit_ekfac`, with the eigenvalues of ``positions / N`` times ``S`` tensor ``A``; one
    visit.
    """
    chosen = _checked(examples, fisher, "per_token", fraction, seed)
    setting = Setting(model, chosen, tracked, fisher, seed, include_prompt, max_tokens, packed)
    sums = covariances(setting, progress)
    bases, warned = eigenbases(sums, tracked)
    factors = {}
    for block in tracked.blocks:
        basis, leader = bases[block.key], sums.leader[block.key]
        scale = 1.0 / (len(chosen) * max(1, sums.positions[leader]))
        products = torch.outer(basis.output_values, basis.input_values) * scale
        factors[block.key] = Factor(products.to(basis.outputs.dtype), basis.outputs, basis.inputs)
    return Curvature(factors, tracked.blocks, setting.info("kfac", "per_token", sums, model_hash, warned))


def fit_diagonal(
    model: Any,
    examples: Sequence[TokenizedExample],
    tracked: TrackedWeights,
    fisher: Fisher = "true",
    seed: int = 0,
    eigenvalues: Eigenvalues = "per_sequence",
    include_prompt: bool = True,
    fraction: float = 1.0,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    packed: bool = False,
    progress: Progress | None = None,
    model_hash: str | None = None,
) -> Curvature:
    """The diagonal of the Fisher matrix: mean squared gradients, entry by entry; one visit."""
    chosen = _checked(examples, fisher, eigenvalues, fraction, seed)
    setting = Setting(model, chosen, tracked, fisher, seed, include_prompt, max_tokens, packed)
    values = corrected_eigenvalues(setting, {}, eigenvalues, progress)
    factors = {key: Factor(v / len(chosen)) for key, v in values.items()}
    return Curvature(factors, tracked.blocks, setting.info("diagonal", eigenvalues, None, model_hash, []))


def _checked(
    examples: Sequence[TokenizedExample], fisher: str, eigenvalues: str, fraction: float, seed: int
) -> list[TokenizedExample]:
    """The examples to fit on, after looking at the settings."""
    if fisher not in ("true", "empirical"):
        raise InputError(f"fisher is {fisher!r}; choose 'true' or 'empirical'")
    if eigenvalues not in ("per_sequence", "per_token"):
        raise InputError(f"eigenvalues is {eigenvalues!r}; choose 'per_sequence' or 'per_token'")
    if not 0.0 < fraction <= 1.0:
        raise InputError(f"fraction is {fraction}; it must lie above 0 and not above 1")
    if not examples:
        raise InputError("there are no examples to fit the curvature on")
    return subsample(examples, fraction, seed)


def subsample(examples: Sequence[TokenizedExample], fraction: float, seed: int = 0) -> list[TokenizedExample]:
    """That share of the examples (at least one), by hash of seed and id, in their order."""
    count = max(1, round(fraction * len(examples)))
    if count >= len(examples):
        return list(examples)
    draws = [record_stream(seed, f"subsample:{e.id}").random() for e in examples]
    kept = sorted(sorted(range(len(examples)), key=lambda i: (draws[i], i))[:count])
    return [examples[i] for i in kept]


def _part(progress: Progress | None, part: int, parts: int, n: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, _: progress(part * n + done, parts * n)
