"""TACO: 26k competitive-programming problems with five levels.

Example row (BAAI/TACO)::

    {"question": "...", "solutions": "[\\"n = int(input()) ...\\"]", "starter_code": "", "difficulty": "EASY",
     "input_output": "{\\"inputs\\": [\\"2 3\\\\n\\"], \\"outputs\\": [\\"5\\\\n\\"]}",
     "raw_tags": "['math']", "name": null,
     "source": "codeforces", "tags": "['Mathematics']", "skill_types": "[]", "url": "https://...",
     "Expected Auxiliary Space": null, "time_limit": "2 seconds", "date": null, "picture_num": "0",
     "memory_limit": "256 megabytes", "Expected Time Complexity": null}

``difficulty`` EASY, MEDIUM, MEDIUM_HARD, HARD, VERY_HARD become 1 to 5; the published word stays in
``level``.
"""

from __future__ import annotations

from infra.data.adapters._adapter import Adapter
from infra.data.adapters.apps import COLUMNS, program_draft
from infra.data.fields import Draft, Raw, known, optional_text

LEVELS = {"EASY": 1, "MEDIUM": 2, "MEDIUM_HARD": 3, "HARD": 4, "VERY_HARD": 5}


def convert(row: Raw) -> Draft:
    """Question, first reference program, input-output tests."""
    extra = known(origin=optional_text(row, "source"), tags=optional_text(row, "tags"), name=optional_text(row, "name"))
    return program_draft(row, LEVELS, {"UNKNOWN_DIFFICULTY"}, extra)


ADAPTERS = (
    Adapter(
        "taco",
        frozenset({"question", "solutions", "input_output", "difficulty", "raw_tags"}),
        convert,
        source="taco",
        native_id="url",
        columns={
            **COLUMNS,
            "source": "attribute origin",
            "tags": "attribute tags",
            "name": "attribute name",
            "raw_tags": "not kept: the tags as the source wrote them",
            "skill_types": "not kept",
            "time_limit": "not kept",
            "memory_limit": "not kept",
            "date": "not kept",
            "picture_num": "not kept",
            "Expected Auxiliary Space": "not kept",
            "Expected Time Complexity": "not kept",
        },
        published="BAAI/TACO",
    ),
)
