r"""OpenThoughts-114k, subset ``metadata``, and OpenThoughts3-1.2M.

Example row (open-thoughts/OpenThoughts-114k, metadata)::

    {"problem": "...", "deepseek_reasoning": "...", "deepseek_solution": "... \\boxed{5}",
     "ground_truth_solution": "... $\\boxed{5}$", "domain": "math", "source": "numina_math",
     "test_cases": "{\"inputs\": [\"2 3\\n\"], \"outputs\": [\"5\\n\"]}", "starter_code": "def add(a, b):"}

Example row (open-thoughts/OpenThoughts3-1.2M)::

    {"difficulty": 8, "source": "ai2-adapt-dev/openmath-2-math", "domain": "math",
     "conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "<think>\n...\n</think>\n..."}]}
"""

from __future__ import annotations

from infra.data.adapters._adapter import Adapter
from infra.data.fields import (
    Draft,
    Raw,
    boxed,
    dialogue,
    from_json,
    io_tests,
    known,
    level_number,
    optional_text,
    text,
    think,
)
from infra.data.turns import turns


def convert_metadata(row: Raw) -> Draft:
    """Reasoning and solution joined; tests from ``test_cases``; the answer is the last box of the ground
    truth."""
    question = text(row, "problem")
    starter = optional_text(row, "starter_code")
    truth = optional_text(row, "ground_truth_solution")
    domain = text(row, "domain")
    if starter:
        question = f"{question}\n\n{starter}"
    return Draft(
        dialogue(question, think(text(row, "deepseek_reasoning"), text(row, "deepseek_solution"))),
        domain,
        answer=boxed(truth) if domain == "math" else None,
        tests=io_tests(from_json(row, "test_cases"), "test_cases"),
        attributes=known(origin=optional_text(row, "source")),
    )


def convert_three(row: Raw) -> Draft:
    """The conversation, with the 1-10 difficulty where the data has one."""
    messages = turns(row, "conversations", "from", "value")
    domain = text(row, "domain")
    response = messages[-1].content if messages[-1].role == "assistant" else None
    return Draft(
        messages,
        domain,
        answer=boxed(response) if domain == "math" else None,
        attributes=known(difficulty=level_number(row.get("difficulty")), origin=optional_text(row, "source")),
    )


ADAPTERS = (
    Adapter(
        "openthoughts-metadata",
        frozenset({"problem", "deepseek_reasoning", "deepseek_solution", "domain"}),
        convert_metadata,
        aliases=("openthoughts-114k-metadata",),
        source="openthoughts-114k",
        columns={
            "problem": "question",
            "starter_code": "end of the question",
            "deepseek_reasoning": "response, its thinking part",
            "deepseek_solution": "response, after the thinking part",
            "ground_truth_solution": "its last box is the answer of a math row",
            "domain": "domain",
            "source": "attribute origin",
            "test_cases": "tests",
        },
        published="open-thoughts/OpenThoughts-114k, subset metadata",
    ),
    Adapter(
        "openthoughts3",
        frozenset({"difficulty", "source", "domain", "conversations"}),
        convert_three,
        aliases=("openthoughts3-1.2m",),
        source="openthoughts3",
        columns={
            "difficulty": "difficulty",
            "source": "attribute origin",
            "domain": "domain",
            "conversations": "messages; the last box is the answer of a math row",
        },
        published="open-thoughts/OpenThoughts3-1.2M",
    ),
)
