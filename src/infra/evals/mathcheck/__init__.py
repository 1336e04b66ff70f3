"""Checking mathematical answers by value.

>>> grade(r"\\frac{1}{2}", r"So it is $\\boxed{0.5}$.").outcome
'correct'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from infra.evals._types import Verdict
from infra.evals.mathcheck._extract import final_answer
from infra.evals.mathcheck._pool import TIMEOUT_S, shared_pool

__all__ = ["grade", "grade_many"]

_WHY = {
    "correct": "the same as the reference {gold}",
    "wrong": "differs from the reference {gold}",
    "ungradable": "the reference {gold} cannot be read as an answer; mend it in the data",
    "timeout": "comparing it with the reference {gold} took longer than the limit",
}


def grade(gold: str, response: str) -> Verdict:
    """The verdict on one response; see :func:`grade_many`."""
    return grade_many([(gold, response)])[0]


def grade_many(
    pairs: Sequence[tuple[str, str]],
    *,
    workers: int | None = None,
    timeout_s: float = TIMEOUT_S,
    progress: Callable[[int], object] | None = None,
) -> list[Verdict]:
    """The verdict on each ``(reference, response)``, in order.

    The reference is a bare answer (``\\frac{1}{2}``) or a worked solution that ends in a box or ``#### answer``. Plain
    numbers are compared at once, everything else in ``workers`` processes (default: the processors, at most 8), with
    ``timeout_s`` seconds of processor time a pair. ``progress`` is told how many pairs are done. Never raises for what
    a pair holds: the outcome is then ``no_answer``, ``ungradable`` or ``timeout``.
    """
    found = [final_answer(response) for _, response in pairs]
    golds = [_reference(gold) for gold, _ in pairs]
    asked = [i for i, f in enumerate(found) if f.answer is not None]
    if progress is not None and len(asked) < len(pairs):
        progress(len(pairs) - len(asked))
    pool = shared_pool(workers)
    outcomes = pool.grade([(golds[i], found[i].answer or "") for i in asked], timeout_s, progress)
    verdicts = [Verdict("no_answer", None, f.why) for f in found]
    for i, outcome in zip(asked, outcomes):
        verdicts[i] = Verdict(outcome, found[i].answer, _WHY[outcome].format(gold=golds[i][:200]))
    return verdicts


def _reference(gold: str) -> str:
    """The answer inside a worked solution; anything else as it is."""
    worked = "####" in gold or "\\boxed" in gold or "\n" in gold.strip()
    return (final_answer(gold).answer or gold) if worked else gold
