"""Tracked weights: the named parameters whose gradients attribution looks at.

A weight is a parameter, not a module, so that a matrix used at several places (tied), kept transposed
(GPT-2's ``Conv1D``) or fused over experts in three dimensions is one thing with one name. Each tracked weight
is one or more *blocks*: matrices ``[out, in]``, or ``[out, in + 1]`` with the bias as last column, which
is what a Kronecker factor describes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from infra.errors import InputError, ModelError

PATTERNS = {
    "mlp": r"(^|\.)(mlp|feed_forward|ffn|block_sparse_moe|moe)\.",
    "attention": r"(^|\.)(self_attn|attn|attention|self_attention)\.",
    "all": r"(^|\.)\d+\.",
}


@dataclass(frozen=True)
class Block:
    """One matrix of a tracked weight: the whole of it, or one expert's slice.

    ``shape`` is ``(out, in)`` without the bias column.
    """

    key: str
    weight: str
    bias: str | None
    expert: int | None
    transposed: bool
    shape: tuple[int, int]

    @property
    def columns(self) -> int:
        """Number of columns of :meth:`matrix`: inputs, plus one when there is a bias."""
        return self.shape[1] + (self.bias is not None)

    def matrix(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The block of a direction or gradient as one matrix ``[out, in (+ 1)]``."""
        part = tensors[self.weight]
        part = part if self.expert is None else part[self.expert]
        part = part.T if self.transposed else part
        if self.bias is None:
            return part
        column = tensors[self.bias]
        return torch.cat([part, (column if self.expert is None else column[self.expert])[:, None]], dim=1)

    def store(self, matrix: Tensor, into: Mapping[str, Tensor]) -> None:
        """Write ``[out, in (+ 1)]`` back into the parameter-shaped tensors of ``into``; inverse of
        :meth:`matrix`.
        """
        weight = into[self.weight] if self.expert is None else into[self.weight][self.expert]
        part = matrix[:, : self.shape[1]]
        weight.copy_(part.T if self.transposed else part)
        if self.bias is not None:
            (into[self.bias] if self.expert is None else into[self.bias][self.expert]).copy_(matrix[:, -1])


@dataclass(frozen=True)
class TrackedWeight:
    """One tracked parameter, with the modules that use it. ``kind`` is ``linear``, ``conv1d`` or ``experts``."""

    name: str
    kind: str
    modules: tuple[str, ...]
    bias: str | None
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class TrackedWeights:
    """The tracked weights of one model, in the model's order.

    Attributes:
        parameters: name to parameter, biases included.
        coverage: their share of all the model's parameters, from 0 to 1.
        left_out: parameters that the pattern touches and that are not tracked, each with the reason.
    """

    weights: tuple[TrackedWeight, ...]
    parameters: dict[str, Tensor] = field(repr=False)
    total: int
    left_out: dict[str, str]
    pattern: str

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names, biases included: the keys of every direction over these weights."""
        return tuple(self.parameters)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks, in the model's order."""
        return tuple(block for weight in self.weights for block in weight.blocks)

    @property
    def size(self) -> int:
        """Number of tracked scalars."""
        return sum(p.numel() for p in self.parameters.values())

    @property
    def coverage(self) -> float:
        """Fraction of the model's parameters that is tracked, in [0, 1]."""
        return self.size / self.total

    def __len__(self) -> int:
        return len(self.weights)

    def __str__(self) -> str:
        out = f", {len(self.left_out)} left out" if self.left_out else ""
        share = f"{self.size:,} parameters, {self.coverage:.1%} of the model"
        return f"{len(self)} weights ({self.pattern}), {share}{out}"


def tracked_weights(model: nn.Module, pattern: str = "mlp") -> TrackedWeights:
    """Name the weights of a model to attribute through. A weight's bias comes with it.

    In a model with LoRA adapters only the adapters are tracked, since nothing else was trained.

    Args:
        model: the model, in memory.
        pattern: ``mlp``, ``attention``, ``all`` (both, without embeddings and output head), or a regular expression
            that is searched in parameter names.

    Returns:
        The tracked weights. Routers and norms under the three named patterns are listed in ``left_out``.

    Raises:
        InputError: the pattern matches nothing.
        ModelError: a weight that matches cannot be tracked, by name.
    """
    named = pattern in PATTERNS
    try:
        expression = re.compile(PATTERNS.get(pattern, pattern))
    except re.error as error:
        raise InputError(f"weight pattern {pattern!r} is no regular expression: {error}") from error
    first = {id(p): name for name, p in model.named_parameters()}
    aliases = [(alias, first[id(p)]) for alias, p in model.named_parameters(remove_duplicate=False)]
    matched = [(alias, name) for alias, name in aliases if expression.search(alias)]
    if pattern == "all":
        matched = [pair for pair in matched if re.search(PATTERNS["mlp"] + "|" + PATTERNS["attention"], pair[0])]
    if any("lora_" in name for name in first.values()):
        matched = [pair for pair in matched if "lora_" in pair[1]]
    names = list(dict.fromkeys(name for _, name in matched))  # a tied weight counts once, under its first name
    return _build(model, names, pattern, strict=not named)


def tracked_by_names(model: nn.Module, names: Iterable[str]) -> TrackedWeights:
    """The tracked weights that a saved direction or curvature speaks of, found again by parameter name.

    Args:
        model: the model, in memory.
        names: of its parameters.

    Raises:
        ModelError: a parameter that this model does not have, or that cannot be tracked, by name.
    """
    wanted = list(names)
    have = {name for name, _ in model.named_parameters()}
    missing = [name for name in wanted if name not in have]
    if missing:
        raise ModelError(f"this model has no parameter {missing[0]} ({len(missing)} missing); is it another model?")
    tracked = _build(model, wanted, "by name", strict=True)
    extra = set(tracked.names) - set(wanted)
    if extra:
        raise ModelError(f"parameter {sorted(extra)[0]} is the bias of a tracked weight and missing from the names")
    return tracked


def _build(model: nn.Module, matched: list[str], pattern: str, strict: bool) -> TrackedWeights:
    uses = _uses(model)
    every = dict(model.named_parameters())
    taken: dict[str, TrackedWeight] = {}
    biases: set[str] = set()
    left_out: dict[str, str] = {}
    for name in matched:
        weight = _adapter_problem(model, name) or _describe(name, every, uses.get(name, []))
        if isinstance(weight, TrackedWeight):
            taken[name] = weight
            biases |= {weight.bias} if weight.bias else set()
        else:
            left_out[name] = weight
    left_out = {name: why for name, why in left_out.items() if name not in biases}
    refused = {name: why for name, why in left_out.items() if strict or (every[name].ndim > 1 and "router" not in why)}
    if refused:
        listed = "; ".join(f"{name}: {why}" for name, why in list(refused.items())[:5])
        raise ModelError(
            f"{len(refused)} weights matched by {pattern!r} cannot be tracked: {listed}; narrow the pattern"
        )
    if not taken:
        raise InputError(f"weight pattern {pattern!r} matches no trackable weight of {type(model).__name__}")
    order = [name for name in every if name in taken or name in biases]
    return TrackedWeights(
        weights=tuple(taken[name] for name in every if name in taken),
        parameters={name: every[name] for name in order},
        total=sum(p.numel() for p in every.values()),
        left_out=left_out,
        pattern=pattern,
    )


def _uses(model: nn.Module) -> dict[str, list[tuple[str, nn.Module, str]]]:
    """Parameter name to all (module name, module, attribute) that hold it; tied parameters have several."""
    first_name = {id(p): name for name, p in model.named_parameters()}
    uses: dict[str, list[tuple[str, nn.Module, str]]] = {}
    for module_name, module in model.named_modules():
        for attribute, parameter in module._parameters.items():
            if parameter is not None:
                uses.setdefault(first_name[id(parameter)], []).append((module_name, module, attribute))
    return uses


def _adapter_problem(model: nn.Module, name: str) -> str | None:
    """Why a LoRA matrix of PEFT does not act as a linear layer on every token, if so."""
    found = re.search(r"^(.*)\.lora_[AB]\.([^.]+)\.", name)
    if found is None:
        return None
    layer: Any = model.get_submodule(found[1])
    adapter = found[2]
    if type(layer).__name__ == "ParamWrapper":
        return "it adapts a fused parameter (target_parameters), which PEFT adds to the weights and never calls"
    if adapter in getattr(layer, "lora_variant", {}):
        variant = type(layer.lora_variant[adapter]).__name__
        return f"it belongs to a {variant}, whose effect is not a product with the tokens alone"
    if adapter not in layer.active_adapters or layer.disable_adapters or layer.merged:
        return f"adapter {adapter!r} is not active; call set_adapter, enable_adapters or unmerge first"
    return None


def _describe(name: str, every: Mapping[str, Tensor], uses: list[tuple[str, nn.Module, str]]) -> TrackedWeight | str:
    """The tracked weight called ``name``, or why it cannot be one."""
    parameter = every[name]
    if not parameter.is_floating_point():
        return f"its values are {parameter.dtype}, not floating point (a quantised weight)"
    first_name = {id(p): n for n, p in every.items()}
    kinds = {_kind(module, attribute, parameter) for _, module, attribute in uses}
    if len(kinds) != 1:
        places = ", ".join(f"{module_name}.{attribute}" for module_name, _, attribute in uses)
        return f"it is shared by modules of different kinds ({places}: {', '.join(sorted(kinds))})"
    kind = kinds.pop()
    modules = tuple(module_name for module_name, _, _ in uses)
    if kind not in ("linear", "conv1d", "experts"):
        return kind
    if len(uses) > 1 and kind == "experts":
        return "it is a fused expert weight shared by several modules"
    held = [getattr(m, f"{a}_bias" if kind == "experts" else "bias", None) for _, m, a in uses]
    if len({id(b) for b in held}) > 1:
        return "it is shared by modules that have different biases"
    bias = None if held[0] is None else first_name[id(held[0])]
    transposed = kind == "conv1d" or (kind == "experts" and bool(getattr(uses[0][1], "is_transposed", False)))
    rows, columns = parameter.shape[-2:]
    shape = (int(columns), int(rows)) if transposed else (int(rows), int(columns))
    if kind == "experts":
        blocks = tuple(Block(f"{name}[{e}]", name, bias, e, transposed, shape) for e in range(parameter.shape[0]))
    else:
        blocks = (Block(name, name, bias, None, transposed, shape),)
    return TrackedWeight(name, kind, modules, bias, blocks)


def _kind(module: nn.Module, attribute: str, parameter: Tensor) -> str:
    """``linear``, ``conv1d``, ``experts``, or the reason why the parameter is none of them."""
    if attribute == "weight" and isinstance(module, nn.Linear):
        return "linear"
    if attribute == "weight" and type(module).__name__ == "Conv1D" and parameter.ndim == 2:
        return "conv1d"
    if parameter.ndim == 3 and attribute in ("gate_up_proj", "up_proj", "down_proj") and _is_experts(module):
        return "experts"
    if "Router" in type(module).__name__ or "router" in attribute:
        return "it is a router, whose choice of experts is not differentiable"
    return f"a {attribute} of {type(module).__name__} is no linear map that the engine knows"


def _is_experts(module: Any) -> bool:
    return hasattr(module, "is_transposed") and hasattr(module, "_apply_gate")
