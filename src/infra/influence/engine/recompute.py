"""Activations made again in the backward pass: a visit then keeps each layer's inputs and one layer's inside.

A layer first runs without gradients. When the backward pass reaches it, it runs once more, with gradients and with the
hooks of the capture, and its own backward pass follows at once. That costs half as many operations again and gives the
same factors, gradients and scores. Forward mode keeps no activations and is not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar, copy_context
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from infra.errors import ModelError
from infra.models.layers import layers_run_by
from infra.models.precision import exact_in

_asked: ContextVar[bool] = ContextVar("recompute", default=False)
"""A context variable, because it holds for every pass below a block, those of a user's own method included."""


@contextmanager
def recomputed_activations(on: bool = True) -> Iterator[None]:
    """Inside this context every pass (factors, gradients, example and ``position`` scores) recomputes its activations.

    The results are the same, for less memory and half as many operations again.

    Args:
        on: False changes nothing.
    """
    token = _asked.set(on)
    try:
        yield
    finally:
        _asked.reset(token)


def recomputes() -> bool:
    """Whether this is inside a block of :func:`recomputed_activations`."""
    return _asked.get()


@contextmanager
def layers_run_again(
    layers: Sequence[nn.Module], tracked: Collection[nn.Module], again: Callable[[], AbstractContextManager[None]]
) -> Iterator[None]:
    """In the block, ``layers`` keep only their hidden states for the backward pass, which runs them once more inside
    ``again()``.

    Layers before the first of ``tracked`` are run once: no gradient reaches them. The context that a layer saw (packed
    documents, who watches experts) holds in its second run, on whatever thread that is.
    Raises :class:`ModelError` for a layer that is given more than its hidden states to differentiate.
    """

    def run(layer: nn.Module, own: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        hidden, args = (args[0], args[1:]) if args else (kwargs.pop("hidden_states"), ())
        if any(isinstance(t, Tensor) and t.requires_grad for t in tree_leaves((args, kwargs))):
            raise ModelError(
                f"a {type(layer).__name__} is given more than hidden states that depend on tracked weights, so its "
                "activations cannot be recomputed; set scale.recompute to false"
            )
        if not hidden.requires_grad:
            if layer not in tracked:
                return own(hidden, *args, **kwargs)
            hidden = hidden.detach().requires_grad_(True)
        seen = copy_context()

        def either(hidden: Tensor) -> Any:
            if not torch.is_grad_enabled():
                return own(hidden, *args, **kwargs)
            with again(), exact_in(hidden.dtype):  # a backward pass has no modes of Python's
                return seen.run(own, hidden, *args, **kwargs)

        return checkpoint(either, hidden, use_reentrant=True, preserve_rng_state=False)

    with layers_run_by(layers, run):
        yield
