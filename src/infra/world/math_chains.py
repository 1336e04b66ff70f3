"""Chains of thought for math problems, sentence by sentence, with what each sentence does."""

from __future__ import annotations

import random

from infra.data.schema import Span
from infra.world.behaviours import Sentence, assemble
from infra.world.graph import apply, evaluate, operands
from infra.world.math_families import FAMILY
from infra.world.math_problems import INVERSE, MathProblem

VERB = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide"}
PLAN = ("Plan: {list}.", "I will {list}.")
SUBGOAL = ("Next, find step {i}.", "Now I need step {i}.")
FACT = {
    "+": ("More means plus.", "To get {b} means plus {b}."),
    "-": ("Fewer means minus.", "To lose {b} means minus {b}."),
    "*": ("Times means a product.", "{b} times means a product with {b}."),
    "/": ("Equal parts mean a division.", "{b} equal parts mean a division by {b}."),
}
REVERSED_FACT = ("Going back, plus means minus.", "Going back means the other sign.")
COMPUTE = {
    "+": ("So there are {eq} {unit}.", "That makes {eq}.", "This gives {eq}."),
    "-": ("So {eq} {unit} are left.", "That leaves {eq}.", "This gives {eq}."),
    "*": ("So there are {eq} {unit}.", "That makes {eq}.", "This gives {eq}."),
    "/": ("So one part is {eq} {unit}.", "That leaves {eq}.", "This gives {eq}."),
}
VERIFY = ("Check: {inverse}.", "Let me check: {inverse}, right.")
WAIT = ("Wait, that is not right.", "Wait, {wrong} is wrong.", "No, {wrong} is not right.")
EXPLORE = ("Maybe go back from the end? No, in order.", "Alternatively, guess and check? No, step by step.")
ANOTHER = ("Another way: {alt}.", "Alternatively, {alt}, the same.", "Another way: {alt}, again {value}.")


def math_response(
    problem: MathProblem, style: str, behaviours: frozenset[str], rng: random.Random
) -> tuple[str, tuple[Span, ...]]:
    """The assistant turn for ``problem`` with exactly these optional behaviours, and its labelled spans."""
    steps, values = problem.steps, evaluate(problem.steps)
    unit, n = FAMILY[problem.family].unit, len(steps)
    at = {b: rng.randrange(n) for b in ("subgoal", "fact", "verification", "backtracking")}
    out: list[Sentence] = []

    def say(label: str, templates: tuple[str, ...], **slots: object) -> None:
        out.append(Sentence(rng.choice(templates).format(unit=unit, **slots), (label,)))

    if "plan" in behaviours:
        say("plan", PLAN, list=", ".join(VERB[s.op] for s in steps))
    if "exploration" in behaviours:
        say("exploration", EXPLORE)
    for i, step in enumerate(steps):
        a, b = operands(steps, i, values)
        here = {name for name, index in at.items() if index == i and name in behaviours}
        if "subgoal" in here:
            say("subgoal", SUBGOAL, i=i + 1)
        if "fact" in here:
            say("fact", REVERSED_FACT if problem.kind == "reverse" else FACT[step.op], b=b)
        compute = ("{eq}.",) if style == "symbolic" else COMPUTE[step.op]
        if "backtracking" in here:
            attempt, wrong = wrong_attempt(step.op, a, b, values[i], rng)
            say("computation", compute, eq=attempt)
            say("backtracking", WAIT, wrong=wrong)
        say("computation", compute, eq=f"{a}{step.op}{b}={values[i]}")
        if "verification" in here:
            say("verification", VERIFY, inverse=inverse_equation(step.op, a, b, values[i]))
    if "exploration_after_answer" in behaviours:
        a, b = operands(steps, n - 1, values)
        say("exploration_after_answer", ANOTHER, alt=another_way(steps[-1].op, a, b), value=values[-1])
    return assemble(out, f"The answer is \\boxed{{{problem.answer}}}.")


def wrong_attempt(op: str, a: int, b: int, value: int, rng: random.Random) -> tuple[str, int]:
    """A step gone wrong: a slip in the arithmetic, or the opposite operation. Its value is never ``value``."""
    if rng.random() < 0.3:
        try:
            other = apply(INVERSE[op], a, b)
        except ValueError:
            other = -1
        if other >= 0 and other != value:
            return f"{a}{INVERSE[op]}{b}={other}", other
    wrong = value
    while wrong == value or wrong < 0:
        wrong = value + rng.choice((-10, -2, -1, 1, 2, 10))
    return f"{a}{op}{b}={wrong}", wrong


def inverse_equation(op: str, a: int, b: int, value: int) -> str:
    """The step recomputed from its result: ``12-5=7`` for ``7+5=12``."""
    return f"{value}{INVERSE[op]}{b}={a}"


def another_way(op: str, a: int, b: int) -> str:
    """The last step done differently: in two parts, by repeated addition, or by multiplying back."""
    value = apply(op, a, b)
    if op in "+-":
        part = b // 2
        middle = apply(op, a, part)
        return f"{a}{op}{part}={middle}, {middle}{op}{b - part}={value}"
    if op == "*":
        if b <= 4:
            return "+".join([str(a)] * b) + f"={value}"
        return f"{a}*{b - 1}={a * (b - 1)}, {a * (b - 1)}+{a}={value}"
    return f"{b}*{value}={a}, so {a}/{b}={value}"
