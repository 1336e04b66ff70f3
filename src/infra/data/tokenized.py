"""A record as the model sees it: token ids, which of them carry loss, and where each lies in the text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Counted = Literal["content", "all"]
"""Which tokens under the loss count: those that the response's author wrote, or the chat template's as well."""


@dataclass(frozen=True, slots=True)
class TokenizedExample:
    """One sequence of ``T`` tokens, unpadded.

    ``input_ids``: int64 ``[T]``. ``loss_mask``: bool ``[T]``, True where the token is predicted under the loss
    (response tokens and the end-of-turn token; never position 0). ``offsets``: int32 ``[T, 2]``, character
    offsets into ``text``, the rendered conversation. ``response_start``: where the response's own text begins
    in ``text``, so that a span of the response is shifted by it. ``weight`` multiplies the example's loss and
    ``token_weights`` (float32 ``[T]`` or None) each token's. ``content_mask``: bool ``[T]``, True for the
    tokens under the loss that hold what the response's author wrote, the others under the loss being the template's
    (end of turn, thinking tags); None where that is not known.
    """

    id: str
    input_ids: NDArray[np.int64]
    loss_mask: NDArray[np.bool_]
    offsets: NDArray[np.int32]
    text: str
    response_start: int
    weight: float = 1.0
    token_weights: NDArray[np.float32] | None = None
    content_mask: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def n_response_tokens(self) -> int:
        """Number of tokens under the loss."""
        return int(self.loss_mask.sum())

    @property
    def template_mask(self) -> NDArray[np.bool_]:
        """Bool ``[T]``: the tokens under the loss that the chat template wrote; none where that is not known."""
        if self.content_mask is None:
            return np.zeros_like(self.loss_mask)
        return self.loss_mask & ~self.content_mask

    def counting(self, tokens: Counted) -> TokenizedExample:
        """The example with the loss on its content tokens alone, or on all that it is on now."""
        if tokens == "all" or not self.template_mask.any():
            return self
        return replace(self, loss_mask=self.loss_mask & ~self.template_mask)
