"""The picture of explanation/influence.md, drawn from real training runs: ``python -m docgen.figure``.

A small training run on the embedded world is made again and again with another weight on ONE training example, and f is
measured after each. Influence (here the exact, unrolled one) is the slope of that curve at weight 1. Takes about two
minutes on one core; writes the figure and its numbers to docs/figures/.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from infra.data import TokenizedExample, tokenize
from infra.influence.engine.adjoint import unrolled
from infra.models import load_model
from infra.train import SFTConfig
from infra.train.flat_model import flat_model, loss_weights, query_values
from infra.train.recorded import RecordedRun
from infra.train.replay import plan_of_sft, train
from infra.world import BASE_MODEL, build_world

OUT = Path(__file__).resolve().parents[1] / "docs" / "figures"
WEIGHTS = (0.0, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
CHOSEN = {"most helpful": ("#1f6fb4", "-"), "in the middle": ("#6b6b6b", "--"), "least helpful": ("#c8571b", "-.")}
"""Name of an example -> colour and line of its curve."""


def small_run(n_train: int = 32, n_queries: int = 8) -> tuple[RecordedRun, list[TokenizedExample]]:
    """A training run of 8 steps on math and code examples, and the correct math responses that f is made of."""
    model, tokenizer = load_model(BASE_MODEL, dtype="float32")
    world = build_world()
    train_records = [r for d in ("math", "code") for r in [r for r in world.train if r.domain == d][: n_train // 2]]
    examples = tokenize(train_records, tokenizer, max_length=512).examples
    queries = tokenize([r for r in world.pool if r.domain == "math"][:n_queries], tokenizer, max_length=512).examples
    config = SFTConfig(learning_rate=5e-4, epochs=2, batch_size=8)
    tokens = float(np.mean([e.loss_mask.sum() for e in examples])) * config.batch_size
    return RecordedRun(flat_model(model), plan_of_sft(config, len(examples), 0, tokens), examples), queries


def f_after(run: RecordedRun, queries: list[TokenizedExample], index: int, weight: float) -> float:
    """f (nats per token) after the run with another weight on one example."""
    weights = np.ones(len(run.examples))
    weights[index] = weight
    theta = train(run.flat, run.plan, run.examples, loss_weights(run.examples, weights))
    return float(np.mean(query_values(run.flat, theta, queries)))


def measure() -> dict[str, Any]:
    """The numbers of the figure: influences, and f at each weight of the chosen examples."""
    run, queries = small_run()
    found = unrolled(run, queries, np.full((1, len(queries)), 1 / len(queries)))
    influence = np.array([t[0].sum() for t in found.tokens])
    order = np.argsort(influence)
    indices = (order[-1], order[len(order) // 2], order[0])
    return {
        "what": "f, nats per token, after training with a weight on one example; influence: its slope at weight 1",
        "weights": WEIGHTS,
        "examples": [
            {
                "name": name,
                "id": run.examples[i].id,
                "influence": float(influence[i]),
                "f": [f_after(run, queries, int(i), w) for w in WEIGHTS],
            }
            for name, i in zip(CHOSEN, indices)
        ],
    }


def draw(numbers: dict[str, Any], out: Path) -> None:
    """The figure as SVG; the same bytes for the same numbers."""
    plt.rcParams.update({"svg.hashsalt": "infra", "font.size": 11, "svg.fonttype": "none"})
    figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    weights = np.array(numbers["weights"])
    for example in numbers["examples"]:
        colour, line = CHOSEN[example["name"]]
        change = 1000 * (np.array(example["f"]) - example["f"][WEIGHTS.index(1.0)])
        slope = 1000 * example["influence"]
        axes.plot(weights, change, "o", color=colour, label=f"{example['name']}: f after retraining")
        axes.plot(weights, slope * (weights - 1), line, color=colour, label=f"its influence, {slope:+.1f}, as a slope")
    axes.axvline(1, color="#999999", linewidth=0.8)
    axes.set_xlabel("weight on one training example (0: left out, 1: as it was, 2: counted twice)")
    axes.set_ylabel("change of f (thousandths of a nat per token)")
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, metadata={"Date": None}, transparent=False, facecolor="white")
    plt.close(figure)


def main() -> None:
    """Measure and draw."""
    numbers = measure()
    (OUT / "influence.json").write_text(json.dumps(numbers, indent=1) + "\n")
    draw(numbers, OUT / "influence.svg")


if __name__ == "__main__":
    main()
