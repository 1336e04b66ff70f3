r"""OpenR1-Math-220k: several DeepSeek-R1 generations a problem, with verdicts.

Example row (open-r1/OpenR1-Math-220k)::

    {"problem": "...", "solution": "...", "answer": "5", "problem_type": "Algebra", "question_type":
     "math-word-problem", "source": "olympiads", "uuid": "586fd646-...", "is_reasoning_complete": [true, true],
     "generations": ["<think>\n...\n</think>\n\n\\boxed{5}", "..."], "correctness_math_verify": [false, true],
     "correctness_llama": null, "finish_reasons": null, "correctness_count": 1, "messages": [...]}

The response is the first generation that is complete and verified (by math-verify, then by the judge model),
else the first one; ``verified`` says which.
"""

from __future__ import annotations

from infra.data.adapters._adapter import Adapter
from infra.data.fields import Draft, Raw, RowProblem, dialogue, known, listing, optional_text, text


def convert(row: Raw) -> Draft:
    """One record a problem: the first verified generation."""
    generations = listing(row, "generations")
    if not generations or not all(isinstance(g, str) for g in generations):
        raise RowProblem("generations", "a list of at least one text is expected")
    chosen = _first_verified(row, len(generations))
    return Draft(
        dialogue(text(row, "problem"), generations[chosen if chosen is not None else 0]),
        "math",
        answer=optional_text(row, "answer"),
        attributes=known(
            verified=chosen is not None,
            n_generations=len(generations),
            problem_type=optional_text(row, "problem_type"),
            question_type=optional_text(row, "question_type"),
            origin=optional_text(row, "source"),
            native_id=optional_text(row, "uuid"),
        ),
    )


def _first_verified(row: Raw, n: int) -> int | None:
    complete = listing(row, "is_reasoning_complete") or [True] * n
    for name in ("correctness_math_verify", "correctness_llama"):
        verdicts = listing(row, name)
        for i, verdict in enumerate(verdicts[:n]):
            if verdict is True and i < len(complete) and complete[i]:
                return i
    return None


ADAPTERS = (
    Adapter(
        "openr1-math",
        frozenset({"problem", "generations", "correctness_math_verify"}),
        convert,
        aliases=("openr1-math-220k",),
        source="openr1-math",
        native_id="uuid",
    ),
)
