"""A method in a file of the user's own, or in an installed package, works under its place or its name."""

import re
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from infra import plugins
from infra.errors import InputError
from infra.influence import MeanLogLikelihood, example_influence, gradient
from infra.influence.methods import Engine, MethodContext, get_method
from infra.models import tracked_weights
from tests.influence import toys

DOCS = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-method.md"
OWN = re.search(r"```python\n(# sign.py\n.*?)```", DOCS.read_text(), re.DOTALL).group(1)  # the manual's own example


@pytest.fixture
def place(tmp_path):
    path = tmp_path / "my_method.py"
    path.write_text(f"{OWN}\n\nclass NotAMethod:\n    pass\n")
    return f"{path}:Sign"


def test_a_users_own_file_scores_and_takes_settings(place):
    model, train = toys.qwen2(), toys.examples(4)
    tracked = tracked_weights(model)
    target = MeanLogLikelihood("own", train[:2])
    context = MethodContext(Engine(model, tracked), train, [target])
    found = list(get_method(place, factor=2.0).fit(context).scores(train))
    g = gradient(model, target, tracked)
    v = type(g)({k: 2 * t.sign() for k, t in g.tensors.items()})
    expected = example_influence(model, train, [v])
    assert len(found) == 4
    for s in found:
        assert s.example == pytest.approx(expected[s.index]) and np.allclose(s.tokens.sum(1), s.example)


def test_an_installed_package_names_its_method_by_an_entry_point(place, monkeypatch):
    entry = EntryPoint("signed", "collections:OrderedDict", "infra.methods")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry] if group == "infra.methods" else [])
    with pytest.raises(InputError, match=r"'signed' is not a method: it has no fit\(\)"):
        get_method("signed")
    monkeypatch.setattr(EntryPoint, "load", lambda self: type(get_method(place)))
    assert get_method("signed", factor=3.0).factor == 3.0
    with pytest.raises(InputError, match=r"choose from .*, signed, add"):
        get_method("magic")


def test_what_is_wrong_with_a_file_is_said(place, tmp_path):
    path = place.rpartition(":")[0]
    with pytest.raises(InputError, match="there is no file"):
        get_method("nowhere.py:Own")
    with pytest.raises(InputError, match=r"does not define 'Other'; it defines .*Sign, NotAMethod"):
        get_method(f"{path}:Other")
    with pytest.raises(InputError, match=r"is not a method: it has no fit\(\)"):
        get_method(f"{path}:NotAMethod")
    with pytest.raises(InputError, match="has no setting 'size'; it has factor"):
        get_method(place, size=1)
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_like_it\n")
    with pytest.raises(InputError, match=r"cannot be imported \(ModuleNotFoundError"):
        get_method(f"{broken}:Own")
