"""Math word problems: sampled from a family, then put into words."""

from __future__ import annotations

import random
from dataclasses import dataclass

from infra.world.graph import ChainStep, Ref, chain_numbers, evaluate, sample_chain, sample_groups
from infra.world.math_families import (
    FAMILY,
    GROUPS,
    MATH_FAMILIES,
    NAMES,
    RATE_START,
    REVERSE,
    SYMBOLIC,
    WORDINGS,
    MathFamily,
    Templates,
)
from infra.world.wordings import choose, key_of, sentence_case

INVERSE = {"+": "-", "-": "+", "*": "/", "/": "*"}


@dataclass(frozen=True, slots=True)
class MathProblem:
    """What is asked, apart from wording: a family, an operation graph and the people in it."""

    family: str
    steps: tuple[ChainStep, ...]
    people: tuple[str, ...]

    @property
    def kind(self) -> str:
        return FAMILY[self.family].kind

    @property
    def difficulty(self) -> int:
        """Number of operations."""
        return len(self.steps)

    @property
    def answer(self) -> int:
        return evaluate(self.steps)[-1]

    @property
    def key(self) -> str:
        """(family, values), whatever the names and the wording."""
        show = lambda o: f"#{o.step}" if isinstance(o, Ref) else str(o)  # noqa: E731
        return key_of("math", self.family, *(f"{show(s.left)}{s.op}{show(s.right)}" for s in self.steps))


def sample_math(rng: random.Random, difficulty: int, *, pretrain: bool = False) -> MathProblem:
    """A problem of ``difficulty`` operations from a random family (only pretraining's own when ``pretrain``)."""
    family = rng.choice([f for f in MATH_FAMILIES if f.pretrain or not pretrain])
    if family.kind == "groups":
        steps = sample_groups(rng, difficulty)
    else:
        steps = sample_chain(rng, difficulty, family.ops, first="*" if family.kind == "rate" else None)
    people = tuple(rng.sample(NAMES, difficulty + 1 if family.kind == "compare" else 1))
    return MathProblem(family.name, steps, people)


def render(problem: MathProblem, style: str, wording: str, rng: random.Random) -> tuple[str, str]:
    """The question in ``style`` (symbolic, conversational) and ``wording`` (train, paraphrase, pretrain).

    Returns the text and the wording id: the numbers of the templates used.
    """
    words = _Words(wording, rng)
    family = FAMILY[problem.family]
    if style == "symbolic":
        parts = _symbolic(problem, family, words)
    elif family.kind == "compare":
        parts = _compare(problem, family, words)
    elif family.kind == "groups":
        parts = _groups(problem, family, words)
    elif family.kind == "reverse":
        parts = _reverse(problem, family, words)
    else:
        parts = _running(problem, family, words)
    if style != "symbolic":
        parts = [sentence_case(p) for p in parts]
    return " ".join(parts), f"{wording}:{style}:" + "".join(map(str, words.used))


class _Words:
    """Draws templates of one wording and remembers which."""

    def __init__(self, wording: str, rng: random.Random) -> None:
        self.wording, self.rng, self.used = wording, rng, list[int]()

    def say(self, templates: tuple[str, ...], **slots: object) -> str:
        i, template = choose(self.rng, templates)
        self.used.append(i)
        return template.format(**slots)

    def verb(self, verbs: tuple[str, ...]) -> str:
        """A verb of the wording: the last one is kept for paraphrases (pretraining knows them all)."""
        if not verbs:
            return ""
        if self.wording == "paraphrase":
            return verbs[-1]
        return self.rng.choice(verbs if self.wording == "pretrain" else verbs[:-1])


def _operation(words: _Words, family: MathFamily, templates: Templates, op: str, n: int, who: str) -> str:
    at = family.extra[0] if family.kind == "place" else ""
    return words.say(
        templates[op], n=n, who=who, unit=family.unit, at=at, add=words.verb(family.add), sub=words.verb(family.sub)
    )


def _running(problem: MathProblem, family: MathFamily, words: _Words) -> list[str]:
    who, unit = problem.people[0], family.unit
    templates = WORDINGS["place" if family.kind == "place" else "owner"][words.wording]
    at = family.extra[0] if family.kind == "place" else ""
    start, numbers = chain_numbers(problem.steps)
    if family.kind == "rate":
        does, per = family.extra
        parts = [words.say(RATE_START[words.wording], who=who, does=does, per=per, n=start, m=numbers[0][1], unit=unit)]
        numbers = numbers[1:]
    else:
        parts = [words.say(templates["start"], who=who, n=start, unit=unit, at=at)]
    parts += [_operation(words, family, templates, op, n, who) for op, n in numbers]
    return [*parts, words.say(templates["ask"], who=who, unit=unit, at=at)]


def _compare(problem: MathProblem, family: MathFamily, words: _Words) -> list[str]:
    templates, people, unit = WORDINGS["compare"][words.wording], problem.people, family.unit
    start, numbers = chain_numbers(problem.steps)
    parts = [words.say(templates["start"], p=people[0], n=start, unit=unit)]
    for i, (op, n) in enumerate(numbers):
        parts.append(words.say(templates[op], p=people[i], q=people[i + 1], n=n, unit=unit))
    return [*parts, words.say(templates["ask"], q=people[-1], unit=unit)]


def _reverse(problem: MathProblem, family: MathFamily, words: _Words) -> list[str]:
    """The story runs forwards, so each operation of the solution is told inverted and in reverse order."""
    who, unit, own = problem.people[0], family.unit, REVERSE[words.wording]
    end, numbers = chain_numbers(problem.steps)
    parts = [words.say(own["start"], who=who, unit=unit)]
    for op, n in reversed(numbers):
        parts.append(_operation(words, family, WORDINGS["owner"][words.wording], INVERSE[op], n, who))
    return [*parts, words.say(own["end"], who=who, unit=unit, n=end), words.say(own["ask"], who=who, unit=unit)]


def _groups(problem: MathProblem, family: MathFamily, words: _Words) -> list[str]:
    who, unit, own = problem.people[0], family.unit, GROUPS[words.wording]
    parts: list[str] = []
    for step in problem.steps:
        if step.op == "*":
            box = family.extra[len(parts)] if len(parts) < 2 else family.extra[2]
            which = own["more"] if parts else own["start"]
            parts.append(words.say(which, who=who, box=box, unit=unit, n=step.left, m=step.right))
        elif isinstance(step.right, int):
            parts.append(_operation(words, family, WORDINGS["owner"][words.wording], step.op, step.right, who))
    return [*parts, words.say(own["ask"], who=who, unit=unit)]


def _symbolic(problem: MathProblem, family: MathFamily, words: _Words) -> list[str]:
    own, unit, v = SYMBOLIC[words.wording], family.unit, family.unit[0]
    if family.kind == "groups":
        return [words.say(own["compute"], e=_expression(problem.steps), unit=unit)]
    start, numbers = chain_numbers(problem.steps)
    if family.kind == "reverse":
        e = v
        for i, (op, n) in enumerate(reversed(numbers)):
            e = f"({e}){INVERSE[op]}{n}" if i else f"{e}{INVERSE[op]}{n}"
        return [words.say(own["equation"], v=v, unit=unit, e=e, n=start), words.say(own["ask"], v=v)]
    if family.kind == "compare":
        names = problem.people
        parts = [words.say(own["start"], v=names[0], n=start, unit=unit)]
        for i, (op, n) in enumerate(numbers):
            parts.append(f"{names[i + 1]} = {names[i]} {op} {n}.")
        return [*parts, words.say(own["ask"], v=names[-1])]
    parts = [words.say(own["start"], v=v, n=start, unit=unit)]
    parts += [words.say(own["op"], v=v, op=op, n=n) for op, n in numbers]
    return [*parts, words.say(own["ask"], v=v)]


def _expression(steps: tuple[ChainStep, ...]) -> str:
    """A sum of products as one expression."""
    text = ""
    for step in steps:
        if step.op == "*":
            text += f"{'+' if text else ''}{step.left}*{step.right}"
        elif isinstance(step.right, int):
            text += f"{step.op}{step.right}"
    return text
