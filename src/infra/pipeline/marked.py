"""An example with the steps of its response marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.data import Record, TokenizedExample
from infra.spans import behaviours, parts, spans_to_tokens, steps, token_classes

FORMAT = "format"
"""The class of tokens that the chat template wrote."""


@dataclass(frozen=True)
class Marked:
    """An example with its steps: character ranges of the response, behaviours, token ranges, and the part of each."""

    example: TokenizedExample
    record: Record
    spans: Sequence[tuple[int, int]]
    labels: Sequence[Sequence[str]]
    ranges: Sequence[tuple[int, int]]
    part: Sequence[str]

    @property
    def text(self) -> str:
        """The response."""
        return self.record.response or ""


def classes_of(example: TokenizedExample) -> list[str]:
    """The class of each token; those that the chat template wrote under the loss are :data:`FORMAT`."""
    found = token_classes(example.text, example.offsets)
    return [FORMAT if template else name for name, template in zip(found, example.template_mask.tolist())]


def mark(example: TokenizedExample, record: Record) -> Marked:
    """Segment and label the response of one example."""
    text = record.response or ""
    spans = steps(text)
    labels = behaviours(text, spans, answer=record.answer, question=record.question)
    ranges = spans_to_tokens(spans, example.offsets, shift=example.response_start, text=example.text)
    named = {i: name for a, b, name in parts(text) for i, (s, _) in enumerate(spans) if a <= s < b}
    return Marked(example, record, spans, labels, ranges, [named.get(i, "solution") for i in range(len(spans))])
