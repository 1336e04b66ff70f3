"""The mean of any method over several models: trained with fresh seeds, or checkpoints of the recorded run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from infra.data.tokenized import TokenizedExample
from infra.errors import InputError
from infra.influence.engine.engine import Engine
from infra.influence.methods._method import Fitted, Method, MethodContext, Scores
from infra.influence.methods._saving import load_fitted, save_fitted
from infra.store import link
from infra.train.recorded import RecordedRun, weights_set

MEMBERS = 3


@dataclass(frozen=True)
class Ensemble:
    """``method`` averaged over ``members`` models.

    ``over`` ``seeds``: the recorded run trained again in the orders of ``member_seed``, ``member_seed`` + 1, ...;
    ``checkpoints``: as many of its own, evenly spread and the last one among them. ``members`` None: 3, or what the
    method asks for. Each member has the targets' gradients and the curvature of its own model. Finished members lie in
    the context's folder and are not made again.

    Raises :class:`InputError` for another ``over`` and for less than one member.
    """

    method: Method
    over: str = "seeds"
    members: int | None = None
    member_seed: int = 1001

    def __post_init__(self) -> None:
        if self.over not in ("seeds", "checkpoints"):
            raise InputError(f"an ensemble is over 'seeds' or 'checkpoints', not {self.over!r}")
        if self.members is not None and self.members < 1:
            raise InputError(f"an ensemble has at least one member, not {self.members}")

    def fit(self, context: MethodContext) -> Fitted:
        """Fit each member and write it. Raises :class:`InputError` without a recorded run."""
        run = context.run(f"an ensemble over {self.over}")
        temporary = None if context.folder is not None else tempfile.TemporaryDirectory(prefix="infra-ensemble-")
        folder = context.folder or Path(temporary.name if temporary is not None else ".")
        for name, own in self._members(run).items():
            if (folder / name / "done").exists():
                continue
            weights = own.flat.unflatten(own.trained())
            with weights_set(context.engine.model, weights):
                fitted = self.method.fit(context.at(context.engine, own, folder / name / "parts"))
                fitted.save(folder / name / "fitted")
            save_fitted(folder / name / "model", {}, weights)
            (folder / name / "done").touch()
        return FittedEnsemble(self.method, context.engine, folder, tuple(self._members(run)), temporary)

    def _members(self, run: RecordedRun) -> dict[str, RecordedRun]:
        """The run that makes each member, by the member's name."""
        n = self.members or int(getattr(self.method, "members", MEMBERS))
        if self.over == "seeds":
            return {f"seed-{s}": run.reordered(s) for s in range(self.member_seed, self.member_seed + n)}
        return {f"step-{step}": run.until(step) for step in run.checkpoint_steps(n)}

    def load(self, folder: Path, engine: Engine) -> Fitted:
        """As :meth:`FittedEnsemble.save` wrote it; members are read one after the other."""
        facts, _ = load_fitted(folder)
        return FittedEnsemble(self.method, engine, folder, tuple(facts["members"]))


@dataclass(frozen=True)
class FittedEnsemble:
    """Members in a folder, each with the weights of its model. ``temporary`` is kept for as long as they are needed."""

    method: Method
    engine: Engine
    folder: Path
    members: tuple[str, ...]
    temporary: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False, compare=False)

    def scores(self, examples: Sequence[TokenizedExample], tokens: bool = True) -> Iterator[Scores]:
        """See :class:`.Fitted`. One member's model after the other is set into the engine's."""
        sums: list[Scores | None] = [None] * len(examples)
        for name in self.members:
            with weights_set(self.engine.model, load_fitted(self.folder / name / "model")[1]):
                fitted = self.method.load(self.folder / name / "fitted", self.engine)
                for found in fitted.scores(examples, tokens):
                    sums[found.index] = _added(sums[found.index], found)
        n = len(self.members)
        for total in sums:
            if total is not None:
                yield Scores(total.index, total.example / n, None if total.tokens is None else total.tokens / n)

    def save(self, folder: Path) -> None:
        """Give the members' files a second name in ``folder``."""
        for name in self.members:
            for source in sorted((self.folder / name).rglob("*")):
                target = folder / source.relative_to(self.folder)
                if source.is_file() and source != target:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    link(source, target)
        save_fitted(folder, {"members": list(self.members)})


def _added(one: Scores | None, other: Scores) -> Scores:
    if one is None:
        return other
    tokens = None if one.tokens is None or other.tokens is None else np.add(one.tokens, other.tokens, dtype=np.float64)
    return Scores(one.index, one.example + other.example, tokens)
