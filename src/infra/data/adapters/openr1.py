r"""OpenR1-Math-220k: several DeepSeek-R1 generations a problem, with verdicts.

Example row (open-r1/OpenR1-Math-220k)::

    {"problem": "...", "solution": "...", "answer": "5", "problem_type": "Algebra", "question_type":
     "math-word-problem", "source": "olympiads", "uuid": "586fd646-...", "is_reasoning_complete": [true, true],
     "generations": ["<think>\n...\n</think>\n\n\\boxed{5}", "..."], "correctness_math_verify": [false, true],
     "correctness_llama": null, "finish_reasons": null, "correctness_count": 1, "messages": [...]}

The response is the first generation that is complete and verified (by math-verify, then by the judge model), else
the first that is complete, else the first one; ``verified`` and ``complete`` say which. A generation is complete where
``is_reasoning_complete`` says so, its finish reason is not "length" and its thinking part is closed.
"""

from __future__ import annotations

from infra.data.adapters._adapter import Adapter
from infra.data.fields import Draft, Raw, RowProblem, dialogue, finished, known, listing, optional_text, text


def convert(row: Raw) -> Draft:
    """One record a problem: the first verified generation."""
    generations = listing(row, "generations")
    if not generations or not all(isinstance(g, str) for g in generations):
        raise RowProblem("generations", "a list of at least one text is expected")
    complete = _complete(row, generations)
    verified = _first_verified(row, complete)
    chosen = verified if verified is not None else next((i for i, done in enumerate(complete) if done), 0)
    return Draft(
        dialogue(text(row, "problem"), generations[chosen]),
        "math",
        answer=optional_text(row, "answer"),
        attributes=known(
            verified=verified is not None,
            complete=complete[chosen],
            n_generations=len(generations),
            problem_type=optional_text(row, "problem_type"),
            question_type=optional_text(row, "question_type"),
            origin=optional_text(row, "source"),
        ),
    )


def _complete(row: Raw, generations: list[str]) -> list[bool]:
    """Which generations came to their end."""
    said = listing(row, "is_reasoning_complete")
    reasons = listing(row, "finish_reasons")
    return [
        (said[i] is not False if i < len(said) else True)
        and (reasons[i] != "length" if i < len(reasons) else True)
        and finished(generation)
        for i, generation in enumerate(generations)
    ]


def _first_verified(row: Raw, complete: list[bool]) -> int | None:
    for name in ("correctness_math_verify", "correctness_llama"):
        for i, verdict in enumerate(listing(row, name)[: len(complete)]):
            if verdict is True and complete[i]:
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
        columns={
            "problem": "question",
            "solution": "not kept: the reference solution; the response is a generation",
            "answer": "answer",
            "problem_type": "attribute problem_type",
            "question_type": "attribute question_type",
            "source": "attribute origin",
            "uuid": "id",
            "is_reasoning_complete": "chooses the generation; attribute complete",
            "generations": "one is the response; attribute n_generations",
            "correctness_math_verify": "chooses the generation; attribute verified",
            "correctness_llama": "chooses the generation; attribute verified",
            "finish_reasons": "chooses the generation; attribute complete",
            "correctness_count": "not kept: the number of verified generations",
            "messages": "not kept: problem and a generation again",
        },
        published="open-r1/OpenR1-Math-220k",
    ),
)
