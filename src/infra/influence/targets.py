"""Targets: what the influence is on. A target is a scalar function of the model.

    f(theta) = (1 / n) sum_i log p(y_i | x_i)        over verified responses y_i to queries x_i

Positive influence raises f.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infra.data.tokenized import Counted, TokenizedExample
from infra.errors import InputError
from infra.influence.engine.batches import DEFAULT_MAX_TOKENS, Batch, batches, check_finite, halving_on_memory
from infra.influence.engine.functional import Backbone, engine_mode, head_pass, scatter

Form = Literal["per_token", "summed"]


@dataclass(frozen=True)
class MeanLogLikelihood:
    """The mean over examples of the log-likelihood of their response tokens.

    ``form`` ``per_token`` divides each example's sum by its number of response tokens (a long answer counts
    as much as a short one); ``summed`` does not. ``tokens`` ``content`` leaves out the tokens that the chat template
    wrote, such as the end of turn: ``examples`` then carry the loss on their content tokens alone. Training weights
    of the examples do not enter.
    Raises :class:`InputError` without examples, or naming one without response tokens.
    """

    name: str
    examples: Sequence[TokenizedExample]
    form: Form = "per_token"
    tokens: Counted = "all"

    def __post_init__(self) -> None:
        if not self.examples:
            raise InputError(f"target {self.name!r} has no examples; give it verified responses")
        if self.tokens == "content":
            object.__setattr__(self, "examples", [e.counting(self.tokens) for e in self.examples])
        weights_of(self.examples, self.form)

    def value(self, model: Any, max_tokens: int = DEFAULT_MAX_TOKENS) -> float:
        """f at the model as it is; natural logarithm, so it is negative."""
        return float(self.values(model, max_tokens).mean())

    def values(self, model: Any, max_tokens: int = DEFAULT_MAX_TOKENS) -> NDArray[np.float64]:
        """The term of each example, float64 ``[n]``, in order; their mean is f."""
        return log_likelihoods(model, self.examples, max_tokens) * weights_of(self.examples, self.form)


@dataclass(frozen=True)
class Contrast:
    """``positive - weight * negative``, e.g. the correct minus the incorrect responses to the same queries."""

    name: str
    positive: Target
    negative: Target
    weight: float = 1.0

    def value(self, model: Any, max_tokens: int = DEFAULT_MAX_TOKENS) -> float:
        """f at the model as it is."""
        return self.positive.value(model, max_tokens) - self.weight * self.negative.value(model, max_tokens)


@dataclass(frozen=True)
class FunctionTarget:
    """Any differentiable function: the mean of ``fn(model, batch)``, a scalar tensor, over ``batches``.

    A preference pair as the example (the log-odds by which the model prefers the chosen answer)::

        def prefers(model, pair):
            chosen, rejected = (model(ids[None]).logits[0, :-1].log_softmax(-1) for ids in pair)
            picked = [lp.gather(1, ids[1:, None]).sum() for lp, ids in zip((chosen, rejected), pair)]
            return torch.nn.functional.logsigmoid(picked[0] - picked[1])

        target = FunctionTarget("preference", prefers, pairs)

    ``fn`` gets the model in evaluation mode and each element of ``batches`` as it is.
    """

    name: str
    fn: Callable[[Any, Any], Tensor]
    batches: Sequence[Any]

    def __post_init__(self) -> None:
        if not self.batches:
            raise InputError(f"target {self.name!r} has no batches; give it at least one")

    def value(self, model: Any, max_tokens: int = DEFAULT_MAX_TOKENS) -> float:
        """f at the model as it is."""
        with torch.no_grad(), engine_mode(model):
            return float(np.mean([float(self.fn(model, batch)) for batch in self.batches]))


Target = MeanLogLikelihood | Contrast | FunctionTarget


def weights_of(examples: Sequence[TokenizedExample], form: Form) -> NDArray[np.float64]:
    """Each example's factor, float64 ``[n]``: 1, or 1 / number of response tokens."""
    if form not in ("per_token", "summed"):
        raise InputError(f"form is {form!r}; choose 'per_token' or 'summed'")
    counts = np.array([e.n_response_tokens for e in examples])
    if (counts == 0).any():
        bad = examples[int(np.flatnonzero(counts == 0)[0])]
        raise InputError(f"record {bad.id} has no response token under the loss; drop it or check its chat template")
    return np.ones(len(examples)) if form == "summed" else 1.0 / counts


def token_log_likelihoods(
    model: Any, examples: Sequence[TokenizedExample], max_tokens: int = DEFAULT_MAX_TOKENS
) -> list[NDArray[Any]]:
    """log p(z_t | z_<t) of every response token.

    Args:
        model: in memory.
        examples: n of them.
        max_tokens: tokens of a batch, padding included.

    Returns:
        One array ``[T_i]`` an example, in order, in nats; 0 outside the response.
    """
    result: list[NDArray[Any] | None] = [None] * len(examples)
    device = next(model.parameters()).device
    with torch.no_grad(), engine_mode(model):
        backbone = Backbone(model)
        for planned in batches(examples, max_tokens, device):

            def work(batch: Batch, _: set[str]) -> Tensor:
                head = head_pass(backbone, backbone.hidden(batch), batch, gradient=False)
                return scatter(head.log_probability, head.where, batch.input_ids.shape)

            for batch, values in halving_on_memory(planned, work):
                check_finite(values, batch, "its log-likelihood")
                for i, row, start, length in batch.segments:
                    shifted = torch.zeros(length, dtype=values.dtype)
                    shifted[1:] = values[row, start : start + length - 1].cpu()
                    result[i] = shifted.numpy()
    return [r for r in result if r is not None]


def log_likelihoods(
    model: Any, examples: Sequence[TokenizedExample], max_tokens: int = DEFAULT_MAX_TOKENS
) -> NDArray[np.float64]:
    """The summed log-likelihood of each example's response tokens.

    Args:
        model: in memory.
        examples: n of them.
        max_tokens: tokens of a batch, padding included.

    Returns:
        float64 ``[n]``, in order, in nats.
    """
    tokens = token_log_likelihoods(model, examples, max_tokens)
    return np.array([values.astype(np.float64).sum() for values in tokens])
