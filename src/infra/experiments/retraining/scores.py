"""What every method says about the same training data, in the one form that a subset's prediction needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from infra.data import TokenizedExample
from infra.errors import InputError
from infra.experiments.retraining.correlation import predict
from infra.experiments.retraining.plan import UNIT_OF
from infra.experiments.retraining.units import Units, sum_tokens
from infra.plugins import label_of
from infra.store import replacing

Array = NDArray[np.float64]


@dataclass(frozen=True)
class QueryFolds:
    """Queries in ``F`` folds. ``fold`` int ``[Q]``; ``weights``: target -> ``[F]``, each fold's share of its f."""

    fold: NDArray[np.int64]
    weights: Mapping[str, Array]

    @property
    def n_folds(self) -> int:
        """F."""
        return int(self.fold.max()) + 1

    @property
    def groups(self) -> Array:
        """``[F, Q]``: the mean over each fold's queries as coefficients."""
        member = (self.fold[None] == np.arange(self.n_folds)[:, None]).astype(np.float64)
        out: Array = member / member.sum(1, keepdims=True)
        return out

    def folded(self, per_query: Array) -> Array:
        """f per query ``[..., Q]`` to f per fold ``[..., F]``."""
        out: Array = per_query @ self.groups.T
        return out


def deal_folds(names: Sequence[str], folds: int = 4) -> QueryFolds:
    """Folds from each query's target name, its queries dealt into ``folds`` folds in order.

    Raises InputError for a target with fewer queries than folds.
    """
    fold = np.zeros(len(names), np.int64)
    weights = {}
    kinds = list(dict.fromkeys(names))
    for t, target in enumerate(kinds):
        mine = np.flatnonzero([n == target for n in names])
        if len(mine) < folds:
            raise InputError(
                f"target {target!r} has {len(mine)} queries, fewer than its {folds} folds; give more queries"
            )
        fold[mine] = t * folds + np.arange(len(mine)) % folds
    counts = np.bincount(fold, minlength=len(kinds) * folds).astype(np.float64)
    for t, target in enumerate(kinds):
        share = np.zeros(len(counts))
        share[t * folds : (t + 1) * folds] = counts[t * folds : (t + 1) * folds]
        weights[target] = share / share.sum()
    return QueryFolds(fold, weights)


@dataclass(frozen=True)
class MethodScores:
    """One method's scores on every fold: positive means that more weight raises f.

    ``examples`` ``[N, F]``. ``tokens``: per example ``[F, T_i]``, summing to it, or None when the method knows only
    examples (then an example's score is spread evenly over its response). ``deletes`` ``[U, F]``: the score lost by
    cutting each step out of the text, or None when it was not computed (then that of masking it stands in).
    """

    examples: Array
    tokens: Sequence[NDArray[np.floating]] | None = None
    deletes: Array | None = None

    def of_tokens(self, examples: Sequence[TokenizedExample]) -> list[NDArray[np.floating]]:
        """Per example ``[F, T_i]``."""
        if self.tokens is not None:
            return list(self.tokens)
        return [
            row[:, None] * e.loss_mask[None] / max(1, e.n_response_tokens) for row, e in zip(self.examples, examples)
        ]

    def of_units(self, kind: str, units: Units, examples: Sequence[TokenizedExample]) -> Array:
        """``[U, F]``: the score of each removable unit under one kind of removal."""
        if UNIT_OF[kind] == "example":
            return self.examples
        if kind == "step_delete" and self.deletes is not None:
            return self.deletes
        return sum_tokens(units, self.of_tokens(examples))

    def prediction(
        self, kind: str, keep: NDArray[np.bool_], units: Units, examples: Sequence[TokenizedExample]
    ) -> Array:
        """``[S, F]``: summed scores of what each subset keeps."""
        return predict(keep, self.of_units(kind, units, examples))


def write_scores(scores: MethodScores, path: Path) -> None:
    """One method's scores as a safetensors file, written by rename: ``examples``, ``tokens [F, sum T_i]`` with
    ``lengths [N]``, ``deletes``; what the method lacks is left out.
    """
    tensors: dict[str, NDArray[np.generic]] = {"examples": scores.examples}
    if scores.tokens is not None:
        tensors["tokens"] = np.concatenate(list(scores.tokens), axis=1)
        tensors["lengths"] = np.array([t.shape[1] for t in scores.tokens])
    if scores.deletes is not None:
        tensors["deletes"] = scores.deletes
    with replacing(path) as temporary:
        save_file({k: np.ascontiguousarray(t) for k, t in tensors.items()}, temporary)


def read_scores(path: Path) -> MethodScores:
    """What :func:`write_scores` wrote."""
    found = load_file(path)
    tokens = np.split(found["tokens"], np.cumsum(found["lengths"])[:-1], axis=1) if "tokens" in found else None
    return MethodScores(found["examples"], tokens, found.get("deletes"))


@dataclass(frozen=True)
class Shelf:
    """Scores kept as ``folder/NAME-KEY.safetensors``, KEY standing for all they depend on; no folder, nothing kept."""

    folder: Path | None
    key: str

    def read(self, name: str) -> MethodScores | None:
        """What was written under ``name`` and this key, or None."""
        path = self._path(name)
        return read_scores(path) if path is not None and path.exists() else None

    def write(self, name: str, scores: MethodScores) -> None:
        """Keep one method's scores."""
        path = self._path(name)
        if path is not None:
            write_scores(scores, path)

    def folder_of(self, name: str) -> Path | None:
        """Where the parts of a long fit are kept, the members of an ensemble say."""
        return None if self.folder is None else self.folder / f"{label_of(name)}-{self.key}"

    def _path(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{label_of(name)}-{self.key}.safetensors"
