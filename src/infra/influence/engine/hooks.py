"""Hooks that others left on a model's modules: one kind is set aside, the rest are named when they are in the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

MARKS = ("make_inputs_require_grad", "enable_input_require_grads")
"""In the names of the hooks by which transformers and PEFT make an embedding's output require a gradient."""


def name_of(hook: Any) -> str:
    """What a hook calls itself."""
    return str(getattr(hook, "__qualname__", None) or type(hook).__name__)


@contextmanager
def without_gradient_hooks(model: nn.Module) -> Iterator[None]:
    """In the block the embedding's output is not made to require a gradient.

    Gradient checkpointing leaves such a hook behind, also when training is over. It changes no value, and
    ``requires_grad_`` cannot run in forward mode. The hooks are back, in their order, on exit.
    """
    before = {module: dict(module._forward_hooks) for module in model.modules() if module._forward_hooks}
    try:
        for module, hooks in before.items():
            for key, hook in hooks.items():
                if any(mark in name_of(hook) for mark in MARKS):
                    del module._forward_hooks[key]
        yield
    finally:
        for module, hooks in before.items():
            added = {k: h for k, h in module._forward_hooks.items() if k not in hooks}
            module._forward_hooks.clear()
            module._forward_hooks.update({**hooks, **added})


def hooks_on(model: nn.Module, name: str) -> list[str]:
    """The names of the forward hooks on the module called ``name``."""
    module = dict(model.named_modules()).get(name)
    return [] if module is None else [name_of(hook) for hook in module._forward_hooks.values()]
