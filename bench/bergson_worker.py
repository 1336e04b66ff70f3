"""bergson's side of ``bench.engine``, run by the interpreter of an environment that has it.

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

from worker_loop import serve

TOKENS_AT_ONCE = 8192


def main(folder, threads):
    torch.set_num_threads(threads)
    data = np.load(folder / "data.npz")
    labels = np.where(data["train_loss"], data["train_ids"], -100)
    train = Dataset.from_dict(
        {"input_ids": data["train_ids"].tolist(), "labels": labels.tolist(), "length": [len(r) for r in labels]}
    )
    settings = {
        "run_path": str(folder / "run"),
        "model": str(folder / "model"),
        "precision": "fp32",
        "token_batch_size": TOKENS_AT_ONCE,
    }
    model, _ = setup_model_and_peft(IndexConfig(**settings))
    model.eval()
    linear = {n: m for n, m in model.base_model.named_modules() if isinstance(m, torch.nn.Linear) and ".mlp." in n}
    batches = allocate_batches(train["length"][:], TOKENS_AT_ONCE)
    query = {n: torch.randn(1, m.weight.numel()) * 1e-3 for n, m in linear.items()}

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

    def token_scores():
        config = fresh(attribute_tokens=True)
        writer = InMemoryTokenScoreWriter(train, 1)
        scorer = Scorer(query, list(linear), writer, torch.device("cpu"), torch.float32, attribute_tokens=True)
        collect_gradients(
            model, train, processor_for(config), config, batches=batches, target_modules=set(linear), scorer=scorer
        )

    serve({"fit": fit, "token_scores": token_scores})


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
