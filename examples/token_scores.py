"""Token scores in a notebook: which tokens of a training example help, and which hurt?

python examples/token_scores.py        # writes token_scores.html; in a notebook, end a cell with `main()`
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from _world import small_world, tokens
from infra.influence import Damping, MeanLogLikelihood, fit_ekfac, gradient, token_influence
from infra.models import tracked_weights
from infra.report import ExampleView, TokenMap, show_tokens


def main() -> TokenMap:
    """The first training example, its tokens coloured by their influence on correct code."""
    model, tokenizer, train, correct = small_world()
    code = MeanLogLikelihood("code", tokens([r for r in correct if r.domain == "code"], tokenizer))
    tracked = tracked_weights(model, "mlp")
    examples = tokens(train, tokenizer)
    direction = fit_ekfac(model, examples, tracked).inverse(Damping(0.1)) @ gradient(model, code, tracked)
    [chunk] = token_influence(model, examples[:1], [direction])
    example, scores = examples[0], chunk.scores[0].astype(np.float32)
    for t in np.argsort(-np.abs(scores[0]))[:5]:
        start, end = example.offsets[t]
        print(f"{scores[0, t]:+9.1f}  {example.text[start:end]!r}")
    view = ExampleView(
        example.id,
        {"domain": train[0].domain},
        example.text,
        example.offsets,
        example.loss_mask,
        {"loss": scores},
        ["code"],
    )
    return show_tokens(view, "code")


if __name__ == "__main__":
    Path("token_scores.html").write_text(main()._repr_html_(), encoding="utf-8")
    print("token_scores.html")
