"""APPS: 10k programming problems in three levels.

Example row (codeparrot/apps)::

    {"problem_id": 0, "question": "...", "solutions": "[\\"n = int(input()) ...\\"]", "difficulty": "interview",
     "input_output": "{\\"inputs\\": [\\"2 3\\\\n\\"], \\"outputs\\": [\\"5\\\\n\\"]}",
     "url": "https://...", "starter_code": ""}

``difficulty`` introductory, interview, competition become 1 to 3; the published word stays in ``level``.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from infra.data.adapters._adapter import Adapter
from infra.data.fields import (
    Draft,
    Raw,
    RowProblem,
    dialogue,
    fence,
    from_json,
    io_tests,
    known,
    optional_text,
    text,
)
from infra.data.schema import Attribute

COLUMNS = {
    "question": "question",
    "starter_code": "end of the question",
    "solutions": "its first program is the response, fenced; attribute n_solutions",
    "input_output": "tests",
    "difficulty": "difficulty, and attribute level",
    "url": "attribute url",
}
LEVELS = {"introductory": 1, "interview": 2, "competition": 3}


def program_draft(row: Raw, levels: Mapping[str, int], unrated: Set[str], extra: Mapping[str, Attribute]) -> Draft:
    """A problem of the APPS family; the response is its first reference program, fenced, when it has one."""
    question = text(row, "question")
    starter = optional_text(row, "starter_code")
    if starter:
        question = f"{question}\n\nStart from this code:\n\n{fence(starter)}"
    solutions = from_json(row, "solutions") or []
    if not isinstance(solutions, list) or not all(isinstance(s, str) for s in solutions):
        raise RowProblem("solutions", "a list of texts is expected")
    word = optional_text(row, "difficulty")
    if word is not None and word not in levels and word not in unrated:
        raise RowProblem("difficulty", f"unknown level {word!r}; use one of {', '.join(levels)}")
    return Draft(
        dialogue(question, fence(solutions[0]) if solutions else None),
        "code",
        tests=io_tests(from_json(row, "input_output"), "input_output"),
        attributes={
            **known(
                difficulty=levels.get(word or ""),
                level=word,
                n_solutions=len(solutions),
                url=optional_text(row, "url"),
            ),
            **extra,
        },
    )


def convert(row: Raw) -> Draft:
    """Question, first reference program, input-output tests."""
    return program_draft(row, LEVELS, set(), {})


ADAPTERS = (
    Adapter(
        "apps",
        frozenset({"problem_id", "question", "solutions", "input_output", "difficulty"}),
        convert,
        source="apps",
        native_id="problem_id",
        columns={**COLUMNS, "problem_id": "id"},
        published="codeparrot/apps",
    ),
)
