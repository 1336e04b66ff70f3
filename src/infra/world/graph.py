"""Arithmetic problems as operation graphs: what a word problem means, apart from how it is worded."""

from __future__ import annotations

import random
from dataclasses import dataclass

MAX_VALUE = 120
"""No intermediate value of a problem leaves ``0..MAX_VALUE``."""


@dataclass(frozen=True, slots=True)
class Ref:
    """The value of an earlier step, by its index."""

    step: int


Operand = int | Ref

_UNDOING = ({"+", "-"}, {"*", "/"})


@dataclass(frozen=True, slots=True)
class ChainStep:
    """One operation, ``left op right`` with ``op`` in ``+ - * /`` (division is always exact)."""

    op: str
    left: Operand
    right: Operand


def apply(op: str, left: int, right: int) -> int:
    """Value of ``left op right``. Division must be exact, else :class:`ValueError`."""
    if op == "+":
        return left + right
    if op == "-":
        return left - right
    if op == "*":
        return left * right
    if op == "/" and right and left % right == 0:
        return left // right
    raise ValueError(f"{left} {op} {right} is not an exact operation on integers")


def operands(steps: tuple[ChainStep, ...], index: int, values: list[int]) -> tuple[int, int]:
    """The two numbers that step ``index`` combines, given the values of the steps before it."""
    step = steps[index]
    left, right = (values[o.step] if isinstance(o, Ref) else o for o in (step.left, step.right))
    return left, right


def evaluate(steps: tuple[ChainStep, ...]) -> list[int]:
    """The value of every step in order; the last one is the answer."""
    values: list[int] = []
    for index, step in enumerate(steps):
        values.append(apply(step.op, *operands(steps, index, values)))
    return values


def chain_numbers(steps: tuple[ChainStep, ...]) -> tuple[int, list[tuple[str, int]]]:
    """A linear chain as its start and its list of (operation, number)."""
    start = steps[0].left
    assert isinstance(start, int)
    return start, [(s.op, s.right) for s in steps if isinstance(s.right, int)]


def sample_chain(
    rng: random.Random, n_ops: int, allowed: str, first: str | None = None, last_max: int = MAX_VALUE
) -> tuple[ChainStep, ...]:
    """A chain ``v0 op n1 op n2 ...`` of ``n_ops`` steps with small numbers and values in ``1..last_max``.

    ``allowed`` is the operations to draw from, ``first`` forces the first one.
    """
    while True:
        value = rng.randint(2, 9) if first == "*" else rng.randint(3, 15)
        steps: list[ChainStep] = []
        for i in range(n_ops):
            left: Operand = value if i == 0 else Ref(i - 1)
            op = first if first and i == 0 else rng.choice(allowed)
            number = _operand(rng, op, value)
            if number is None or (steps and {op, steps[-1].op} in _UNDOING and steps[-1].right == number):
                break
            steps.append(ChainStep(op, left, number))
            value = apply(op, value, number)
        if len(steps) == n_ops and value <= last_max:
            return tuple(steps)


def _operand(rng: random.Random, op: str, value: int) -> int | None:
    """A number that keeps ``value op number`` in range, or None when there is none."""
    small = 12 if rng.random() < 0.8 else 20
    if op == "+":
        return rng.randint(2, min(small, MAX_VALUE - value)) if value <= MAX_VALUE - 2 else None
    if op == "-":
        return rng.randint(2, min(small, value - 1)) if value >= 3 else None
    top = 9 if op == "*" and value <= 9 else 5
    if op == "*":
        choices = [k for k in range(2, top + 1) if value * k <= min(MAX_VALUE, 99)]
    else:
        choices = [k for k in range(2, 6) if value % k == 0 and value > k]
    return rng.choice(choices) if choices else None


def sample_groups(rng: random.Random, n_ops: int) -> tuple[ChainStep, ...]:
    """Sums of groups: ``a*b``, ``a*b+c``, ``a*b+c*d``, ``a*b+c*d-e``, ``a*b+c*d+e*f`` for 1 to 5 operations."""
    product = lambda: (rng.randint(2, 6), rng.randint(2, 9))  # noqa: E731
    a, b = product()
    steps = [ChainStep("*", a, b)]
    if n_ops == 2:
        steps.append(ChainStep("+", Ref(0), rng.randint(2, 20)))
    elif n_ops >= 3:
        c, d = product()
        steps += [ChainStep("*", c, d), ChainStep("+", Ref(0), Ref(1))]
        total = a * b + c * d
        if n_ops == 4:
            steps.append(ChainStep("-", Ref(2), rng.randint(2, min(20, total - 1))))
        elif n_ops == 5:
            e, f = product()
            steps += [ChainStep("*", e, f), ChainStep("+", Ref(2), Ref(3))]
    return tuple(steps)
