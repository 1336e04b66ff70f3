"""The same EK-FAC as kronfluence 1.0.1, masks and damping made equal.

Needs an environment with kronfluence and a CPU torch, whose interpreter INFRA_KRONFLUENCE_PYTHON names::

    INFRA_KRONFLUENCE_PYTHON=/path/to/python pytest -m parity tests/parity/test_kronfluence.py

Not compared: `loss` token scores, which it has none of (its token scores are those of input positions).
"""

import pytest

from tests.parity import shared

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module", params=["fixed length", "variable length"])
def both(request, tmp_path_factory):
    return shared.both_sides("kronfluence", request.param, tmp_path_factory.mktemp("kronfluence"))


def test_scores_agree_with_the_same_eigenvectors(both):
    shared.agree_with_the_same_eigenvectors(both)


def test_scores_agree_from_end_to_end(both):
    shared.agree_from_end_to_end(both)
