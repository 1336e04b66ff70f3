"""A token map in a notebook: an example's tokens as HTML, coloured without script.

As the last expression of a notebook cell: ``show_tokens(view, "math")``.
"""

from __future__ import annotations

from collections.abc import Iterator
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
        text = displayable(self.view.text)
        gaps, lengths = boundaries(np.asarray(self.view.token_offsets, dtype=np.int64))
        at = 0
        for t, (gap, length) in enumerate(zip(gaps.tolist(), lengths.tolist())):
            yield _text(text[at : at + gap])
            at += gap + length
            strength = float(np.sign(values[t]) * np.sqrt(min(1.0, abs(values[t]) / (self.reference or 1.0))))
            dim = "" if self.view.loss_mask[t] else "opacity:.6;"
            yield (
                f"<bdi style='{dim}background:{colour(strength)}' title='token {t}: {signed(float(values[t]))}'>"
                f"{_text(text[at - length : at])}</bdi>"
            )
        yield _text(text[at:])


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
    return escape(text.translate(_INVISIBLE))
