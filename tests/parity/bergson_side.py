"""The other side of a comparison with bergson, run by the interpreter of an environment of its own.

    python bergson_side.py FOLDER     FOLDER holds model/ and data.npz; results.npz is written into it

Empirical Fisher, summed losses, damping 0.1 of the mean, everything in float64 but the inversion (float32 by design).
Query gradients come from plain autograd; factors, preconditioning and scores are the library's.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from bergson.collection import collect_gradients
from bergson.config import HessianConfig, IndexConfig
from bergson.data import allocate_batches, pad_and_tensor
from bergson.hessians.hessian_approximations import fit_factored_hessians
from bergson.hessians.preconditioner import load_preconditioner
from bergson.score.output_influence import output_token_influence, query_directions
from bergson.score.score_writer import InMemoryTokenScoreWriter
from bergson.score.scorer import Scorer
from bergson.utils.worker_utils import processor_for, setup_model_and_peft
from datasets import Dataset
from float64 import Float64
from safetensors.torch import load_file
from torch.nn import functional as F


def rows(data, kind):
    """ids and labels without their padding."""
    return [
        (data[f"{kind}_ids"][i, :n].tolist(), data[f"{kind}_labels"][i, :n].tolist())
        for i, n in enumerate(data[f"{kind}_lengths"])
    ]


def query_gradients(model, names, queries):
    """The gradient of each query's summed loss, ``[Q, out * in]`` by module name."""
    weights = [model.base_model.get_submodule(n).weight.requires_grad_(True) for n in names]
    found = []
    for ids, labels in queries:
        logits = model(torch.tensor([ids])).logits[0, :-1]
        value = F.cross_entropy(logits, torch.tensor(labels[1:]), ignore_index=-100, reduction="sum")
        found.append([g.flatten() for g in torch.autograd.grad(value, weights)])
    for weight in weights:
        weight.requires_grad_(False)
    return {n: torch.stack(g) for n, g in zip(names, zip(*found))}


def scattered(writer_scores, width):
    """Rows of all positions but the last into ``[Q, N, width]``."""
    out = np.zeros((writer_scores[0].shape[1], len(writer_scores), width))
    for i, scores in enumerate(writer_scores):
        out[:, i, : len(scores)] = scores.numpy().T
    return out


def main(folder):
    data = np.load(folder / "data.npz")
    train, queries = rows(data, "train"), rows(data, "query")
    width = data["train_ids"].shape[1]
    dataset = Dataset.from_dict(
        {"input_ids": [r[0] for r in train], "labels": [r[1] for r in train], "length": [len(r[0]) for r in train]}
    )
    settings = {"run_path": str(folder / "run"), "model": str(folder / "model"), "precision": "fp64"}
    settings["token_batch_size"] = 30
    config = IndexConfig(**settings)
    config.partial_run_path.mkdir(parents=True)
    model, _ = setup_model_and_peft(config, attn_implementation="eager")
    model.eval()
    modules = [str(n) for n in data["modules"]]
    names = [n.removeprefix("model.") for n in modules]
    batches = allocate_batches(dataset["length"][:], 30)
    with Float64():
        fit_factored_hessians(
            model,
            dataset,
            config,
            HessianConfig(method="kfac", ev_correction=True, hessian_dtype="fp64", use_dataset_labels=True),
            target_modules=set(names),
            attention_cfgs={},
            batches=batches,
            path=str(config.partial_run_path),
            do_eigendecomposition=True,
        )
        gradients = query_gradients(model, names, queries)
    apply = load_preconditioner(config.partial_run_path, ev_correction=True).apply
    solved = apply({n: g.float() for n, g in gradients.items()})
    results = {}
    with Float64():
        token_config = IndexConfig(**settings, attribute_tokens=True)
        writer = InMemoryTokenScoreWriter(dataset, len(queries), torch.float64)
        wide = {n: g.double().flatten(1) for n, g in solved.items()}
        scorer = Scorer(wide, names, writer, torch.device("cpu"), torch.float64, attribute_tokens=True)
        collect_gradients(
            model,
            dataset,
            processor_for(token_config),
            token_config,
            batches=batches,
            target_modules=set(names),
            scorer=scorer,
        )
        results["tokens"] = scattered(writer.scores, width)
        results["examples"] = results["tokens"].sum(2)
        info = {n: (None, model.base_model.get_submodule(n).weight.shape, False) for n in names}
        along = query_directions(model, scorer.query_grads_t, info)
        outputs = np.zeros_like(results["tokens"])
        for i, (ids, labels) in enumerate(train):
            x, y, _, _ = pad_and_tensor([ids], labels=[labels], sync_max_len=False)
            rates, _ = output_token_influence(model, x, y, along, token_config, None)
            outputs[:, i, 1 : len(ids)] = rates[0].numpy().T
        results["outputs"] = outputs
    for side, subdir in (("inputs", "eigen_activation_sharded"), ("outputs", "eigen_gradient_sharded")):
        vectors = load_file(config.partial_run_path / subdir / "shard_0.safetensors")
        for module, name in zip(modules, names):
            results[f"{side}:{module}"] = vectors[name].double().numpy()
    np.savez(folder / "results.npz", **results)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
