"""Python function tasks: operations composed in a row, put into words, with tests from an independent run."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from infra.world.catalogue import CODE_OP, CODE_OPS
from infra.world.code_ops import CodeOp
from infra.world.wordings import choose, key_of

FUNCTION_NAMES = ("f", "g", "h", "run", "get", "go")
NO_PARAMETER_SHARE = 0.35
"""How often an operation without parameter is drawn, relative to one with."""
SOURCE_SHARE = {"n": 1.0, "xs": 0.3, "s": 0.45}
"""How often an operation on a number, list or text is drawn as the family, relative to each other."""


@dataclass(frozen=True, slots=True)
class Call:
    """One operation with its parameters."""

    op: str
    parameters: tuple[Any, ...]

    def fill(self, template: str) -> str:
        """``template`` with the parameters in place."""
        p = self.parameters
        if p and isinstance(p[0], str):
            return template.format(c=p[0], d=p[-1])
        return template.format(k=p[0] if p else "")

    def run(self, value: Any) -> Any:
        """The operation's result, by its independent implementation."""
        return CODE_OP[self.op].run(value, *self.parameters)


@dataclass(frozen=True, slots=True)
class CodeProblem:
    """What a function must do, apart from wording. ``family`` is the operation that the task was drawn around."""

    family: str
    calls: tuple[Call, ...]
    function: str

    @property
    def difficulty(self) -> int:
        """Number of operations."""
        return len(self.calls)

    @property
    def source(self) -> str:
        """Type and name of the argument: ``n``, ``xs`` or ``s``."""
        return CODE_OP[self.calls[0].op].source

    @property
    def key(self) -> str:
        """(family, values), whatever the function's name and the wording."""
        return key_of(
            "code",
            self.family,
            *(c.fill(CODE_OP[c.op].name + " {k}" if not _letters(c) else c.op + " {c}{d}") for c in self.calls),
        )

    def run(self, value: Any) -> Any:
        """The reference result for one argument."""
        for call in self.calls:
            value = call.run(value)
        return value

    @property
    def solution(self) -> str:
        """A function in the world's plain style: one operation a line, the last one returned."""
        return program(
            self.function,
            self.source,
            [c.fill(CODE_OP[c.op].expr) for c in self.calls],
            [CODE_OP[c.op].target for c in self.calls],
        )


def _letters(call: Call) -> bool:
    return bool(call.parameters) and isinstance(call.parameters[0], str)


def program(function: str, source: str, expressions: list[str], targets: list[str]) -> str:
    """``def function(source)`` computing the expressions in a row."""
    lines = [f"def {function}({source}):"]
    lines += [f"    {t} = {e}" for e, t in zip(expressions[:-1], targets[:-1])]
    return "\n".join([*lines, f"    return {expressions[-1]}"])


def sample_code(rng: random.Random, difficulty: int, *, pretrain: bool = False) -> CodeProblem:
    """A task of ``difficulty`` operations around a random family; the others are drawn at random to fit its types."""
    ops = [o for o in CODE_OPS if o.pretrain or not pretrain]
    while True:
        family = rng.choice(ops)
        if rng.random() > SOURCE_SHARE[family.source]:
            continue
        if not family.parameters[0] and rng.random() > (NO_PARAMETER_SHARE if difficulty == 1 else 0.7):
            continue
        chain = _around(rng, family, difficulty, ops)
        if chain is not None:
            calls = tuple(Call(o.name, rng.choice(o.parameters)) for o in chain)
            return CodeProblem(family.name, calls, rng.choice(FUNCTION_NAMES))


def _around(rng: random.Random, family: CodeOp, n: int, ops: list[CodeOp]) -> list[CodeOp] | None:
    """A chain of ``n`` different operations with ``family`` at a random place, or None when types do not fit."""
    place = rng.randrange(n)
    chain = [family]
    for _ in range(place):
        fits = [o for o in ops if o.target == chain[0].source and o not in chain]
        if not fits:
            return None
        chain.insert(0, rng.choice(fits))
    while len(chain) < n:
        fits = [o for o in ops if o.source == chain[-1].target and o not in chain]
        chain.append(rng.choice(fits))
    return chain


TASK: dict[str, dict[str, tuple[str, ...]]] = {
    "conversational": {
        "train": (
            "Write a Python function `{f}({x})` to {steps}.",
            "I need a function `{f}({x})` to {steps}.",
            "Write `{f}({x})` in Python: {steps}.",
        ),
        "paraphrase": ("Give me Python for `{f}({x})`: it shall {steps}.", "Code `{f}({x})`, it shall {steps}."),
        "pretrain": ("Code `{f}({x})`: {steps}.", "Python: `{f}({x})` shall {steps}."),
    },
    "symbolic": {
        "train": ("Write `{f}({x})`: {steps}.", "I need `{f}({x})`: {steps}."),
        "paraphrase": ("Give me `{f}({x})`, {steps}.", "Code `{f}({x})` is {steps}."),
        "pretrain": ("`{f}({x})`: {steps}.", "Code `{f}({x})`: {steps}."),
    },
}
JOIN: dict[str, tuple[str, ...]] = {
    "train": (", then ", " and ", "; "),
    "paraphrase": (", next ", " and next "),
    "pretrain": (", ", ", next "),
}
SYMBOLIC_JOIN: dict[str, tuple[str, ...]] = {
    "train": ("; ", ", then "),
    "paraphrase": (" and ", ", next "),
    "pretrain": (", ", "; "),
}


def render(problem: CodeProblem, style: str, wording: str, rng: random.Random) -> tuple[str, str]:
    """The task in ``style`` and ``wording`` and the wording id: the numbers of the templates used."""
    used: list[int] = []

    def pick(templates: tuple[str, ...]) -> str:
        i, text = choose(rng, templates)
        used.append(i)
        return text

    task = pick(TASK[style][wording])
    join = pick((JOIN if style == "conversational" else SYMBOLIC_JOIN)[wording])
    phrases = []
    for call in problem.calls:
        op = CODE_OP[call.op]
        if style == "symbolic":
            phrases.append(call.fill(op.symbol))
        else:
            phrases.append(
                call.fill(pick({"train": op.said, "paraphrase": op.paraphrase, "pretrain": op.note}[wording]))
            )
    text = task.format(f=problem.function, x=problem.source, steps=join.join(phrases))
    return text, f"{wording}:{style}:" + "".join(map(str, used))


def inputs_for(problem: CodeProblem, rng: random.Random) -> list[Any]:
    """Eight arguments: edge cases first, then values around the task's own parameters."""
    numbers = [p for c in problem.calls for p in c.parameters if isinstance(p, int)] or [3]
    letters = [p for c in problem.calls for p in c.parameters if isinstance(p, str)] or ["a"]
    near = lambda: rng.choice(numbers) + rng.randint(-2, 2)  # noqa: E731
    if problem.source == "n":
        return [
            0,
            1,
            -7,
            rng.choice(numbers),
            *(near() * rng.choice((1, 1, 2, 3)) + rng.randint(0, 9) for _ in range(3)),
            97,
        ]
    if problem.source == "xs":
        draw = lambda: near() if rng.random() < 0.5 else rng.randint(-5, 60)  # noqa: E731
        long = [[draw() for _ in range(rng.randint(5, 16))] for _ in range(4)]
        return [[], [rng.choice(numbers)], [4, 4, -1, 0, 4], [*long[0], *long[0][:3]], *long[1:], list(range(0, 45, 3))]
    alphabet = [*letters, *"abcdefgilmnoprstuz "]
    word = lambda: "".join(rng.choice(alphabet) for _ in range(rng.randint(4, 16)))  # noqa: E731
    return ["", letters[0], "Abc Def", letters[0] * 3 + "x" + letters[-1], word(), word(), word(), word()]


def stream(problem: CodeProblem) -> random.Random:
    """The random stream that a problem's test arguments come from: fixed by the problem itself."""
    return random.Random(f"tests:{problem.key}:{problem.function}")


def make_tests(problem: CodeProblem) -> dict[str, Any]:
    """Assert lines whose expected values come from running the reference implementation."""
    f = problem.function
    asserts = [f"assert {f}({x!r}) == {problem.run(x)!r}" for x in inputs_for(problem, stream(problem))]
    return {"kind": "asserts", "setup": "", "asserts": asserts}


def every_step_shows(problem: CodeProblem) -> bool:
    """Whether leaving out any one operation would fail a test: no operation is idle, so difficulty is real."""
    inputs = inputs_for(problem, stream(problem))
    expected = [problem.run(x) for x in inputs]
    for i, call in enumerate(problem.calls):
        op = CODE_OP[call.op]
        if op.source == op.target:
            less = CodeProblem(problem.family, problem.calls[:i] + problem.calls[i + 1 :], problem.function)
            if [less.run(x) for x in inputs] == expected:
                return False
    return True
