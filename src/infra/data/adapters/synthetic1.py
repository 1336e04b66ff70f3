r"""PrimeIntellect's SYNTHETIC-1: verifiable tasks in math and code with DeepSeek-R1's responses.

Example row (PrimeIntellect/SYNTHETIC-1; the task sets have no ``llm_response`` and no ``score``)::

    {"response_id": "vfm_1_x", "problem_id": "vfm_1", "source": "numina-math", "in_source_id": "7",
     "hf_dataset_name": "PrimeIntellect/verifiable-math-problems", "task_type": "verifiable_math", "prompt": "...",
     "gold_standard_solution": "...", "llm_response": "<think>\n...\n</think>\n\n\\boxed{5}",
     "verification_info": "{\"ground_truth\": \"5\"}", "score": 1.0, "verification_result_info": "{}",
     "metadata": "{}"}

The response is the model's, or the reference where there is none; ``written_by`` says which. Test cases of
``verifiable_code`` become the record's tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.data.adapters._adapter import Adapter
from infra.data.fields import Draft, Raw, RowProblem, dialogue, from_json, io_tests, known, optional_text, text

DOMAINS = {"verifiable_math": "math", "verifiable_code": "code", "code_output_prediction": "code"}


def convert(row: Raw) -> Draft:
    """Prompt, response, and what it is verified by."""
    response = optional_text(row, "llm_response")
    reference = optional_text(row, "gold_standard_solution")
    task = optional_text(row, "task_type")
    score = row.get("score")
    info = from_json(row, "verification_info")
    info = info if isinstance(info, Mapping) else {}
    domain = DOMAINS.get(task or "", "code" if "code" in (task or "") else "other")
    writer = None if response is None and reference is None else ("model" if response is not None else "reference")
    return Draft(
        dialogue(text(row, "prompt"), response if response is not None else reference),
        domain,
        answer=optional_text(info, "ground_truth") if domain == "math" else None,
        tests=_tests(info),
        attributes=known(
            origin=optional_text(row, "source"),
            task_type=task,
            verified=None if not isinstance(score, int | float) else score >= 1,
            score=score if isinstance(score, int | float) else None,
            written_by=writer,
            problem_id=optional_text(row, "problem_id"),
            in_source_id=optional_text(row, "in_source_id"),
        ),
    )


def _tests(info: Mapping[str, Any]) -> dict[str, Any] | None:
    cases = info.get("test_cases")
    if not cases:
        return None
    if not isinstance(cases, list) or not all(
        isinstance(c, Mapping) and {"input", "output"} <= c.keys() for c in cases
    ):
        raise RowProblem("verification_info", "'test_cases' must be a list of objects with 'input' and 'output'")
    names = {case.get("fn_name") for case in cases}
    if len(names) > 1:
        raise RowProblem("verification_info", "the test cases call functions of different names")
    value = {"inputs": [c["input"] for c in cases], "outputs": [c["output"] for c in cases], "fn_name": names.pop()}
    return io_tests(value, "verification_info")


ADAPTERS = (
    Adapter(
        "synthetic-1",
        frozenset({"prompt", "gold_standard_solution", "verification_info", "task_type"}),
        convert,
        source="synthetic-1",
        native_id="response_id",
        columns={
            "response_id": "id",
            "problem_id": "attribute problem_id; id where there is no response_id",
            "source": "attribute origin",
            "in_source_id": "attribute in_source_id",
            "hf_dataset_name": "not kept",
            "task_type": "domain, and attribute task_type",
            "prompt": "question",
            "gold_standard_solution": "response where there is no llm_response",
            "llm_response": "response",
            "verification_info": "answer of a math row; tests of a code row",
            "score": "attributes score and verified",
            "verification_result_info": "not kept",
            "metadata": "not kept",
            "messages": "not kept: prompt and response again",
        },
        published="PrimeIntellect/SYNTHETIC-1 and its task sets",
    ),
)
