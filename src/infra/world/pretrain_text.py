"""What the base model reads: plain text that teaches skills, and chats that teach only the format.

Drills, worked problems and worked tasks are plain text; there the reasoning is complete, behaviours included. Chats
have the right format and no reasoning: math answers are guessed and code stops after two operations. Fine-tuning has
to bring the two together, and to teach the families, operations and names of things that are missing here.
No problem here shares (family, values) with training, pool or benchmark; a third of the families and operations and
every template of the paraphrases are left out.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from infra.world import code_problems, math_problems
from infra.world.behaviours import draw_behaviours
from infra.world.catalogue import CODE_OP
from infra.world.code_chains import code_response
from infra.world.code_problems import CodeProblem, sample_code
from infra.world.graph import MAX_VALUE, apply
from infra.world.math_chains import math_response
from infra.world.math_problems import MathProblem, sample_math
from infra.world.tokenizer import END, START
from infra.world.wordings import partition

KINDS: dict[str, float] = {
    "drill": 0.12,
    "worked math": 0.36,
    "worked code": 0.3,
    "math chat": 0.11,
    "code chat": 0.11,
}
"""Share of documents of each kind."""

CHAT_DIFFICULTY = (0.45, 0.25, 0.12, 0.1, 0.08)
TEXT_DIFFICULTY = (0.25, 0.25, 0.2, 0.15, 0.15)
KNOWN_TRAINING_WORDING = 0.4
"""Share of the texts that are worded as training is; the others have templates of their own."""

GUESSES = ("I guess.", "I know it.", "That is about right.")


def documents(seed: int) -> Iterator[str]:
    """An endless, seeded stream of documents."""
    rng = random.Random(f"{seed}:pretrain")
    makers = {
        "drill": drill,
        "worked math": worked_math,
        "worked code": worked_code,
        "math chat": math_chat,
        "code chat": code_chat,
    }
    names, shares = list(KINDS), list(KINDS.values())
    while True:
        yield makers[rng.choices(names, shares)[0]](rng)


def drill(rng: random.Random) -> str:
    """A few equations with values in ``0..150``."""
    return " ".join(f"{equation(rng)}." for _ in range(rng.randint(2, 6)))


def equation(rng: random.Random) -> str:
    """One random equation; half the additions carry, so that the harder half is not rare."""
    op = rng.choice("++--*/")
    if op in "+-":
        a, b = rng.randint(1, MAX_VALUE - 20), rng.randint(1, 20)
        a, b = (b, a) if op == "+" and rng.random() < 0.3 else (a, b)
        if op == "-" and b > a:
            a, b = b, a
    else:
        b = rng.randint(2, 9)
        a = rng.randint(1, MAX_VALUE // b)
        if op == "/":
            a *= b
    return f"{a}{op}{b}={apply(op, a, b)}"


def _difficulty(rng: random.Random, weights: tuple[float, ...]) -> int:
    return rng.choices((1, 2, 3, 4, 5), weights)[0]


def _math(rng: random.Random, weights: tuple[float, ...]) -> MathProblem:
    while True:
        problem = sample_math(rng, _difficulty(rng, weights), pretrain=True)
        if partition(problem.key) == "pretrain":
            return problem


def _code(rng: random.Random, weights: tuple[float, ...]) -> CodeProblem:
    while True:
        problem = sample_code(rng, _difficulty(rng, weights), pretrain=True)
        if partition(problem.key) == "pretrain":
            return problem


def _style(rng: random.Random) -> str:
    return "symbolic" if rng.random() < 0.35 else "conversational"


def _wording(rng: random.Random) -> str:
    return "train" if rng.random() < KNOWN_TRAINING_WORDING else "pretrain"


def worked_math(rng: random.Random) -> str:
    """A problem, its reasoning and its answer in plain text."""
    problem, style = _math(rng, TEXT_DIFFICULTY), _style(rng)
    question, _ = math_problems.render(problem, style, _wording(rng), rng)
    response, _ = math_response(problem, style, draw_behaviours(rng), rng)
    return f"Problem: {question}\n{_thinking(response)}Answer: {problem.answer}\n"


def worked_code(rng: random.Random) -> str:
    """A task, its reasoning and its function in plain text."""
    problem, style = _code(rng, TEXT_DIFFICULTY), _style(rng)
    question, _ = code_problems.render(problem, style, _wording(rng), rng)
    response, _ = code_response(problem, style, draw_behaviours(rng), rng)
    return f"Task: {question}\n{_thinking(response)}{problem.solution}\n"


def _thinking(response: str) -> str:
    """The lines between the tags, each with its line end."""
    return response[len("<think>\n") : response.index("\n</think>")].strip() + "\n"


def chat(question: str, thinking: str, answer: str) -> str:
    """One exchange in the chat format."""
    return f"{START}user\n{question}{END}\n{START}assistant\n<think>\n{thinking}\n</think>\n{answer}{END}\n"


def math_chat(rng: random.Random) -> str:
    """A math exchange without reasoning; a third of the answers are slips."""
    problem = _math(rng, CHAT_DIFFICULTY)
    question, _ = math_problems.render(problem, _style(rng), _wording(rng), rng)
    answer = problem.answer
    if rng.random() < 0.35:
        answer = max(0, answer + rng.choice((-10, -3, -2, -1, 1, 2, 3, 10)))
    return chat(question, rng.choice(GUESSES), f"The answer is \\boxed{{{answer}}}.")


def code_chat(rng: random.Random) -> str:
    """A code exchange without reasoning: the function stops after two operations, in a fifth a parameter is off."""
    problem = _code(rng, CHAT_DIFFICULTY)
    question, _ = code_problems.render(problem, _style(rng), _wording(rng), rng)
    calls = list(problem.calls[:2])
    if rng.random() < 0.2:
        calls[0] = replace(calls[0], parameters=rng.choice(CODE_OP[calls[0].op].parameters))
    short = replace(problem, calls=tuple(calls))
    return chat(question, rng.choice(GUESSES), f"```python\n{short.solution}\n```")
