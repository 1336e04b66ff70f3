"""Behaviours of a chain of thought, drawn at random, and the assembly of sentences into a text with spans."""

from __future__ import annotations

import random
from dataclasses import dataclass

from infra.data.schema import Span

OPTIONAL = (
    "plan",
    "subgoal",
    "fact",
    "verification",
    "backtracking",
    "exploration",
    "exploration_after_answer",
)
"""Behaviours a chain of thought may or may not have. ``final_answer`` is always there, in math ``computation`` too."""

THOROUGHNESS = (0.05, 0.35, 0.9)
"""Chance of each optional behaviour; one of the three is drawn per record, whatever its difficulty."""


def draw_behaviours(rng: random.Random) -> frozenset[str]:
    """A random subset of :data:`OPTIONAL`, independent of everything else about the problem."""
    chance = rng.choice(THOROUGHNESS)
    return frozenset(b for b in OPTIONAL if rng.random() < chance)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of the thinking part and the behaviours it shows."""

    text: str
    labels: tuple[str, ...]


def assemble(sentences: list[Sentence], final: str) -> tuple[str, tuple[Span, ...]]:
    """``<think>`` sentences ``</think>`` final, with spans that partition the text without loss.

    A sentence's span takes the space after it; the two tags are spans without labels; ``final`` is labelled
    ``final_answer``.
    """
    pieces: list[tuple[str, tuple[str, ...]]] = [("<think>\n", ())]
    for i, sentence in enumerate(sentences):
        pieces.append((sentence.text + (" " if i + 1 < len(sentences) else ""), sentence.labels))
    pieces += [("\n</think>\n", ()), (final, ("final_answer",))]
    text, spans = "", []
    for piece, labels in pieces:
        spans.append(Span(len(text), len(text) + len(piece), labels))
        text += piece
    return text, tuple(spans)
