"""Bytes that processes exchange, by formula: gathers of sharded layers, sums that are cut into rows. Each figure is of
one process.

In a ring of n processes an all-gather of S bytes, and a reduce-scatter of S bytes, receive ``(n - 1) / n S``.
"""

from __future__ import annotations

from dataclasses import dataclass

from infra.pipeline.plan.costs import SUM_BYTES, Costs
from infra.pipeline.plan.devices import BYTES


@dataclass(frozen=True)
class Communication:
    """What one process of ``world`` receives under the costs' recipe and shape."""

    costs: Costs
    world: int

    @property
    def _share(self) -> float:
        return (self.world - 1) / self.world

    @property
    def gather(self) -> float:
        """Every layer's matrices once."""
        return self._share * self.costs.shape.body * BYTES[self.costs.recipe.model.dtype]

    @property
    def training_step(self) -> float:
        """One microbatch under FSDP2: layers gathered forward and backward, gradients scattered."""
        return 3.0 * self.gather

    @property
    def visit(self) -> float:
        """One batch of curvature, gradients or example scores: layers gathered forward and backward, where they are run
        again too; no weight gradients."""
        return 2.0 * self.gather

    def forward_mode(self, directions: int) -> float:
        """One batch of token scores: layers gathered once, and with them their tangents."""
        tangents = directions * self._share * self.costs.passes.tracked * BYTES[self.costs.recipe.model.dtype]
        return self.gather + tangents

    def _rows(self, numbers: float) -> float:
        """Matrices of so many numbers in all, summed into rows or gathered from them."""
        return self._share * numbers * SUM_BYTES

    @property
    def covariances(self) -> float:
        """One batch of covariances, beside the visit."""
        return self._rows(self.costs.passes.factors)

    @property
    def eigenvalues(self) -> float:
        """One batch of corrected eigenvalues, beside the visit: bases gathered, eigenvalues summed."""
        return self._rows(self.costs.passes.factors + self.costs.passes.tracked)

    def folds(self, directions: int) -> float:
        """One batch of folds' gradients summed, or of directions gathered for example scores, beside the visit."""
        return self._rows(directions * self.costs.passes.tracked)

    @property
    def factor_files(self) -> float:
        """Covariances of a fit without FSDP, through shared files: its shards' sums written and read once by all."""
        return 2.0 * self.costs.recipe.curvature.sum_shards * self.costs.passes.factors * SUM_BYTES / self.world

    def direction_shard(self, directions: int) -> float:
        """Bytes of the directions' rows that a process holds."""
        return directions * self.costs.passes.tracked * BYTES[self.costs.recipe.model.dtype] / self.world
