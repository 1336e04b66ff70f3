"""bergson's side of ``bench.engine`` and ``bench.real``, run by the interpreter of an environment that has it.

float32, the same rows, masks and loss as ours, per-sequence eigenvalues, sampled labels. Its own pipeline's functions
(``fit_factored_hessians``, ``collect_gradients`` with a scorer), called on a model that is loaded already; token scores
stay in memory rather than in files. Factors are written to disk, which the library always does. ``token_batch_size`` is
what ours takes at once. It has no low-rank queries, so it sits out ``queries100``.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from bergson.collection import collect_gradients
from bergson.config import HessianConfig, IndexConfig
from bergson.data import allocate_batches
from bergson.hessians.hessian_approximations import fit_factored_hessians
from bergson.score.score_writer import InMemoryTokenScoreWriter
from bergson.score.scorer import Scorer
from bergson.utils.worker_utils import processor_for, setup_model_and_peft
from datasets import Dataset

from worker_loop import serve, split


def main(folder, threads, precision, tokens):
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)
    data = np.load(folder / "data.npz")
    ids = split(data, "train", "ids")
    labels = [np.where(loss, row, -100) for row, loss in zip(ids, split(data, "train", "loss"))]
    train = Dataset.from_dict(
        {
            "input_ids": [row.tolist() for row in ids],
            "labels": [row.tolist() for row in labels],
            "length": data["train_lengths"].tolist(),
        }
    )
    settings = {
        "run_path": str(folder / "run"),
        "model": str(folder / "model"),
        "precision": "fp32",
        "token_batch_size": tokens,
    }
    model, _ = setup_model_and_peft(IndexConfig(**settings))
    model.eval()
    linear = {n: m for n, m in model.base_model.named_modules() if isinstance(m, torch.nn.Linear) and ".mlp." in n}
    batches = allocate_batches(train["length"][:], tokens)
    query = {n: torch.randn(2, m.weight.numel()) * 1e-3 for n, m in linear.items()}

    def fresh(**more):
        config = IndexConfig(**settings, **more)
        shutil.rmtree(config.partial_run_path, ignore_errors=True)
        config.partial_run_path.mkdir(parents=True)
        return config

    def fit():
        config = fresh()
        fit_factored_hessians(
            model,
            train,
            config,
            HessianConfig(method="kfac", ev_correction=True),
            target_modules=set(linear),
            attention_cfgs={},
            batches=batches,
            path=str(config.partial_run_path),
            do_eigendecomposition=True,
        )

    def token_scores(targets):
        config = fresh(attribute_tokens=True)
        writer = InMemoryTokenScoreWriter(train, targets)
        some = {name: rows[:targets] for name, rows in query.items()}
        scorer = Scorer(some, list(linear), writer, torch.device("cpu"), torch.float32, attribute_tokens=True)
        collect_gradients(
            model, train, processor_for(config), config, batches=batches, target_modules=set(linear), scorer=scorer
        )

    serve({"fit": fit, "token_scores": lambda: token_scores(1), "two_targets": lambda: token_scores(2)})


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[4], int(sys.argv[5]))
