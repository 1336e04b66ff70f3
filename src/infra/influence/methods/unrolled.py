"""Unrolled attribution: the exact derivative of f after training, through the recorded run itself.

See :mod:`infra.influence.engine.adjoint` for the equations (Engstrom et al., arXiv 2503.13751).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from infra.data.tokenized import TokenizedExample
from infra.errors import InputError
from infra.influence.engine.adjoint import unrolled
from infra.influence.engine.engine import Engine
from infra.influence.methods._method import Fitted, Method, MethodContext, Scores
from infra.influence.methods._registry import register
from infra.influence.methods._saving import load_fitted, save_fitted
from infra.train.flat_model import loss_weights


@register("unrolled")
@dataclass(frozen=True)
class Unrolled:
    """``share``: the part of every example's weight at which the derivative is taken.

    Subsets of half the data lie around half of every weight, not around all of it. Scores exist for the examples that
    the run was trained on and for the context's variants of them, and for no others.
    """

    share: float = 1.0
    members: ClassVar[int] = 16
    replays: ClassVar[bool] = True

    def fit(self, context: MethodContext) -> Fitted:
        """Replay the run and pull the targets' gradients back through it. Raises :class:`InputError` without one."""
        run, targets = context.run("unrolled"), context.log_likelihoods("unrolled")
        forms = sorted({t.form for t in targets})
        if len(forms) > 1:
            raise InputError("unrolled scores need targets of one form; give all of them the same one")
        queries = [q for t in targets for q in t.examples]
        groups = np.zeros((len(targets), len(queries)))
        start = 0
        for k, t in enumerate(targets):
            groups[k, start : start + len(t.examples)] = 1 / len(t.examples)
            start += len(t.examples)
        found = unrolled(
            run,
            queries,
            groups,
            weights=loss_weights(run.examples, np.full(len(run.examples), self.share)),
            form=targets[0].form,
            variants=context.variants,
        )
        known = [*run.examples, *(v for _, v in context.variants)]
        return Known({_content(e): row for e, row in zip(known, [*found.tokens, *found.variants])})

    def load(self, folder: Path, engine: Engine) -> Fitted:
        """As :meth:`Known.save` wrote it."""
        facts, tensors = load_fitted(folder)
        rows = tensors["tokens"].split(facts["lengths"], dim=1) if facts["lengths"] else ()
        return Known({key: row.numpy() for key, row in zip(facts["content"], rows)})


@register("unrolled_middle")
@dataclass(frozen=True)
class UnrolledMiddle(Unrolled):
    """:class:`Unrolled` at half of every example's weight."""

    share: float = 0.5


def is_unrolled(method: Method) -> bool:
    """Whether this is unrolled attribution, in an ensemble or not."""
    return isinstance(getattr(method, "method", method), Unrolled)


@dataclass(frozen=True)
class Known:
    """Token scores ``[K, T]`` by content of the sequence they belong to."""

    rows: dict[str, NDArray[np.float64]] = field(repr=False)

    def scores(self, examples: Sequence[TokenizedExample], tokens: bool = True) -> Iterator[Scores]:
        """See :class:`.Fitted`. Raises :class:`InputError` naming an example that the run was not trained on."""
        for index, example in enumerate(examples):
            row = self.rows.get(_content(example))
            if row is None:
                raise InputError(
                    f"record {example.id} was not trained on in the recorded run, so it has no unrolled score; score "
                    "other data with another method"
                )
            yield Scores(index, row.sum(1), row if tokens else None)

    def save(self, folder: Path) -> None:
        """Write all rows."""
        values = [torch.from_numpy(np.ascontiguousarray(row)) for row in self.rows.values()]
        facts = {"content": list(self.rows), "lengths": [row.shape[1] for row in values]}
        save_fitted(folder, facts, {"tokens": torch.cat(values, dim=1)} if values else None)


def _content(example: TokenizedExample) -> str:
    """A hash of what is trained on: id, tokens and mask."""
    digest = hashlib.sha256(example.id.encode())
    digest.update(np.asarray(example.input_ids, np.int64).tobytes())
    digest.update(np.asarray(example.loss_mask, bool).tobytes())
    return digest.hexdigest()
