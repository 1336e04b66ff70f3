"""What every check returns, and what one line of an evaluation holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

OUTCOMES = ("correct", "wrong", "no_answer", "error", "timeout", "ungradable")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found.

    ``outcome``: ``correct``; ``wrong``; ``no_answer`` (no boxed answer, no code block); ``error`` (the
    program crashed or broke a limit); ``timeout``; ``ungradable`` (the reference itself cannot be read:
    says nothing about the response). ``answer`` is what was checked: the extracted answer or program.
    """

    outcome: str
    answer: str | None = None
    detail: str = ""
    codes: tuple[Any, ...] = ()

    @property
    def correct(self) -> bool:
        """Whether the response counts as solved."""
        return self.outcome == "correct"


@dataclass(frozen=True, slots=True)
class EvalRow:
    """One response to one problem, verified. ``difficulty`` is the problem's native level or None."""

    problem_id: str
    index: int
    outcome: str
    correct: bool
    text: str
    n_tokens: int
    difficulty: int | str | None
    split: str
    answer: str | None = None
    detail: str = ""
    finish: str = "stop"
