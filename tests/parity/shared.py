"""What every comparison with another library's EK-FAC needs: data both sides read, and our side of it."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from infra.influence import MeanLogLikelihood, example_influence, fit_ekfac, gradient, token_influence
from infra.influence.curvature import Curvature, Factor, FitInfo
from infra.influence.engine.batches import build_batch
from infra.influence.engine.eigenbases import Basis, corrected_eigenvalues
from infra.influence.engine.engine import Engine, FitSettings
from infra.models import tracked_weights
from tests.influence import toys


def padded(items, width):
    """ids, labels with -100 where there is no loss, and the positions a loss flows through, ``[n, width]``."""
    ids, labels, counted = (np.zeros((len(items), width), np.int64) for _ in range(3))
    labels -= 100
    for row, item in enumerate(items):
        n = len(item)
        ids[row, :n] = item.input_ids
        labels[row, :n] = np.where(item.loss_mask, item.input_ids, -100)
        counted[row, :n] = build_batch([item], [0]).flows[0].numpy()
    return ids, labels, counted


def both_sides(library, lengths, folder):
    """Our model and examples, and what the library, in an environment of its own, makes of them."""
    name = f"INFRA_{library.upper()}_PYTHON"
    python = os.environ.get(name)
    if not python:
        pytest.fail(f"set {name} to the interpreter of an environment with {library} and a CPU torch")
    model = toys.qwen2(attn_implementation="eager", tie_word_embeddings=False)
    fixed = [toys.example(f"t{k}", 9, 2, k) for k in range(24)]
    train = fixed if lengths == "fixed length" else toys.examples(24)
    queries = toys.examples(5, seed=1)
    tracked = tracked_weights(model)
    model.save_pretrained(folder / "model")
    arrays = {}
    for kind, items in (("train", train), ("query", queries)):
        parts = padded(items, max(map(len, items)))
        arrays |= {f"{kind}_{key}": part for key, part in zip(("ids", "labels", "counted"), parts)}
        arrays[f"{kind}_lengths"] = np.array([len(item) for item in items])
    modules = [w.modules[0] for w in tracked.weights]
    np.savez(folder / "data.npz", modules=np.array(modules), **arrays)
    side = Path(__file__).with_name(f"{library}_side.py")
    done = subprocess.run([python, str(side), str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return model, train, queries, tracked, dict(np.load(folder / "results.npz"))


def our_directions(model, queries, tracked, curvature):
    targets = [MeanLogLikelihood(q.id, [q], "summed") for q in queries]
    return [curvature.inverse() @ gradient(model, t, tracked) for t in targets]


def with_their_eigenvectors(model, train, tracked, theirs):
    bases = {}
    for weight in tracked.weights:
        inputs, outputs = (torch.from_numpy(theirs[f"{side}:{weight.modules[0]}"]) for side in ("inputs", "outputs"))
        bases[weight.name] = Basis(outputs, inputs, outputs[0], inputs[0])
    values = corrected_eigenvalues(Engine(model, tracked), train, bases, FitSettings(fisher="empirical"))
    factors = {k: Factor(v / len(train), bases[k].outputs, bases[k].inputs) for k, v in values.items()}
    return Curvature(factors, tracked.blocks, FitInfo("ekfac", "empirical"))


def agree_with_the_same_eigenvectors(both):
    """Example and token scores within 1e-4 once their eigenvectors are loaded."""
    model, train, queries, tracked, theirs = both
    curvature = with_their_eigenvectors(model, train, tracked, theirs)
    directions = our_directions(model, queries, tracked, curvature)
    examples = example_influence(model, train, directions)
    assert toys.error(examples.T, theirs["examples"]) < 1e-4
    for chunk in token_influence(model, train, directions, decomposition="position"):
        for index, scores in zip(chunk.indices, chunk.scores):
            assert toys.error(scores, theirs["tokens"][:, index, : scores.shape[1]]) < 1e-4


def agree_from_end_to_end(both):
    """Ranks of example and token scores, each side with its own eigenvectors."""
    model, train, queries, tracked, theirs = both
    directions = our_directions(model, queries, tracked, fit_ekfac(model, train, tracked, fisher="empirical"))
    examples = example_influence(model, train, directions)
    assert spearmanr(examples.T.ravel(), theirs["examples"].ravel()).statistic >= 0.9999
    pairs = [
        (scores.ravel(), theirs["tokens"][:, index, : scores.shape[1]].ravel())
        for chunk in token_influence(model, train, directions, decomposition="position")
        for index, scores in zip(chunk.indices, chunk.scores)
    ]
    ours, others = (np.concatenate(side) for side in zip(*pairs))
    assert spearmanr(ours, others).statistic >= 0.9999
