"""Math problems mean what they say, and their chains of thought do what their labels claim."""

import operator
import random
import re

from infra.data.schema import Record
from infra.world import World
from infra.world.math_families import MATH_FAMILIES

OPS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
EQUATION = re.compile(r"(\d+)([-+*/])(\d+)=(\d+)")


def math_records(world: World) -> list[Record]:
    return [r for r in (*world.train, *world.pool) if r.domain == "math"]


def every_problem(world: World) -> list[Record]:
    return [*math_records(world), *world.problems["world-math"], *world.problems["world-math-paraphrased"]]


def true_equation(a: str, op: str, b: str, c: str) -> bool:
    return OPS[op](int(a), int(b)) == int(c)


def test_answers_follow_from_the_stored_values(world: World) -> None:
    for record in every_problem(world):
        values: list[float] = []
        for step in str(record.attributes["key"]).split("|")[2:]:
            left, op, right = re.fullmatch(r"(#?\d+)([-+*/])(#?\d+)", step).groups()  # type: ignore[union-attr]
            numbers = [values[int(x[1:])] if x[0] == "#" else int(x) for x in (left, right)]
            values.append(OPS[op](*numbers))
        assert values[-1] == int(record.answer or "")
        assert all(v == int(v) and 0 < v <= 120 for v in values)
        assert record.attributes["difficulty"] == record.attributes["n_ops"] == len(values)


def test_answers_follow_from_the_symbolic_text(world: World) -> None:
    """Read the statement itself: assignments are run in order, equations must hold for the answer."""
    read = 0
    for record in every_problem(world):
        if record.attributes["style"] != "symbolic":
            continue
        text, kind = record.question, next(f.kind for f in MATH_FAMILIES if f.name == record.attributes["family"])
        answer = int(record.answer or "")
        if kind == "groups":
            expression = re.search(r"\d+\*[\d+*-]+", text)
            assert expression and eval(expression[0]) == answer, text
        elif kind == "reverse":
            left, end = re.search(r"([(a-z][^=]*) = (\d+)", re.sub(r"^.*?(?=\(*\b[a-z][-+*/])", "", text)).groups()  # type: ignore[union-attr]
            assert eval(re.sub(r"\b[a-z]\b", str(answer), left)) == int(end), text
        else:
            scope: dict[str, float] = {}
            assignment = r"\b([a-z]|[A-Z][a-z]{2}) (?:=|is|to) ((?:[a-z]|[A-Z][a-z]{2}) [-+*/] \d+|\d+)(?!\w)"
            for name, value in re.findall(assignment, text):
                scope[name] = eval(value, {}, scope)
            assert len(re.findall(r"\d+", text)) == record.attributes["n_ops"] + 1  # type: ignore[operator]
            assert list(scope.values())[-1] == answer, text
        read += 1
    assert read > 500


def test_comparisons_read_as_said(world: World) -> None:
    """Another reader for the conversational comparisons: who has how many, sentence by sentence."""
    read = 0
    for record in math_records(world):
        family = next(f for f in MATH_FAMILIES if f.name == record.attributes["family"])
        if family.kind != "compare" or record.attributes["style"] == "symbolic":
            continue
        has: dict[str, float] = {}
        for sentence in re.split(r"(?<=[.?]) ", record.question):
            names, number = re.findall(r"\b[A-Z][a-z]{2}\b(?! many)", sentence), re.findall(r"\d+", sentence)
            names = [n for n in names if n != "How"]
            if not number:
                assert has[names[0]] == int(record.answer or ""), record.question
            elif len(names) == 1:
                has[names[0]] = int(number[0])
            else:
                new, old = (names[0], names[1]) if names[1] in has else (names[1], names[0])
                k = int(number[0])
                if "more" in sentence:
                    has[new] = has[old] + k
                elif "fewer" in sentence:
                    has[new] = has[old] - k
                else:
                    has[new] = has[old] * k if names[0] == new else has[old] / k
        read += 1
    assert read > 100


def test_wrong_attempts_are_wrong_and_repaired(world: World) -> None:
    seen = 0
    for record in math_records(world):
        text = record.response or ""
        parts = [(text[s.start : s.end], s.labels) for s in record.spans]
        for i, (_, labels) in enumerate(parts):
            if labels != ("backtracking",):
                continue
            seen += 1
            attempt, repair = EQUATION.search(parts[i - 1][0]), EQUATION.search(parts[i + 1][0])
            assert parts[i - 1][1] == parts[i + 1][1] == ("computation",) and attempt and repair
            assert attempt[4] != repair[4] and true_equation(*repair.groups())
            assert attempt[1] == repair[1] and attempt[3] == repair[3]
            if true_equation(*attempt.groups()):
                assert attempt[2] != repair[2], "a true equation is only wrong when it is another operation"
    assert seen > 500


def test_everything_but_wrong_attempts_is_true(world: World) -> None:
    """Computations, verifications and other ways state true equations, and the last one reaches the answer."""
    for record in math_records(world):
        text = record.response or ""
        labels = [s.labels for s in record.spans]
        for i, span in enumerate(record.spans):
            piece = text[span.start : span.end]
            if i + 1 < len(labels) and labels[i + 1] == ("backtracking",):
                continue
            for equation in re.finditer(r"(?<![\d+*/-])(\d+(?:[-+*/]\d+)+)=(\d+)", piece):
                assert eval(equation[1]) == int(equation[2]), record.id
            if span.labels == ("exploration_after_answer",):
                assert re.findall(r"=(\d+)", piece)[-1] == record.answer
            if span.labels == ("verification",):
                assert "=" in piece
        computed = [text[s.start : s.end] for s in record.spans if s.labels == ("computation",)]
        assert EQUATION.findall(computed[-1])[-1][3] == record.answer
        assert text.endswith(f"\\boxed{{{record.answer}}}.")


def test_paraphrase_templates_are_in_no_other_text() -> None:
    from infra.world import math_families as m

    for table in (*m.WORDINGS.values(), m.REVERSE, m.GROUPS, m.SYMBOLIC):
        for slot in table["train"]:
            others = set(table["train"][slot]) | set(table["pretrain"][slot])
            assert not set(table["paraphrase"][slot]) & others, slot
    for family in m.MATH_FAMILIES:
        for verbs in (family.add, family.sub):
            assert not verbs or (len(verbs) == 3 and verbs[-1] not in verbs[:-1])


def test_sampling_repeats_from_its_seed() -> None:
    from infra.world.math_problems import sample_math

    a, b = ([sample_math(random.Random(7), d) for d in range(1, 6)] for _ in range(2))
    assert a == b
