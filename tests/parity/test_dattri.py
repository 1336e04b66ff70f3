"""The same EK-FAC as dattri-llm 0.1.0, given its eigenvectors.

Needs an environment with dattri-llm, transformers and a CPU torch, whose interpreter INFRA_DATTRI_PYTHON names::

    INFRA_DATTRI_PYTHON=/path/to/python pytest -m parity tests/parity/test_dattri.py

Not compared from end to end: its covariances have no mask and count a sequence's last position, through which no loss
flows. Not compared: `loss` token scores, which it has none of.
"""

import pytest

from tests.parity import shared

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module", params=["fixed length", "variable length"])
def both(request, tmp_path_factory):
    return shared.both_sides("dattri", request.param, tmp_path_factory.mktemp("dattri"))


def test_scores_agree_with_the_same_eigenvectors(both):
    shared.agree_with_the_same_eigenvectors(both)
