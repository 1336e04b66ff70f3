"""Which records of a scored run to train on: the decision, row by row, and the matched control beside it.

chosen = select_records("runs/mine", SelectSettings(keep=0.8, control="length"))
write_selection("runs/mine", chosen, "selected")
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from infra.analysis import target_folds
from infra.data import whole_targets
from infra.errors import ArtifactError, InputError
from infra.experiments.selection.guided import random_prune
from infra.experiments.selection.items import ArmItem
from infra.experiments.selection.plan import quotas
from infra.experiments.selection.select import top, utility
from infra.experiments.selection.weights import dealt_anew, example_weights
from infra.layout import Run
from infra.store import read_json

Floats = NDArray[np.float64]
By = Literal["score", "percentile", "per-token"]
Control = Literal["random", "length"]


@dataclass(frozen=True, slots=True)
class SelectSettings:
    """What to keep of the training records of a run.

    - ``keep``: the best share of them; ``top``: the best so many; ``drop_harmful``: not those whose score lies below
      zero with its 95% interval. ``drop_harmful`` goes before the other two.
    - ``weights``: all of them, with loss weights that grow with the score, instead of a cut.
    - ``pool``: also the best so many of the run's pool.
    - ``target``: whose scores count; None is the mean over targets, each divided by its standard deviation.
    - ``by``: ``score`` (influence summed over the response), ``percentile`` (the mean over targets of the percentile,
      which no outlier moves) or ``per-token`` (influence divided by the response's tokens: long records gain nothing
      by their length).
    - ``balance``: every domain keeps its share of the training records.
    - ``control``: a second choice that ignores the scores. As many records of each domain are dropped at random, with
      ``length`` at the same number of response tokens; weights are dealt anew inside each domain.
    """

    keep: float | None = None
    top: int | None = None
    drop_harmful: bool = False
    weights: bool = False
    pool: int = 0
    target: str | None = None
    by: By = "score"
    balance: bool = False
    control: Control | None = None
    seed: int = 0

    def check(self, filtered: bool) -> None:
        """Raise InputError naming the first setting that makes no sense."""
        cuts = self.keep is not None or self.top is not None or self.drop_harmful or filtered
        if not (cuts or self.weights or self.pool):
            raise InputError("nothing to select by: give keep, top, drop_harmful, weights or pool")
        if self.keep is not None and not 0 < self.keep <= 1:
            raise InputError(f"keep is {self.keep}; it is a share of the training records, above 0 and at most 1")
        if self.top is not None and self.top < 1:
            raise InputError(f"top is {self.top}; give a number of records, at least 1")
        if self.pool < 0:
            raise InputError(f"pool is {self.pool}; give a number of records, at least 1")
        if self.keep is not None and self.top is not None:
            raise InputError("keep and top both say how many records to keep; give one of them")
        if self.weights and (cuts or self.pool):
            raise InputError("weights keep every training record; leave out keep, top, drop_harmful, pool and filters")
        if self.by not in ("score", "percentile", "per-token"):
            raise InputError(f"by is {self.by!r}; use score, percentile or per-token")
        if self.control not in (None, "random", "length"):
            raise InputError(f"control is {self.control!r}; use random or length")
        if self.weights and self.control == "length":
            raise InputError("control 'length' is for a cut; the control of weights is 'random'")


@dataclass(frozen=True, slots=True)
class SelectedRecords:
    """The decision: ``rows`` has one row a scored example, in the run's order, and ``manifest`` is plain JSON.

    Columns of ``rows``: ``id, set, domain, n_response_tokens, score`` (what was ranked), ``percentile`` (among the
    training records), ``harmful``, ``kept``, ``why``, ``weight`` (NaN unless weighted), and with a control
    ``control_kept`` and ``control_weight``.
    """

    rows: pd.DataFrame
    manifest: dict[str, Any]


def select_records(
    run: str | Path | Run, settings: SelectSettings, among: Collection[str] | None = None
) -> SelectedRecords:
    """Decide which records of a scored run to train on. Writes nothing: see :func:`write_selection`.

    ``among`` are the ids that may be kept at all, those a filter of the explorer shows for example; None is all.

    Raises:
        InputError: settings that make no sense, an unknown target, a pool that is missing or too small, a cut that
            leaves nothing.
        ArtifactError: a folder without scores.
    """
    settings.check(filtered=among is not None)
    paths = run if isinstance(run, Run) else Run(run)
    if not paths.example_scores.exists():
        raise ArtifactError(f"{paths.root} has no scores; give the folder of an `infra score` or `infra run`")
    scores = pd.read_parquet(paths.example_scores)
    rows = _ranked(paths, scores, settings)
    train = rows.index[rows.set == "train"].to_numpy()
    rows["kept"], rows["why"] = False, "in the pool"
    rows["weight"] = np.nan
    if settings.weights:
        rows.loc[train, "kept"], rows.loc[train, "why"] = True, "weighted"
        rows.loc[train, "weight"] = _weights(rows.loc[train], rows.score[train].to_numpy(np.float64))
    else:
        _cut(rows, train, settings, among)
        if settings.pool:
            _add_pool(rows, train, settings)
    if settings.control is not None:
        _add_control(rows, train, settings)
    return SelectedRecords(rows, _manifest(rows, settings, among))


def _ranked(paths: Run, scores: pd.DataFrame, settings: SelectSettings) -> pd.DataFrame:
    """The scored examples with one score each, its percentile, and whether it is harmful."""
    targets = whole_targets(scores.columns)
    values = scores[[f"score_{t}" for t in targets]].to_numpy(np.float64)
    raw = utility(values, targets, settings.target)
    score = raw
    if settings.by == "percentile":
        wanted = [settings.target] if settings.target else targets
        ranks = [stats.rankdata(values[:, targets.index(t)]) / len(values) for t in wanted]
        score = 100 * np.mean(ranks, axis=0)
    elif settings.by == "per-token":
        score = utility(values / scores.n_response_tokens.to_numpy(np.float64)[:, None], targets, settings.target)
    columns = ["id", "set", "domain", "n_response_tokens"]
    rows = scores[columns].assign(id=scores.id.astype(str), score=score).reset_index(drop=True)
    train = np.sort(score[(rows.set == "train").to_numpy()])
    rows["percentile"] = 100 * np.searchsorted(train, score, side="right") / max(len(train), 1)
    rows["harmful"] = raw + _half_widths(paths, values, targets, settings) < 0
    return rows


def _half_widths(paths: Run, values: Floats, targets: Sequence[str], settings: SelectSettings) -> Floats:
    """Half of each score's 95% interval over the target's queries; NaN (never harmful) where there is none."""
    folds, weights = pd.read_parquet(paths.folds), read_json(paths.target_weights)
    named = {t: {f: w for f, w in zip(folds.fold, weights[t]) if w > 0} for t in targets}
    influence = np.load(paths.fold_scores, mmap_mode="r")
    drawn = target_folds(folds, influence.shape[1], named, n_boot=200, seed=0)
    parts = {settings.target: 1.0} if settings.target else dict(zip(targets, 1 / values.std(axis=0) / len(targets)))
    half = drawn.half_width(influence, parts)
    if settings.drop_harmful and np.isnan(half).all():
        raise InputError(
            "no score has an interval, because a target's queries make a single fold; give more queries, or select "
            "by keep or top"
        )
    return half


def _cut(rows: pd.DataFrame, train: NDArray[np.int64], settings: SelectSettings, among: Collection[str] | None) -> None:
    """Mark the training records that stay, and say of each why."""
    free = np.ones(len(train), dtype=bool)
    if among is not None:
        free = rows.id[train].isin(set(among)).to_numpy()
        rows.loc[train[~free], "why"] = "not among the records given"
    if settings.drop_harmful:
        harmful = free & rows.harmful[train].to_numpy()
        rows.loc[train[harmful], "why"] = "harmful: its score lies below zero with its interval"
        free = free & ~harmful
    able = train[free]
    if len(able) == 0:
        raise InputError("no training record is left to keep; loosen the settings")
    n = len(able)
    if settings.keep is not None:
        n = min(max(round(settings.keep * len(train)), 1), n)
    elif settings.top is not None:
        n = min(settings.top, n)
    best = _best(rows, able, n, rows.domain[train] if settings.balance else None)
    place = rows.score[train].rank(ascending=False, method="first").astype(int)
    rows.loc[able, "why"] = [f"rank {k} of {len(train)}, below the cut" for k in place[able]]
    rows.loc[best, "why"] = [f"rank {k} of {len(train)}" for k in place[best]]
    rows.loc[best, "kept"] = True


def _best(rows: pd.DataFrame, able: NDArray[np.int64], n: int, shares: pd.Series | None = None) -> NDArray[np.int64]:
    """The ``n`` of highest score; with ``shares`` (domains, one an example) as many of each domain as its share."""
    if shares is None:
        return able[top(rows.score[able].to_numpy(np.float64), list(rows.id[able]), n)]
    counts = shares.value_counts().sort_index()
    caps = [int((rows.domain[able] == d).sum()) for d in counts.index]
    if sum(caps) < n:
        raise InputError(f"only {sum(caps)} records lie in the domains {', '.join(counts.index)}; {n} are wanted")
    found = [
        _best(rows, able[(rows.domain[able] == d).to_numpy()], k)
        for d, k in zip(counts.index, quotas(counts.tolist(), n, caps))
    ]
    return np.concatenate(found)


def _add_pool(rows: pd.DataFrame, train: NDArray[np.int64], settings: SelectSettings) -> None:
    """Mark the best records of the pool."""
    pool = rows.index[rows.set == "pool"].to_numpy()
    able = pool[~rows.harmful[pool].to_numpy()] if settings.drop_harmful else pool
    if len(able) < settings.pool:
        raise InputError(
            f"the run has {len(able)} scored pool records that may be added, and pool asks for {settings.pool}; give a "
            "source a share of 'pool' and score it, or ask for fewer"
        )
    best = _best(rows, able, settings.pool, rows.domain[train] if settings.balance else None)
    rows.loc[best, "kept"], rows.loc[best, "why"] = True, "among the best of the pool"


def _add_control(rows: pd.DataFrame, train: NDArray[np.int64], settings: SelectSettings) -> None:
    """The same numbers of records of each domain without a look at the scores."""
    rows["control_kept"], rows["control_weight"] = False, np.nan
    rows.loc[train, "control_kept"] = True
    if settings.weights:
        dealt = dealt_anew(rows.score[train].to_numpy(np.float64), list(rows.domain[train]), settings.seed)
        rows.loc[train, "control_weight"] = _weights(rows.loc[train], dealt)
        return
    matched = settings.control == "length"
    dropped = rows.id[train][~rows.kept[train]]
    added = rows.id[(rows.set == "pool") & rows.kept]
    if not len(dropped) and not len(added):
        raise InputError("nothing is dropped and nothing is added, so there is no control to it")
    for which, ids, kept in (("train", dropped, False), ("pool", added, True)):
        if len(ids):
            mine = rows[rows.set == which]
            items = [ArmItem(*r) for r in zip(mine.id, mine.domain, [None] * len(mine), mine.n_response_tokens)]
            drawn = set(random_prune(items, list(ids), seed=settings.seed, token_matched=matched).ids)
            rows.loc[mine.index[mine.id.isin(drawn)], "control_kept"] = kept


def _weights(rows: pd.DataFrame, score: Floats) -> Floats:
    return example_weights(score, rows.n_response_tokens.to_numpy(np.int64))


def _manifest(rows: pd.DataFrame, settings: SelectSettings, among: Collection[str] | None) -> dict[str, Any]:
    def told(kept: pd.Series) -> dict[str, Any]:
        mine = rows[kept]
        return {
            "records": len(mine),
            "from_pool": int((mine.set == "pool").sum()),
            "response_tokens": int(mine.n_response_tokens.sum()),
            "by_domain": {str(k): int(v) for k, v in mine.domain.value_counts().sort_index().items()},
            "mean_score": float(mine.score.mean()),
        }

    return {
        "settings": asdict(settings),
        "filtered_to": None if among is None else len(among),
        "scored": told(rows.set == "train"),
        "kept": told(rows.kept),
        **({"control": told(rows.control_kept)} if settings.control else {}),
        "harmful": int(rows.harmful[rows.set == "train"].sum()),
    }
