"""Code tasks: references pass their tests by execution, and every operation is what three writings of it say."""

import itertools
import random
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from infra.data.schema import Record
from infra.world import World
from infra.world.catalogue import CODE_OPS
from infra.world.code_problems import Call, sample_code


def code_records(world: World) -> list[Record]:
    return [r for r in (*world.train, *world.pool) if r.domain == "code"]


def run_asserts(program: str, asserts: list[str]) -> None:
    scope: dict[str, Any] = {}
    exec(program, scope)
    exec("\n".join(asserts), scope)


def test_reference_solutions_pass_their_own_tests(world: World) -> None:
    for record in code_records(world):
        program = re.search(r"```python\n(.*)\n```$", record.response or "", re.S)
        assert program and record.tests and record.tests["kind"] == "asserts"
        run_asserts(program[1], record.tests["asserts"])


def test_benchmark_tests_agree_with_the_operations_written_as_code(world: World) -> None:
    """The programs below come from ``expr``; the tests' values came from ``run``."""
    by_name = {op.name: op for op in CODE_OPS}
    for task in ("world-code", "world-code-paraphrased"):
        for record in world.problems[task]:
            head = re.search(r"`(\w+)\((\w+)\)`", record.question)
            assert head and record.tests
            lines, source = [], head[2]
            for part in str(record.attributes["key"]).split("|")[2:]:
                name = max((n for n in by_name if part.startswith(n + " ")), key=len)
                op, value = by_name[name], part[len(name) + 1 :]
                letters = bool(value) and not value.isdigit()
                call = Call(name, tuple(value) if letters else (int(value),) if value else ())
                assert op.source == source
                source = op.target
                lines.append(f"    {op.target} = {call.fill(op.expr)}")
            body = "\n".join([f"def {head[1]}({head[2]}):", *lines, f"    return {source}"])
            run_asserts(body, record.tests["asserts"])
            assert record.attributes["difficulty"] == len(lines)


def test_tests_reject_a_program_with_an_operation_missing(world: World) -> None:
    """Dropping a line nearly always fails; what survives is a task where the operation does nothing visible."""
    survived = total = 0
    for record in code_records(world)[:600]:
        lines = re.search(r"```python\n(.*)\n```$", record.response or "", re.S)[1].split("\n")  # type: ignore[index]
        if len(lines) < 3:
            continue
        total += 1
        try:
            run_asserts("\n".join(lines[:1] + lines[2:]), record.tests["asserts"])  # type: ignore[index]
            survived += 1
        except (AssertionError, NameError, TypeError, AttributeError, ValueError):
            pass
    assert total > 300 and survived / total < 0.08


VALUES = {
    "n": st.integers(-200, 200),
    "xs": st.lists(st.integers(-30, 60), max_size=14),
    "s": st.text(alphabet="abcdefghij XYZ", max_size=14),
}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(CODE_OPS), st.data())
def test_expression_alternative_and_meaning_agree(op: Any, data: Any) -> None:
    value, parameters = data.draw(VALUES[op.source]), data.draw(st.sampled_from(op.parameters))
    call = Call(op.name, parameters)
    expected = op.run(value, *parameters)
    assert eval(call.fill(op.expr), {op.source: value}) == expected
    assert eval(call.fill(op.alt), {op.source: value}) == expected


def test_wrong_attempts_differ_from_their_repair(world: World) -> None:
    seen = 0
    for record in code_records(world):
        text = record.response or ""
        parts = [(text[s.start : s.end].strip(), s.labels) for s in record.spans]
        for i, (_, labels) in enumerate(parts):
            if labels == ("backtracking",):
                seen += 1
                assert parts[i - 1][1] == parts[i + 1][1] == ("computation",)
                value = r"(?:=|: | gives | makes )((?:\[.*|'.*|-?\d+)[^ ]*)$"
                attempt, repair = re.search(value, parts[i - 1][0]), re.search(value, parts[i + 1][0])
                assert attempt and repair and attempt[1] != repair[1], (parts[i - 1], parts[i + 1])
    assert seen > 500


def test_phrases_of_the_splits_differ() -> None:
    for op in CODE_OPS:
        assert len(op.said) >= 2 and not set(op.said) & set(op.paraphrase)
        assert not set(op.paraphrase) & set(op.note), op.name


def test_chains_fit_their_types() -> None:
    by_name = {op.name: op for op in CODE_OPS}
    rng = random.Random(3)
    for i in range(500):
        problem = sample_code(rng, i % 5 + 1)
        types = [(by_name[c.op].source, by_name[c.op].target) for c in problem.calls]
        assert all(a[1] == b[0] for a, b in itertools.pairwise(types))
        assert problem.family in [c.op for c in problem.calls] and len(types) == i % 5 + 1
