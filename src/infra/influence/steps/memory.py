"""The steps of an attribution in this process: results are tensors in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from infra.data.tokenized import TokenizedExample
from infra.influence.curvature import Factor
from infra.influence.engine.batches import Progress
from infra.influence.engine.engine import Engine
from infra.influence.steps.factors import load_bases
from infra.influence.steps.registry import STEPS
from infra.influence.steps.step import Item, Results
from infra.parallel.tensors import Tensors


class InMemory:
    """Runs the steps of a fit on ``examples`` at once. ``visits``: of the data, for ``progress``."""

    def __init__(
        self, engine: Engine, examples: Sequence[TokenizedExample], progress: Progress | None = None, visits: int = 2
    ) -> None:
        self.engine, self.examples = engine, examples
        self._progress, self._visits, self._made = progress, visits, 0

    @property
    def n(self) -> int:
        """How many examples there are."""
        return len(self.examples)

    def over_data(self, name: str, **arguments: Any) -> Results:
        """One step over the data, in one piece."""
        run = STEPS[name].prepare(self.engine, **arguments)
        item = Item(self.engine, [(range(self.n), self.examples)], progress=self._told())
        self._made += 1
        return [cast(Tensors, run(item))]

    def over_keys(self, name: str, groups: Callable[[], Sequence[Sequence[str]]], **arguments: Any) -> Results:
        """One step over the blocks of ``groups()``, in one piece."""
        run = STEPS[name].prepare(self.engine, **arguments)
        item = Item(self.engine, keys=[key for group in groups() for key in group])
        return [cast(Tensors, run(item))]

    def factors(self, eigenvalues: Results, bases: Results) -> dict[str, Factor]:
        """Every block's factor; blocks that share inputs share the tensor."""
        loaded = load_bases(bases)
        found = {}
        for result in eigenvalues:
            for key in result.names("eigenvalues"):
                basis = loaded.get(key)
                sides = () if basis is None else (basis.outputs, basis.inputs)
                found[key] = Factor(result.get("eigenvalues", key), *sides)
        return {block.key: found[block.key] for block in self.engine.tracked.blocks}

    def _told(self) -> Progress | None:
        if self._progress is None:
            return None
        progress, part, parts, n = self._progress, self._made, self._visits, self.n
        return lambda done, _: progress(part * n + done, parts * n)
