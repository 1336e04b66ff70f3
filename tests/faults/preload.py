"""Imported once by the process that the others are forked from: everything a run imports, so that a child starts at
once. Threads are kept at one, since threads do not survive a fork."""

import importlib
import os

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")

for name in (
    "duckdb",
    "sympy",
    "transformers.trainer",
    "transformers.models.qwen2.modeling_qwen2",
    "infra.cli",
    "infra.report",
    "infra.models.small",
    "infra.train.trainer",
    "infra.pipeline.attribute",
    "infra.pipeline.experiment",
    "infra.pipeline.page",
    "infra.pipeline.spans",
    "infra.pipeline.targets",
    "infra.pipeline.graph",
):
    importlib.import_module(name)
