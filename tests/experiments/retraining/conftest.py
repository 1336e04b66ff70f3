from __future__ import annotations

import pytest

from infra.experiments.retraining import FlatModel, flat_model
from tests.experiments.retraining.tiny import tiny_model


@pytest.fixture(scope="session")
def flat() -> FlatModel:
    return flat_model(tiny_model())
