"""The decoder layers of a model, and other ways to run them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

from infra.errors import ModelError


def causal_model(model: Any) -> Any:
    """The causal language model itself, without a PEFT wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def layers_of(model: Any) -> list[nn.Module]:
    """The decoder layers: the longest ``ModuleList`` of the backbone that lies in no other one.

    Raises :class:`ModelError` without one.
    """
    base = causal_model(model).base_model
    lists: dict[str, nn.ModuleList] = {}
    for name, module in base.named_modules():
        if isinstance(module, nn.ModuleList) and not any(name.startswith(f"{outer}.") for outer in lists):
            lists[name] = module
    if not any(map(len, lists.values())):
        raise ModelError(f"{type(base).__name__} has no list of decoder layers")
    return max((list(layers) for layers in lists.values()), key=len)


@contextmanager
def layers_run_by(layers: Sequence[nn.Module], run: Callable[..., Any]) -> Iterator[None]:
    """In the block, a layer calls ``run(layer, its own forward, *args, **kwargs)`` between its hooks."""
    before = [(layer, layer.__dict__.get("forward")) for layer in layers]
    for layer in layers:
        layer.forward = partial(run, layer, layer.forward)
    try:
        yield
    finally:
        for layer, own in before:
            del layer.__dict__["forward"]
            if own is not None:
                layer.__dict__["forward"] = own
