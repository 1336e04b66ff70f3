"""The same EK-FAC as bergson 2.5.1, and the same two kinds of token scores.

Needs an environment with bergson and a CPU torch, whose interpreter INFRA_BERGSON_PYTHON names::

    INFRA_BERGSON_PYTHON=/path/to/python pytest -m parity tests/parity/test_bergson.py

It inverts eigenvalues in float32 whatever the model's dtype, so "end to end in float64" holds for all of its steps but
that one. It counts every position of a sequence but the last, where we count those up to the last prediction: the same
here, since all responses run to the end.
"""

import pytest

from infra.influence import token_influence
from tests.influence import toys
from tests.parity import shared

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module", params=["fixed length", "variable length"])
def both(request, tmp_path_factory):
    return shared.both_sides("bergson", request.param, tmp_path_factory.mktemp("bergson"))


def test_scores_agree_with_the_same_eigenvectors(both):
    shared.agree_with_the_same_eigenvectors(both)


def test_scores_agree_from_end_to_end(both):
    shared.agree_from_end_to_end(both)


def test_loss_token_scores_agree_with_its_output_influence(both):
    model, train, queries, tracked, theirs = both
    curvature = shared.with_their_eigenvectors(model, train, tracked, theirs)
    directions = shared.our_directions(model, queries, tracked, curvature)
    for chunk in token_influence(model, train, directions):
        for index, scores in zip(chunk.indices, chunk.scores):
            assert toys.error(scores, theirs["outputs"][:, index, : scores.shape[1]]) < 1e-4
