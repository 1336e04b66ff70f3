"""The embedded world: three training sets, a pool and benchmark problems, all from one seed."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from infra.data.schema import Message, Record, Span, record_id
from infra.errors import InputError
from infra.world import code_chains, code_problems, math_chains, math_problems
from infra.world.behaviours import OPTIONAL, draw_behaviours
from infra.world.code_problems import CodeProblem, every_step_shows
from infra.world.math_problems import MathProblem
from infra.world.wordings import partition

SOURCE = "world-v1"
DOMAINS = ("math", "code")
SYMBOLIC_SHARE = 0.35
TRAIN_SIZE, POOL_SIZE = 1500, 2000
"""Per domain. The pool is the larger one, or a token-matched flip of 30% finds too few easy code traces long enough."""
HELD_OUT_SIZE, TARGET_SIZE = 400, 240

SKEWED = (450, 450, 300, 180, 120)
"""Training examples at difficulty 1 to 5 in a domain with too much easy material."""

MIXES: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "default": {"math": SKEWED, "code": SKEWED[::-1]},
    "balanced": {"math": (300,) * 5, "code": (300,) * 5},
    "opposite": {"math": SKEWED[::-1], "code": SKEWED},
}
"""The three worlds: training examples per domain and difficulty. Pool and problems are the same in all."""

Problem = MathProblem | CodeProblem


@dataclass(frozen=True, slots=True)
class World:
    """One world. ``problems`` maps a task's name to its problems, each marked ``target`` or ``held-out``."""

    name: str
    seed: int
    train: tuple[Record, ...]
    pool: tuple[Record, ...]
    problems: Mapping[str, tuple[Record, ...]]


def build_world(name: str = "default", seed: int = 0) -> World:
    """The world ``default`` (too much easy math and hard code), ``balanced`` or ``opposite``. Takes seconds.

    Worlds of one seed share pool and problems; their training sets overlap where the mixes do. An unknown name
    raises :class:`InputError`.
    """
    if name not in MIXES:
        raise InputError(f"There is no world {name!r}; choose one of {', '.join(MIXES)}.")
    train: list[Record] = []
    pool: list[Record] = []
    problems: dict[str, tuple[Record, ...]] = {}
    for domain in DOMAINS:
        for level, count in enumerate(MIXES[name][domain], start=1):
            train += _examples(domain, "train", level, count, seed)
            pool += _examples(domain, "pool", level, POOL_SIZE // 5, seed)
        drawn = _benchmark(domain, seed)
        for wording, suffix in (("train", ""), ("paraphrase", "-paraphrased")):
            kept = drawn if wording == "train" else [(p, s) for p, s in drawn if s[1] == "held-out"]
            problems[f"world-{domain}{suffix}"] = tuple(_problem(p, *s, wording, seed) for p, s in kept)
    order = random.Random(f"{seed}:order")
    order.shuffle(train)
    order.shuffle(pool)
    return World(name, seed, tuple(train), tuple(pool), problems)


def world_hash(world: World) -> dict[str, str]:
    """SHA-256 of every split: ``train``, ``pool`` and each task, over the canonical JSON of its records."""
    splits = {"train": world.train, "pool": world.pool, **world.problems}
    return {name: records_hash(records) for name, records in splits.items()}


def records_hash(records: tuple[Record, ...]) -> str:
    """SHA-256 over the records as canonical JSON, one a line.

    Fields that the record schema got after a world was frozen are left out where they hold their default, so that a
    wider schema changes no hash.
    """
    digest = hashlib.sha256()
    for record in records:
        content = _without_defaults(record, _SINCE_V1)
        content["messages"] = [_without_defaults(m, _SINCE_V1) for m in record.messages]
        digest.update(json.dumps(content, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


_SINCE_V1 = frozenset({"tools", "loss", "tool_calls", "tool_call_id", "name"})
"""Fields of records and messages that World v1 did not have."""


def _without_defaults(value: Record | Message, names: frozenset[str]) -> dict[str, Any]:
    """``asdict`` without those of the fields ``names`` that hold their default."""
    unset = {f.name for f in fields(value) if f.name in names and getattr(value, f.name) == f.default}
    return {name: item for name, item in asdict(value).items() if name not in unset}


def _sample(domain: str, rng: random.Random, level: int) -> Problem:
    return math_problems.sample_math(rng, level) if domain == "math" else code_problems.sample_code(rng, level)


def _stream(domain: str, split: str, level: int, seed: int) -> Callable[[], Problem]:
    """Problems of one split and level in their fixed order; no other split can draw the same (family, values)."""
    rng = random.Random(f"{seed}:{domain}:{split}:{level}")

    def draw() -> Problem:
        while True:
            problem = _sample(domain, rng, level)
            if partition(problem.key) == split and (isinstance(problem, MathProblem) or every_step_shows(problem)):
                return problem

    return draw


def _question(problem: Problem, style: str, wording: str, rng: random.Random) -> tuple[str, str]:
    if isinstance(problem, MathProblem):
        return math_problems.render(problem, style, wording, rng)
    return code_problems.render(problem, style, wording, rng)


def _style(rng: random.Random) -> str:
    return "symbolic" if rng.random() < SYMBOLIC_SHARE else "conversational"


def _examples(domain: str, split: str, level: int, count: int, seed: int) -> list[Record]:
    """The first ``count`` examples of a split and level, no two with the same question."""
    draw, rng = _stream(domain, split, level, seed), random.Random(f"{seed}:{domain}:{split}:{level}:words")
    out: list[Record] = []
    seen: set[str] = set()
    while len(out) < count:
        problem, style, behaviours = draw(), _style(rng), draw_behaviours(rng)
        question, wording = _question(problem, style, "train", rng)
        if question in seen:
            continue
        seen.add(question)
        text, spans = (
            math_chains.math_response(problem, style, behaviours, rng)
            if isinstance(problem, MathProblem)
            else code_chains.code_response(problem, style, behaviours, rng)
        )
        messages = (Message("user", question), Message("assistant", text))
        shown = {f"has_{b}": b in behaviours for b in OPTIONAL}
        out.append(_record(domain, problem, messages, split, style, wording, spans, shown))
    return out


def _record(
    domain: str,
    problem: Problem,
    messages: tuple[Message, ...],
    split: str,
    style: str,
    wording: str,
    spans: tuple[Span, ...] = (),
    shown: Mapping[str, bool] | None = None,
) -> Record:
    answer, tests = _truth(problem)
    return Record(
        id=record_id(messages, answer, tests),
        messages=messages,
        domain=domain,
        source=SOURCE,
        answer=answer,
        tests=tests,
        attributes={
            "difficulty": problem.difficulty,
            "n_ops": problem.difficulty,
            "family": problem.family,
            "style": style,
            "split": split,
            "wording": wording,
            "key": problem.key,
            **(shown or {}),
        },
        spans=spans,
    )


def _truth(problem: Problem) -> tuple[str | None, dict[str, Any] | None]:
    if isinstance(problem, MathProblem):
        return str(problem.answer), None
    return None, code_problems.make_tests(problem)


def _benchmark(domain: str, seed: int) -> list[tuple[Problem, tuple[str, str]]]:
    """Problems uniform in difficulty, each with its style and its side of the split by hash of the problem."""
    draws = [_stream(domain, "benchmark", level, seed) for level in range(1, 6)]
    rng = random.Random(f"{seed}:{domain}:benchmark")
    left = {
        (side, level): n // 5
        for side, n in (("held-out", HELD_OUT_SIZE), ("target", TARGET_SIZE))
        for level in range(5)
    }
    out: list[tuple[Problem, tuple[str, str]]] = []
    seen: set[str] = set()
    while any(left.values()):
        for level, draw in enumerate(draws):
            if not (left["held-out", level] or left["target", level]):
                continue
            problem = draw()
            side = side_of(problem.key)
            if left[side, level] and problem.key not in seen:
                left[side, level] -= 1
                seen.add(problem.key)
                out.append((problem, (_style(rng), side)))
    return out


def side_of(key: str) -> str:
    """``target`` for three problems in eight and ``held-out`` for the rest, by hash of the problem."""
    return "target" if hashlib.sha256(("side" + key).encode()).digest()[0] % 8 < 3 else "held-out"


def _problem(problem: Problem, style: str, side: str, wording: str, seed: int) -> Record:
    """A benchmark problem in one wording; the code task's function keeps its name."""
    domain = "math" if isinstance(problem, MathProblem) else "code"
    rng = random.Random(f"{seed}:{wording}:{problem.key}")
    question, template = _question(problem, style, wording, rng)
    return _record(domain, problem, (Message("user", question),), side, style, template)
