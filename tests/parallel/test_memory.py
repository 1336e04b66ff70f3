"""Out of memory inside a shard: smaller batches, the same scores, and a note of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infra.errors import ResourceError
from infra.influence import example_influence, save_directions
from infra.influence.engine.functional import Backbone
from infra.influence.steps import OnDisk, each_shard
from infra.influence.steps.settings import forget_model
from infra.models import load_model, tracked_weights
from infra.parallel.launch import Launcher, Runtime
from infra.parallel.shards import open_shards
from tests.influence import toys
from tests.parallel.jobs import make


def test_a_shard_that_does_not_fit_is_done_in_smaller_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make(tmp_path)
    model, _ = load_model(case.model.path, dtype="float64")
    v = [toys.direction(tracked_weights(model, "mlp").parameters, seed) for seed in (0, 1)]
    save_directions(v, tmp_path / "directions", case.hash)
    expected = example_influence(model, toys.examples(23), v)
    whole = Backbone.hidden

    def hungry(self: Any, batch: Any, *rest: Any, **named: Any) -> Any:
        if batch.input_ids.numel() > 24:
            raise torch.OutOfMemoryError("out of memory")
        return whole(self, batch, *rest, **named)

    monkeypatch.setattr(Backbone, "hidden", hungry)
    launcher = Launcher(runtime=Runtime(threads=1))
    data = open_shards(tmp_path / "train.parquet")
    folder = OnDisk(tmp_path / "scores", data, case.model, launcher).example_scores(tmp_path / "directions")
    assert toys.error(np.concatenate(list(each_shard(folder))), expected) < 1e-10
    assert list((tmp_path / "scores" / "examples" / "halved").glob("*.json"))
    monkeypatch.setattr(Backbone, "hidden", lambda *_, **__: (_ for _ in ()).throw(torch.OutOfMemoryError("memory")))
    with pytest.raises(ResourceError, match="record r"):
        OnDisk(tmp_path / "none", data, case.model, launcher).example_scores(tmp_path / "directions")
    forget_model()
