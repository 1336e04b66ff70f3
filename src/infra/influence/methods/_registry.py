"""The methods by name. A file in this folder registers its own; a user's file or package needs no entry here."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar

from infra.errors import InputError
from infra.influence.methods._method import Method
from infra.plugins import from_file, installed, is_in_file

GROUP = "infra.methods"
"""The entry point group in which an installed package names its methods."""
METHODS: dict[str, Callable[..., Method]] = {}
"""Name -> the class, called with its settings."""
OTHER_NAMES = {
    "ekfac_cg_ensemble": "ekfac_cg+seeds",
    "ekfac_cg_checkpoints": "ekfac_cg+checkpoints",
    "unrolled_seeds": "unrolled+seeds",
    "unrolled_middle_seeds": "unrolled_middle+seeds",
}
"""Names of ensembles from before ensembles were an option."""
Made = TypeVar("Made", bound=Callable[..., Any])


def register(name: str) -> Callable[[Made], Made]:
    """A class decorator: the method is called ``name``. Raises :class:`InputError` for a name that is taken."""

    def enter(made: Made) -> Made:
        if name in METHODS:
            raise InputError(f"two methods are called {name!r}; give one of them another name")
        METHODS[name] = made
        return made

    return enter


@cache
def load_methods() -> None:
    """Import every file of this folder, so that it registers itself."""
    package = importlib.import_module(__package__ or "infra.influence.methods")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{package.__name__}.{module.name}")


def method_names() -> list[str]:
    """Every registered method, sorted, without ensembles and without what users add."""
    load_methods()
    return sorted(METHODS)


def methods_that_replay() -> list[str]:
    """Registered methods that cannot do without the recorded training run: their class says ``replays = True``."""
    return [name for name in method_names() if getattr(METHODS[name], "replays", False)]


def needs_recorded_run(name: str) -> bool:
    """Whether a method cannot do without the recorded training run: an ensemble, or one that says ``replays``."""
    return "+" in OTHER_NAMES.get(name, name) or bool(getattr(get_method(name), "replays", False))


def has_token_scores(name: str) -> bool:
    """Whether a method scores tokens; one that scores examples alone says ``has_tokens = False``."""
    method = get_method(name)
    return bool(getattr(getattr(method, "method", method), "has_tokens", True))


def get_method(name: str, **settings: Any) -> Method:
    """The method called ``name`` with these settings, the others at their defaults.

    ``name`` is one of :func:`method_names`, the name of an entry point in the group ``infra.methods``, or
    ``path/to/file.py:ClassName`` for a class in a file of yours. With ``+seeds`` or ``+checkpoints`` behind it, it is
    the mean over models trained with fresh seeds or over checkpoints of the recorded run
    (:class:`.ensemble.Ensemble`); ``members`` and ``member_seed`` are then settings too.

    Raises :class:`InputError` for an unknown name or setting, saying which there are.
    """
    from infra.influence.methods.ensemble import Ensemble

    base, plus, over = OTHER_NAMES.get(name, name).partition("+")
    if not plus:
        return _built(base, _class_of(base), settings)
    of_ensemble = {k: settings.pop(k) for k in ("members", "member_seed") if k in settings}
    return Ensemble(get_method(base, **settings), over, **of_ensemble)


def _class_of(name: str) -> Callable[..., Method]:
    if is_in_file(name):
        made: Callable[..., Method] = from_file(name, "method")
        return made
    load_methods()
    if name in METHODS:
        return METHODS[name]
    added = installed(GROUP)
    if name in added:
        made = added[name].load()
        return made
    raise InputError(
        f"unknown method {name!r}; choose from {', '.join([*method_names(), *added])}, add '+seeds' or '+checkpoints' "
        "for an ensemble, or name a class in a file of yours as path/to/file.py:ClassName"
    )


def _built(name: str, made: Callable[..., Method], settings: dict[str, Any]) -> Method:
    try:
        method = made(**settings)
    except TypeError as error:
        known: list[str] = [f.name for f in fields(made) if f.init] if is_dataclass(made) else []
        wrong = sorted(set(settings) - set(known))
        if known and wrong:
            raise InputError(f"method {name!r} has no setting {wrong[0]!r}; it has {', '.join(known)}") from error
        raise InputError(f"method {name!r} cannot be made: {error}") from error
    missing = [f for f in ("fit", "load") if not callable(getattr(method, f, None))]
    if missing:
        raise InputError(f"{name!r} is not a method: it has no {missing[0]}(); see docs/how-to/add-a-method.md")
    return method
