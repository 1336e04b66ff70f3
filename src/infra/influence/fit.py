"""Fitting curvature to training data: EK-FAC, K-FAC and the diagonal, one sequence of steps wherever they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypedDict, Unpack

from infra.data.tokenized import TokenizedExample
from infra.errors import InputError
from infra.influence.agreement import Probes, rank_agreement, scale_difference, training_probes
from infra.influence.curvature import Curvature, Factor, FitInfo
from infra.influence.damping import Damping
from infra.influence.engine.batches import DEFAULT_MAX_TOKENS, Progress
from infra.influence.engine.engine import Engine, Fisher, FitSettings
from infra.influence.engine.functional import record_stream
from infra.influence.steps.factors import bundled, sharing_inputs
from infra.influence.steps.memory import InMemory
from infra.influence.steps.step import Results
from infra.models.hashing import model_hash as hash_of
from infra.models.tracked import TrackedWeights

Form = Literal["per_sequence", "per_token", "auto"]
CHECKED_SEQUENCES = 64
SCALE_TOLERANCE = 0.05
AGREEMENT = 0.999


class Place(Protocol):
    """Where the steps of a fit run: an :class:`infra.influence.steps.InMemory` or ``OnDisk``."""

    @property
    def engine(self) -> Engine: ...
    @property
    def n(self) -> int: ...
    def over_data(self, name: str, **arguments: Any) -> Any: ...
    def over_keys(self, name: str, groups: Callable[[], Sequence[Sequence[str]]], **arguments: Any) -> Any: ...
    def factors(self, eigenvalues: Any, bases: Any) -> dict[str, Factor]: ...


@dataclass(frozen=True)
class Fit:
    """The results of a fit's steps. Reading them is for rank 0; they are the same ones on every process."""

    place: Place
    settings: FitSettings
    bases: Any
    eigenvalues: Any

    def curvature(self, model_hash: str | None = None) -> Curvature:
        """The factors with the record of their fit. ``model_hash`` is computed when None."""
        engine, fit = self.place.engine, self.settings
        facts = [result.facts for result in self.bases]
        info = FitInfo(
            kind=fit.kind,
            fisher=fit.fisher,
            eigenvalues="per_token" if fit.kind == "kfac" else fit.eigenvalues,
            include_prompt=fit.include_prompt,
            seed=fit.seed,
            n_examples=self.place.n,
            positions=max((count for f in facts for count in f["positions"].values()), default=0),
            model_hash=hash_of(engine.model) if model_hash is None else model_hash,
            coverage=engine.tracked.coverage,
            warnings=tuple(warning for f in facts for warning in f["warnings"]),
            block_size=fit.block_size,
        )
        return Curvature(self.place.factors(self.eigenvalues, self.bases), engine.tracked.blocks, info)


def fit_curvature(place: Place, settings: FitSettings, covariances: Results | None = None) -> Fit:
    """The steps of a fit on the data of a place.

    1. Covariances of layer inputs and output gradients: one pass over the data (not for ``diagonal``).
    2. Their eigenvectors.
    3. Corrected eigenvalues: a second pass (not for ``kfac``).
    4. The factors of each block.

    A factor that cannot be decomposed falls back to the diagonal, with a warning that names the weight.

    Args:
        place: where the steps run, in memory or in tasks on disk.
        settings: which curvature is fitted, and how.
        covariances: where they are known already.

    Raises:
        InputError: there are no examples.
        ModelError: a gradient is NaN or infinite, by record.
    """
    if not place.n:
        raise InputError("there are no examples to fit the curvature on")
    bases: Any = [] if settings.kind == "diagonal" else _bases(place, settings, covariances)
    values: Any = []
    if settings.kind != "kfac":
        values = place.over_data("eigenvalues", fit=settings, bases=bases)
    weights = [[b.key for b in weight.blocks] for weight in place.engine.tracked.weights]
    found = place.over_keys("factors", lambda: weights, eigenvalues=values, bases=bases, n=place.n)
    return Fit(place, settings, bases, found)


def _bases(place: Place, settings: FitSettings, covariances: Results | None) -> Any:
    """The first two steps. The covariances are gone from memory when it returns."""
    sums: Any = place.over_data("covariances", fit=settings) if covariances is None else covariances
    tracked = place.engine.tracked

    def groups() -> list[list[str]]:
        return bundled(sharing_inputs(tracked, sums[0].facts["leader"]), tracked)

    return place.over_keys("bases", groups, fit=settings, covariances=sums)


class FitOptions(TypedDict, total=False):
    """Options of :func:`fit_ekfac`, :func:`fit_kfac` and :func:`fit_diagonal`, all of them optional.

    - ``fisher``, ``seed``, ``include_prompt``, ``block_size``: as in :class:`FitSettings`.
    - ``eigenvalues``: as there, or ``auto``, which takes the cheaper ``per_token`` where, on 64 of the examples, every
      weight's mean eigenvalue stays within 5% of ``per_sequence`` and the scores' ranks agree to 0.999; the check is
      stored.
    - ``fraction``: below 1 takes that share of the examples, chosen by hash of their ids.
    - ``max_tokens``, ``packed``: as in :class:`Engine`.
    - ``progress``: told (examples done, examples in all), over all visits.
    - ``model_hash``: stored with the factors; computed when None.
    """

    fisher: Fisher
    seed: int
    eigenvalues: Form
    include_prompt: bool
    fraction: float
    max_tokens: int
    packed: bool
    progress: Progress | None
    model_hash: str | None
    block_size: int | None


def fit_ekfac(
    model: Any, examples: Sequence[TokenizedExample], tracked: TrackedWeights, **options: Unpack[FitOptions]
) -> Curvature:
    """EK-FAC factors of the summed response loss, mean over sequences (George et al. 2018).

    Sums and eigenvectors are float32 (float64 for a float64 model).

    Args:
        model: in memory.
        examples: the training data.
        tracked: weights that count.
        options: any of :class:`FitOptions`.

    Returns:
        The curvature. ``curvature.inverse(Damping(0.1)) @ gradient`` is a direction.

    Raises:
        InputError: a setting is out of range, or there are no examples.
        ModelError: a gradient is NaN or infinite, by record.
    """
    return _fitted("ekfac", model, examples, tracked, options)


def fit_kfac(
    model: Any, examples: Sequence[TokenizedExample], tracked: TrackedWeights, **options: Unpack[FitOptions]
) -> Curvature:
    """K-FAC factors (Martens and Grosse 2015), in one pass over the data.

    Args:
        model: in memory.
        examples: the training data.
        tracked: weights that count.
        options: as in :func:`fit_ekfac`.

    Returns:
        As :func:`fit_ekfac`, with the eigenvalues of ``positions / N`` times ``S`` tensor ``A``.
    """
    return _fitted("kfac", model, examples, tracked, options)


def fit_diagonal(
    model: Any, examples: Sequence[TokenizedExample], tracked: TrackedWeights, **options: Unpack[FitOptions]
) -> Curvature:
    """The diagonal of the Fisher matrix: mean squared gradients, entry by entry, in one pass over the data.

    Args:
        model: in memory.
        examples: the training data.
        tracked: weights that count.
        options: as in :func:`fit_ekfac`.
    """
    return _fitted("diagonal", model, examples, tracked, options)


def _fitted(
    kind: str, model: Any, examples: Sequence[TokenizedExample], tracked: TrackedWeights, options: FitOptions
) -> Curvature:
    form = options.get("eigenvalues", "per_sequence")
    settings = FitSettings(
        kind,
        options.get("fisher", "true"),
        options.get("seed", 0),
        "per_sequence" if form == "auto" else form,
        options.get("include_prompt", True),
        options.get("block_size"),
    )
    fraction = options.get("fraction", 1.0)
    if not 0.0 < fraction <= 1.0:
        raise InputError(f"fraction is {fraction}; it must lie above 0 and not above 1")
    engine = Engine(model, tracked, options.get("max_tokens", DEFAULT_MAX_TOKENS), options.get("packed", False))
    chosen = subsample(examples, fraction, settings.seed) if examples else []
    check = None
    if form == "auto":
        settings, check = choose_eigenvalues(engine, chosen, settings)
    place = InMemory(engine, chosen, options.get("progress"), 2 if kind == "ekfac" else 1)
    fitted = fit_curvature(place, settings).curvature(options.get("model_hash"))
    return fitted.noting(available=len(examples), per_token_check=check)


@dataclass(frozen=True)
class Sample:
    """As many examples as it took. ``reached``: whether their halves agree; ``rounds``: (examples, agreement)."""

    examples: list[TokenizedExample]
    covariances: Results
    settings: FitSettings
    rounds: tuple[tuple[int, float], ...]
    reached: bool
    per_token_check: tuple[float, float] | None


@dataclass(frozen=True)
class Agreement:
    """When the halves of a sample agree.

    Attributes:
        reached: the rank agreement of the halves' scores that is enough, at most 1.
        start: examples to begin with.
        probes: what is scored; None takes training examples (:func:`training_probes`).
        damping: of the curvatures that are compared.
    """

    reached: float = AGREEMENT
    start: int = 64
    probes: Probes | None = None
    damping: Damping | None = None


def agreeing_sample(
    engine: Engine,
    examples: Sequence[TokenizedExample],
    settings: FitSettings,
    eigenvalues: Form = "per_sequence",
    agreement: Agreement = Agreement(),
    progress: Progress | None = None,
) -> Sample:
    """As many examples as it takes for the two halves of them to give curvatures that agree.

    Begins with ``agreement.start`` examples, taken by hash of their ids, and quadruples until the scores that come of
    either half's factors agree (:func:`infra.influence.rank_agreement`) or all examples are in. Covariances are sums,
    so no example is passed twice for them; eigenvalues are measured once a round in the halves. When the halves never
    agree this costs up to twice a fit on everything.

    Args:
        engine: the model and its tracked weights.
        examples: the training data.
        settings: of the fit.
        eigenvalues: how the halves' eigenvalues are measured.
        agreement: when to stop.
        progress: is told how many examples are done.

    Raises:
        InputError: there are fewer than four examples.
    """
    order = by_hash(examples, settings.seed)
    probes = agreement.probes
    if probes is None:
        probes = training_probes(engine.model, examples, engine.tracked, settings.seed, engine.max_tokens)
    check = None
    if eigenvalues == "auto":
        settings, check = choose_eigenvalues(engine, examples, settings, probes)
    sums: tuple[list[Any], list[Any]] = ([], [])
    rounds: list[tuple[int, float]] = []
    start = agreement.start
    used, size = 0, min(max(4, start + start % 2), len(order))  # even, so that halves grow and never mix
    while True:
        fits = []
        for side in (0, 1):
            new, half = (InMemory(engine, part[side::2]) for part in (order[used:size], order[:size]))
            sums[side].extend(new.over_data("covariances", fit=settings))
            fits.append(fit_curvature(half, settings, sums[side]).curvature(""))
        scored = (engine.model, probes, fits[0], fits[1], agreement.damping, engine.max_tokens)
        rounds.append((size, rank_agreement(*scored)))
        if progress is not None:
            progress(size, len(order))
        if rounds[-1][1] >= agreement.reached or size == len(order):
            break
        used, size = size, min(4 * size, len(order))
    both = [*sums[0], *sums[1]]
    return Sample(order[:size], both, settings, tuple(rounds), rounds[-1][1] >= agreement.reached, check)


def choose_eigenvalues(
    engine: Engine, examples: Sequence[TokenizedExample], settings: FitSettings, probes: Probes | None = None
) -> tuple[FitSettings, tuple[float, float] | None]:
    """Decide whether the cheaper ``per_token`` eigenvalues will do, by a check on 64 sequences.

    Args:
        engine: the model and its tracked weights.
        examples: the training data.
        settings: of the fit.
        probes: what is scored; None takes training examples.

    Returns:
        The settings to use, and the check: (largest relative difference of a weight's mean eigenvalue, rank agreement
        of the scores), or None where there was nothing to check.
    """
    place = InMemory(engine, by_hash(examples, settings.seed)[:CHECKED_SEQUENCES])
    if probes is None:
        probes = training_probes(engine.model, examples, engine.tracked, settings.seed, engine.max_tokens)
    sums = place.over_data("covariances", fit=settings)
    forms: Mapping[str, FitSettings] = {
        "per_sequence": replace(settings, eigenvalues="per_sequence"),
        "per_token": replace(settings, eigenvalues="per_token"),
    }
    sequence, token = (fit_curvature(place, form, sums).curvature("") for form in forms.values())
    check = (
        scale_difference(sequence, token),
        rank_agreement(engine.model, probes, sequence, token, max_tokens=engine.max_tokens),
    )
    holds = check[0] <= SCALE_TOLERANCE and check[1] >= AGREEMENT
    return forms["per_token" if holds else "per_sequence"], check


def subsample_draw(seed: int, example: TokenizedExample) -> float:
    """A number in [0, 1) that depends on the seed and the record's id alone: the smallest are taken first."""
    return float(record_stream(seed, f"subsample:{example.id}").random())


def by_hash(examples: Sequence[TokenizedExample], seed: int = 0) -> list[TokenizedExample]:
    """All examples in an order that depends on the seed and their ids alone."""
    draws = [subsample_draw(seed, e) for e in examples]
    return [examples[i] for i in sorted(range(len(examples)), key=lambda i: (draws[i], i))]


def subsample(examples: Sequence[TokenizedExample], fraction: float, seed: int = 0) -> list[TokenizedExample]:
    """A share of the examples, the first by hash of seed and id, in their own order.

    Args:
        examples: to choose from.
        fraction: the share, from 0 to 1; at least one example is taken.
        seed: of the hash.
    """
    count = max(1, round(fraction * len(examples)))
    if count >= len(examples):
        return list(examples)
    kept = {id(e) for e in by_hash(examples, seed)[:count]}
    return [e for e in examples if id(e) in kept]
