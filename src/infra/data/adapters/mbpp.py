"""MBPP: basic Python problems with asserts; the full set and the sanitized one.

Example row (google-research-datasets/mbpp, full)::

    {"text": "Write a function to add two numbers.", "code": "def add(a, b):\\r\\n  return a + b", "task_id": 7,
     "test_setup_code": "", "test_list": ["assert add(2, 3) == 5"], "challenge_test_list": []}

Example row (sanitized)::

    {"source_file": "...", "task_id": 7, "prompt": "Write a function ...", "code": "def add(a, b): ...",
     "test_imports": [], "test_list": ["assert add(2, 3) == 5"]}

The question is the text and the first assert, which fixes the function's name; the other asserts stay hidden.
"""

from __future__ import annotations

from infra.data.adapters._adapter import Adapter
from infra.data.fields import Draft, Raw, RowProblem, dialogue, fence, listing, optional_text, text


def convert(row: Raw) -> Draft:
    """Question with the first assert, fenced reference code, all asserts as tests."""
    asserts = listing(row, "test_list")
    if not asserts or not all(isinstance(a, str) for a in asserts):
        raise RowProblem("test_list", "a list of at least one assert is expected")
    question = text(row, "text" if "text" in row else "prompt")
    setup = optional_text(row, "test_setup_code") or "\n".join(str(i) for i in listing(row, "test_imports"))
    tests = {"kind": "asserts", "setup": setup, "asserts": asserts}
    challenge = listing(row, "challenge_test_list")
    if challenge:
        tests["challenge_asserts"] = challenge
    return Draft(
        dialogue(f"{question.strip()}\nYour code should pass this test:\n{asserts[0]}", fence(text(row, "code"))),
        "code",
        tests=tests,
    )


def _has_question(row: Raw) -> bool:
    return "text" in row or "prompt" in row


ADAPTERS = (
    Adapter(
        "mbpp",
        frozenset({"task_id", "code", "test_list"}),
        convert,
        accepts=_has_question,
        source="mbpp",
        native_id="task_id",
        columns={
            "text": "question, with the first assert",
            "prompt": "question where there is no text (sanitized)",
            "code": "response, fenced",
            "task_id": "id",
            "test_setup_code": "tests",
            "test_imports": "tests where there is no setup code",
            "test_list": "tests; the first is in the question",
            "challenge_test_list": "tests",
            "source_file": "not kept",
        },
        published="google-research-datasets/mbpp",
    ),
)
