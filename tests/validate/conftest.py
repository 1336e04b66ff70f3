from __future__ import annotations

import pytest

from infra.validate import FlatModel, flat_model
from tests.validate.tiny import tiny_model


@pytest.fixture(scope="session")
def flat() -> FlatModel:
    return flat_model(tiny_model())
