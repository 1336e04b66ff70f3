"""Fitting curvature to training data: EK-FAC, K-FAC and the diagonal; the sums are in :mod:`.engine.covariances`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from infra.data.tokenized import TokenizedExample
from infra.errors import InputError
from infra.influence.agreement import Probes, rank_agreement, scale_difference, training_probes
from infra.influence.curvature import Curvature, Factor
from infra.influence.engine.batches import DEFAULT_MAX_TOKENS, Progress
from infra.influence.engine.covariances import Covariances, Fisher, Setting, add, covariances
from infra.influence.engine.eigenbases import Eigenvalues, corrected_eigenvalues, eigenbases
from infra.influence.engine.functional import record_stream
from infra.models.tracked import TrackedWeights

Form = Literal["per_sequence", "per_token", "auto"]
CHECKED_SEQUENCES = 64
SCALE_TOLERANCE = 0.05
AGREEMENT = 0.999


def fit_ekfac(
    model: Any,
    examples: Sequence[TokenizedExample],
    tracked: TrackedWeights,
    fisher: Fisher = "true",
    seed: int = 0,
    eigenvalues: Form = "per_sequence",
    include_prompt: bool = True,
    fraction: float = 1.0,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    packed: bool = False,
    progress: Progress | None = None,
    model_hash: str | None = None,
    block_size: int | None = None,
) -> Curvature:
    """EK-FAC factors of the summed response loss, mean over sequences.

    ``eigenvalues`` ``auto`` takes the cheaper ``per_token`` where, on 64 of the examples, every weight's mean
    eigenvalue stays within 5% of ``per_sequence`` and the scores' ranks agree to 0.999; the check is stored.
    ``include_prompt`` False leaves prompt positions out of the factors. ``fraction`` below 1 takes that share
    of the examples, chosen by hash of their ids. ``block_size``: a side of a weight wider than this has its
    eigenvectors in blocks along the diagonal (:mod:`infra.influence.engine.rotation`). Sums in float32 (float64 for a
    float64 model), eigenvectors in float64. ``model_hash`` is stored (computed when None). ``progress`` counts both
    visits.

    Raises :class:`InputError` for settings out of range or no examples, :class:`ModelError` naming a record
    whose gradient is NaN or infinite. A factor that cannot be decomposed falls back to the diagonal, with a
    warning that names the weight.
    """
    chosen = _checked(examples, fisher, eigenvalues, fraction, seed, block_size)
    setting = Setting(model, chosen, tracked, fisher, seed, include_prompt, max_tokens, packed, block_size)
    form, check = choose_eigenvalues(setting) if eigenvalues == "auto" else (eigenvalues, None)
    sums = covariances(setting, _part(progress, 0, 2, len(chosen)))
    fitted = _from_sums(setting, sums, form, _part(progress, 1, 2, len(chosen)), model_hash)
    return fitted.noting(available=len(examples), per_token_check=check)


def fit_until_agreement(
    model: Any,
    examples: Sequence[TokenizedExample],
    tracked: TrackedWeights,
    agreement: float = AGREEMENT,
    start: int = 64,
    probes: Probes | None = None,
    damping: float = 0.1,
    absolute: bool = False,
    fisher: Fisher = "true",
    seed: int = 0,
    eigenvalues: Form = "per_sequence",
    include_prompt: bool = True,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    packed: bool = False,
    progress: Progress | None = None,
    model_hash: str | None = None,
    block_size: int | None = None,
) -> Curvature:
    """EK-FAC on as many examples as it takes for the two halves of them to agree.

    Begins with ``start`` examples, taken by hash of their ids, and quadruples until the scores that come of either
    half's factors have a rank agreement of ``agreement`` (:func:`infra.influence.rank_agreement`, at the given damping)
    or all examples are in. The factors returned are of both halves together. Covariances are sums, so no example is
    visited twice for them; eigenvalues are measured once a round in the halves and once in the end. When the
    halves never agree this costs up to twice :func:`fit_ekfac` on everything.

    ``info.agreement`` holds (examples, agreement) of every round. ``probes`` defaults to training examples; give the
    real targets' gradients where they are known. Other arguments and errors as in :func:`fit_ekfac`;
    :class:`InputError` for fewer than four examples.
    """
    chosen = _checked(examples, fisher, eigenvalues, 1.0, seed, block_size)
    setting = Setting(model, chosen, tracked, fisher, seed, include_prompt, max_tokens, packed, block_size)
    told = _part(progress, 0, 2, len(chosen))
    found = agreeing_sample(setting, eigenvalues, agreement, start, probes, damping, absolute, told)
    both = replace(setting, examples=found.examples)
    told = _part(progress, 1, 2, len(found.examples))
    fitted = _from_sums(both, found.sums, found.eigenvalues, told, model_hash)
    return fitted.noting(available=len(examples), per_token_check=found.per_token_check, agreement=found.rounds)


@dataclass(frozen=True)
class Sample:
    """As many examples as it took. ``reached``: whether their halves agree; ``rounds``: (examples, agreement)."""

    examples: list[TokenizedExample]
    sums: Covariances
    eigenvalues: Eigenvalues
    rounds: tuple[tuple[int, float], ...]
    reached: bool
    per_token_check: tuple[float, float] | None


def agreeing_sample(
    setting: Setting,
    eigenvalues: Form = "per_sequence",
    agreement: float = AGREEMENT,
    start: int = 64,
    probes: Probes | None = None,
    damping: float = 0.1,
    absolute: bool = False,
    progress: Progress | None = None,
) -> Sample:
    """The rounds of :func:`fit_until_agreement`, over the examples of ``setting``."""
    order, tokens = by_hash(setting.examples, setting.seed), setting.max_tokens
    if probes is None:
        probes = training_probes(setting.model, setting.examples, setting.tracked, setting.seed, tokens)
    form, check = choose_eigenvalues(setting, probes) if eigenvalues == "auto" else (eigenvalues, None)
    sums: list[Covariances | None] = [None, None]
    rounds: list[tuple[int, float]] = []
    used, size = 0, min(max(4, start + start % 2), len(order))  # even, so that halves grow and never mix
    while True:
        fits = []
        for side in (0, 1):
            new, half = (replace(setting, examples=part[side::2]) for part in (order[used:size], order[:size]))
            sums[side] = total = add(sums[side], covariances(new))
            fits.append(_from_sums(half, total, form, None, ""))
        rounds.append((size, rank_agreement(setting.model, probes, fits[0], fits[1], damping, absolute, tokens)))
        if progress is not None:
            progress(size, len(order))
        if rounds[-1][1] >= agreement or size == len(order):
            break
        used, size = size, min(4 * size, len(order))
    both = add(sums[0], total)
    return Sample(order[:size], both, form, tuple(rounds), rounds[-1][1] >= agreement, check)


def choose_eigenvalues(
    setting: Setting, probes: Probes | None = None
) -> tuple[Eigenvalues, tuple[float, float] | None]:
    """``per_token`` where it passes the check on 64 sequences, else ``per_sequence``, and what the check found.

    The check is (largest relative difference of a weight's mean eigenvalue, rank agreement of the scores).
    """
    some = by_hash(setting.examples, setting.seed)[:CHECKED_SEQUENCES]
    few = replace(setting, examples=some)
    if probes is None:
        probes = training_probes(setting.model, setting.examples, setting.tracked, setting.seed, setting.max_tokens)
    sums = covariances(few)
    sequence, token = (_from_sums(few, sums, form, None, "") for form in ("per_sequence", "per_token"))
    check = (
        scale_difference(sequence, token),
        rank_agreement(setting.model, probes, sequence, token, max_tokens=setting.max_tokens),
    )
    holds = check[0] <= SCALE_TOLERANCE and check[1] >= AGREEMENT
    return ("per_token" if holds else "per_sequence"), check


def _from_sums(
    setting: Setting, sums: Covariances, form: Eigenvalues, progress: Progress | None, model_hash: str | None
) -> Curvature:
    """The second visit: eigenvalues in the eigenvectors of ``sums``."""
    bases, warned = eigenbases(sums, setting.tracked)
    corrected = corrected_eigenvalues(setting, bases, form, progress)
    n = len(setting.examples)
    factors = {key: Factor(corrected[key] / n, basis.outputs, basis.inputs) for key, basis in bases.items()}
    return Curvature(factors, setting.tracked.blocks, setting.info("ekfac", form, sums, model_hash, warned))


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
    block_size: int | None = None,
) -> Curvature:
    """K-FAC: as :func:`fit_ekfac`, with the eigenvalues of ``positions / N`` times ``S`` tensor ``A``; one
    visit.
    """
    chosen = _checked(examples, fisher, "per_token", fraction, seed, block_size)
    setting = Setting(model, chosen, tracked, fisher, seed, include_prompt, max_tokens, packed, block_size)
    sums = covariances(setting, progress)
    bases, warned = eigenbases(sums, tracked)
    factors = {}
    for block in tracked.blocks:
        basis, leader = bases[block.key], sums.leader[block.key]
        scale = 1.0 / (len(chosen) * max(1, sums.positions[leader]))
        products = torch.outer(basis.output_values, basis.input_values) * scale
        factors[block.key] = Factor(products.to(basis.outputs.dtype), basis.outputs, basis.inputs)
    fitted = Curvature(factors, tracked.blocks, setting.info("kfac", "per_token", sums, model_hash, warned))
    return fitted.noting(available=len(examples))


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
    fitted = Curvature(factors, tracked.blocks, setting.info("diagonal", eigenvalues, None, model_hash, []))
    return fitted.noting(available=len(examples))


def _checked(
    examples: Sequence[TokenizedExample],
    fisher: str,
    eigenvalues: str,
    fraction: float,
    seed: int,
    block_size: int | None = None,
) -> list[TokenizedExample]:
    """The examples to fit on, after looking at the settings."""
    if fisher not in ("true", "empirical"):
        raise InputError(f"fisher is {fisher!r}; choose 'true' or 'empirical'")
    if eigenvalues not in ("per_sequence", "per_token", "auto"):
        raise InputError(f"eigenvalues is {eigenvalues!r}; choose 'per_sequence', 'per_token' or 'auto'")
    if not 0.0 < fraction <= 1.0:
        raise InputError(f"fraction is {fraction}; it must lie above 0 and not above 1")
    if block_size is not None and block_size < 1:
        raise InputError(f"block_size is {block_size}; it must be at least 1")
    if not examples:
        raise InputError("there are no examples to fit the curvature on")
    return subsample(examples, fraction, seed)


def subsample_draw(seed: int, example: TokenizedExample) -> float:
    """A number in [0, 1) that depends on the seed and the record's id alone: the smallest are taken first."""
    return float(record_stream(seed, f"subsample:{example.id}").random())


def by_hash(examples: Sequence[TokenizedExample], seed: int = 0) -> list[TokenizedExample]:
    """All examples in an order that depends on the seed and their ids alone."""
    draws = [subsample_draw(seed, e) for e in examples]
    return [examples[i] for i in sorted(range(len(examples)), key=lambda i: (draws[i], i))]


def subsample(examples: Sequence[TokenizedExample], fraction: float, seed: int = 0) -> list[TokenizedExample]:
    """That share of the examples (at least one), the first by hash of seed and id, in their own order."""
    count = max(1, round(fraction * len(examples)))
    if count >= len(examples):
        return list(examples)
    kept = {id(e) for e in by_hash(examples, seed)[:count]}
    return [e for e in examples if id(e) in kept]


def _part(progress: Progress | None, part: int, parts: int, n: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, _: progress(part * n + done, parts * n)
