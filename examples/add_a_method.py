"""Add a method: one class with ``fit`` and ``load``. Every command then takes it by the place it stands in:

    infra validate RUN --methods examples/add_a_method.py:SignedGradient

This one keeps only the sign of each entry of the target's gradient. A method whose direction differs is a subclass of
``DirectionMethod`` with a single function; it gets token scores, saving and scoring in many processes with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.influence import Direction
from infra.influence.methods import DirectionMethod, MethodContext


@dataclass(frozen=True)
class SignedGradient(DirectionMethod):
    """``v_f = sign(grad f)``, a step of sign gradient descent (Bernstein et al. 2018)."""

    def directions(self, context: MethodContext) -> Sequence[Direction]:
        """One direction for each target."""
        return [Direction({name: t.sign() for name, t in g.tensors.items()}, g.name) for g in context.gradients()]


def main() -> list[float]:
    """Score the embedded world's examples with it, found by its place as a command finds it."""
    from _world import small_world, tokens
    from infra.influence import Engine, MeanLogLikelihood
    from infra.influence.methods import get_method
    from infra.models import tracked_weights

    model, tokenizer, train, correct = small_world()
    target = MeanLogLikelihood("all", tokens(correct, tokenizer))
    examples = tokens(train, tokenizer)
    method = get_method(f"{__file__}:SignedGradient")
    fitted = method.fit(MethodContext(Engine(model, tracked_weights(model, "mlp")), examples, [target]))
    scores = {s.index: float(s.example[0]) for s in fitted.scores(examples)}
    print("\n".join(f"{train[i].id}  {score:+.3f}" for i, score in sorted(scores.items())))
    return [scores[i] for i in range(len(examples))]


if __name__ == "__main__":
    main()
