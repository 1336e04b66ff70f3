"""Chains of thought for code tasks: the operations worked out on a small example, then the program."""

from __future__ import annotations

import random
import re
from typing import Any

from infra.data.schema import Span
from infra.world.behaviours import Sentence, assemble
from infra.world.catalogue import CODE_OP
from infra.world.code_problems import Call, CodeProblem

TRACED_SHARE = 0.5
"""How often every operation is worked out on the example; otherwise a random one is."""
ON_A_VALUE = frozenset({"subgoal", "fact", "verification", "backtracking"})
"""Behaviours that stand beside an operation; without any of them the program is written down straight away.

So lean traces of hard tasks are shorter than thorough ones of easy tasks: a token-matched flip needs that overlap."""
PLAN = ("Plan: {list}.", "I will {list}.")
SUBGOAL = ("Next, find step {i}.", "Now I need step {i}.")
FACT = ("{fact}.",)
COMPUTE = ("{doing} gives {value}.", "{doing} makes {value}.")
VERIFY = ("Check: {what} is {value}.", "Let me check: {what} is {value}, right.")
WAIT = ("Wait, that is not right.", "Wait, {wrong} is wrong.", "No, {wrong} is not right.")
EXPLORE = ("Maybe use a loop? No, one line.", "Alternatively, one long line? No, step by step.")
ANOTHER = ("Another way: `{alt}`.", "Alternatively, `{alt}`, the same.", "Another way: `{alt}`, again {value}.")


def example_argument(problem: CodeProblem, rng: random.Random) -> Any:
    """A small argument to work the task out on, close to the task's own numbers and letters."""
    parameters = [p for c in problem.calls for p in c.parameters]
    if problem.source == "n":
        return rng.randint(2, 12)
    if problem.source == "xs":
        numbers = [p for p in parameters if isinstance(p, int)] or [5]
        return [max(0, rng.choice(numbers) + rng.randint(-3, 3)) for _ in range(2)]
    letters = [p for p in parameters if isinstance(p, str)]
    return "".join(rng.choice([*letters, *"aelnorst"]) for _ in range(2))


def show(value: Any) -> str:
    """A value as Python writes it, without spaces in lists; a long one is cut and ends in dots."""
    text = repr(value).replace(", ", ",")
    return text if len(text) <= 14 else text[:10] + "..."


def wrong_value(value: Any, rng: random.Random) -> Any:
    """A slip: a value of the same type that differs from ``value`` and from how it is shown."""
    while True:
        wrong: Any
        if isinstance(value, int):
            wrong = value + rng.choice((-10, -2, -1, 1, 2, 10))
        elif isinstance(value, list):
            wrong = value[1:] if value and rng.random() < 0.5 else [*value[:1], rng.randint(1, 20), *value[2:]]
        else:
            wrong = value[1:] if value and rng.random() < 0.5 else rng.choice("aelnorst") + value[1:]
        if show(wrong) != show(value):
            return wrong


def code_response(
    problem: CodeProblem, style: str, behaviours: frozenset[str], rng: random.Random
) -> tuple[str, tuple[Span, ...]]:
    """The assistant turn for ``problem`` with exactly these optional behaviours, and its labelled spans."""
    argument = example_argument(problem, rng)
    values = [argument]
    for call in problem.calls:
        values.append(call.run(values[-1]))
    n = len(problem.calls)
    worked = list(range(n)) if rng.random() < TRACED_SHARE else [rng.randrange(n)]
    at = {b: rng.choice(worked) for b in sorted(ON_A_VALUE)}
    if not behaviours & ON_A_VALUE:
        worked = []
    out: list[Sentence] = []

    def say(label: str, text: str) -> None:
        out.append(
            Sentence(text[:1].upper() + text[1:] if style != "symbolic" or label != "computation" else text, (label,))
        )

    if "plan" in behaviours:
        names = ", ".join(CODE_OP[c.op].verb for c in problem.calls)
        say("plan", rng.choice(PLAN).format(list=names))
    if "exploration" in behaviours:
        say("exploration", rng.choice(EXPLORE))
    for i, call in enumerate(problem.calls):
        op, before, value = CODE_OP[call.op], values[i], values[i + 1]
        given = f"with {op.source}={show(before)}, " if worked and i == worked[0] else ""
        here = {name for name, index in at.items() if index == i and name in behaviours}
        if "subgoal" in here:
            say("subgoal", rng.choice(SUBGOAL).format(i=i + 1))
        if "fact" in here:
            say("fact", rng.choice(FACT).format(fact=call.fill(op.fact)))
        if "backtracking" in here:
            wrong = wrong_value(value, rng)
            say("computation", given + computation(call, style, before, wrong, rng))
            say("backtracking", rng.choice(WAIT).format(wrong=show(wrong)))
            given = ""
        if i in worked:
            say("computation", given + computation(call, style, before, value, rng))
        if "verification" in here:
            what = insert(call.fill(op.symbol), op.source, before)
            say("verification", rng.choice(VERIFY).format(what=what, value=show(value)))
    if "exploration_after_answer" in behaviours:
        last = problem.calls[-1]
        say(
            "exploration_after_answer",
            rng.choice(ANOTHER).format(alt=last.fill(CODE_OP[last.op].alt), value=show(values[-1])),
        )
    return assemble(out, f"```python\n{problem.solution}\n```")


def computation(call: Call, style: str, before: Any, value: Any, rng: random.Random) -> str:
    """One operation worked out: an equation or expression when symbolic, words when conversational."""
    op = CODE_OP[call.op]
    if style != "symbolic":
        return rng.choice(COMPUTE).format(doing=call.fill(op.doing), value=show(value))
    if op.source == "n":
        return f"{insert(call.fill(op.symbol), 'n', before)}={show(value)}."
    return f"{call.fill(op.symbol)}: {show(value)}."


def insert(symbol: str, name: str, value: Any) -> str:
    """``symbol`` with a number put in for ``n``; for lists and texts, the symbol applied to the value in words."""
    if name != "n":
        return f"{symbol} on {show(value)}"
    number = str(value) if value >= 0 else f"({value})"
    return "".join(number if word == "n" else word for word in _words(symbol)).replace(" ", "")


def _words(expression: str) -> list[str]:
    """The expression's names, numbers and signs, joined again they give it back."""
    return re.findall(r"[A-Za-z_]+|[^A-Za-z_]+", expression)
