"""An example's tokens coloured without script: as a map in a notebook, and as an excerpt for the first screen.

As the last expression of a notebook cell: ``show_tokens(view, "math")``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from infra.errors import InputError
from infra.report.data import ExampleView, check_example
from infra.report.encode import boundaries, displayable
from infra.report.wording import number, signed

POSITIVE, NEGATIVE = (33, 102, 172), (217, 108, 14)
_INVISIBLE = {
    **{c: f"⟨U+{c:04X}⟩" for c in (*range(0x00, 0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0), 0xAD, 0x61C)},
    **{c: f"⟨U+{c:04X}⟩" for c in (*range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0xFEFF)},
}


@dataclass(frozen=True)
class TokenMap:
    """One example under one target; ``reference`` is the value of the strongest colour."""

    view: ExampleView
    target: str
    decomposition: str
    reference: float

    @property
    def values(self) -> NDArray[np.float32]:
        """Token scores, float32 ``[T]``."""
        return np.asarray(self.view.scores[self.decomposition])[list(self.view.targets).index(self.target)]

    def _repr_html_(self) -> str:
        """HTML with inline colours; the numbers are in each token's title."""
        values = self.values
        head = (
            f"<p style='font:12px sans-serif;margin:0 0 6px'><b>{escape(displayable(self.view.id))}</b> · influence on "
            f"<b>{escape(self.target)}</b> ({escape(self.decomposition)}): total {signed(float(values.sum()))}; "
            f"strongest colour ±{number(self.reference)}; <span style='background:{colour(1)}'>blue helps</span>, "
            f"<span style='background:{colour(-1)}'>orange hurts</span></p>"
        )
        body = "".join(self._pieces(values))
        return (
            f"{head}<div style='font:13px/1.7 monospace;white-space:pre-wrap;overflow-wrap:anywhere;"
            f"max-height:32em;overflow:auto'>{body}</div>"
        )

    def _pieces(self, values: NDArray[np.float32]) -> Iterator[str]:
        for t, text in token_texts(self.view):
            if t is None:
                yield _text(text)
                continue
            strength = float(np.sign(values[t]) * np.sqrt(min(1.0, abs(values[t]) / (self.reference or 1.0))))
            dim = "" if self.view.loss_mask[t] else "opacity:.6;"
            yield (
                f"<bdi style='{dim}background:{colour(strength)}' title='token {t}: {signed(float(values[t]))}'>"
                f"{_text(text)}</bdi>"
            )


def token_texts(view: ExampleView) -> Iterator[tuple[int | None, str]]:
    """(number, text) of every token in order, with (None, text) for what lies between them."""
    text = displayable(view.text)
    gaps, lengths = boundaries(np.asarray(view.token_offsets, dtype=np.int64))
    at = 0
    for t, (gap, length) in enumerate(zip(gaps.tolist(), lengths.tolist())):
        if gap:
            yield None, text[at : at + gap]
        at += gap + length
        yield t, text[at - length : at]
    if text[at:]:
        yield None, text[at:]


@dataclass(frozen=True)
class Excerpt:
    """The strongest part of the most helpful shown example: ``pieces`` are (text, class, title) triples."""

    id: str
    target: str
    problem: str
    pieces: Sequence[tuple[str, str, str]]


def excerpt(views: Sequence[ExampleView], target: str, least: int = 200, most: int = 420) -> Excerpt | None:
    """The example of ``views`` that helps ``target`` most, cut to its best step and what stands around it.

    ``least`` and ``most`` bound its size in characters; a line break counts as 40. None where no view has token scores
    of the target.
    """
    able = [v for v in views if target in v.targets and v.scores and np.any(v.loss_mask)]
    if not able:
        return None
    view = max(able, key=lambda v: float(v.totals()[list(v.targets).index(target)]))
    values = show_tokens(view, target, decomposition=next(iter(view.scores))).values
    first, last = _window(view, values, least, most)
    top = float(np.abs(values[first:last]).max(initial=0.0)) or 1.0
    pieces = []
    inside = False
    for t, text in token_texts(view):
        inside = first <= t < last if t is not None else inside
        if inside and t is not None:
            level = round(10 * float(np.sqrt(abs(values[t]) / top)))
            pieces.append((visible(text), f"s{level} {'p' if values[t] > 0 else 'n'}", signed(float(values[t]))))
        elif inside:
            pieces.append((visible(text), "", ""))
    return Excerpt(displayable(view.id), target, visible(problem(view)), pieces)


def _window(view: ExampleView, values: NDArray[np.float32], least: int, most: int) -> tuple[int, int]:
    """Token range around the most helpful step (or token), grown by whole neighbouring steps, then by tokens."""
    ends = np.asarray(view.token_offsets, dtype=np.int64)
    places = np.flatnonzero(view.loss_mask)
    low, high = int(places[0]), int(places[-1]) + 1
    steps = [(a, b) for a, b, _ in view.steps if low <= a < b <= high]
    if steps:
        k = int(np.argmax([values[a:b].sum() for a, b in steps]))
        first, last = steps[k]
        before, after = [a for a, _ in steps[:k]], [b for _, b in steps[k + 1 :]]
    else:
        first = int(places[values[places].argmax()])
        last = first + 1
        before, after = list(range(low, first)), list(range(last + 1, high + 1))

    def size(a: int, b: int) -> int:
        piece = view.text[ends[a, 0] : ends[b - 1, 1]]
        return len(piece) + 40 * piece.count("\n")

    while size(first, last) < least and (before or after):
        if after:
            last = after.pop(0)
        if before and size(first, last) < least:
            first = before.pop()
    while size(first, last) > most and last - first > 1:
        last -= 1
    return first, last


_USER = re.compile(
    r"<\|im_start\|>user|<start_of_turn>user|<\|start_header_id\|>user<\|end_header_id\|>|<\|?user\|?>|\[INST\]"
)
_SPECIAL = re.compile(r"<[|/]?[\w|]{2,40}>|\[/?INST\]")


def problem(view: ExampleView, width: int = 160) -> str:
    """The problem in one line: the view's own preview, else its last user turn, never the system prompt."""
    if view.preview:
        return " ".join(displayable(view.preview).split())[:width]
    text = displayable(view.text)
    under = np.flatnonzero(view.loss_mask)
    prompt = text[: int(view.token_offsets[under[0]][0])] if len(under) else text
    turns = [m.end() for m in _USER.finditer(prompt)]
    asked = " ".join(_SPECIAL.sub(" ", prompt[turns[-1] if turns else 0 :]).split())
    asked = re.sub(r"\s*\b(assistant|model)$", "", asked)
    return (asked or " ".join(text.split()))[:width]


def visible(text: str) -> str:
    """Text whose invisible and reordering characters are shown by their code point."""
    return text.translate(_INVISIBLE)


def show_tokens(
    view: ExampleView,
    target: str | None = None,
    *,
    decomposition: str = "loss",
    reference: float | None = None,
) -> TokenMap:
    """A token map of ``view``; ``reference`` fixes the colour scale across examples (default: this one's largest).

    Raises :class:`InputError` for an unknown target or decomposition.
    """
    check_example(view)
    target = target if target is not None else view.targets[0]
    if target not in view.targets or decomposition not in view.scores:
        raise InputError(
            f"example {view.id} has targets {', '.join(view.targets)} and scores {', '.join(view.scores)}; "
            f"'{target}' under '{decomposition}' is not among them"
        )
    made = TokenMap(view, target, decomposition, 0.0)
    own = float(np.abs(made.values).max(initial=0.0))
    return TokenMap(view, target, decomposition, own if reference is None else reference)


def colour(strength: float) -> str:
    """CSS colour of a strength in [-1, 1]: orange below, blue above, clear at zero; reads on light and dark."""
    red, green, blue = POSITIVE if strength > 0 else NEGATIVE
    return f"rgba({red},{green},{blue},{0.6 * abs(strength):.3f})"


def _text(text: str) -> str:
    return escape(visible(text))
