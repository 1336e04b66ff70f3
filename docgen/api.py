"""Pages of the Python API: one a room, with every public name, rendered by mkdocstrings."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Mapping

ROOMS: Mapping[str, tuple[str, str]] = {
    "infra.influence": ("Influence", "Targets, curvature, directions and scores."),
    "infra.influence.methods": ("Methods", "Every attribution method behind one interface, and how to add one."),
    "infra.models": ("Models", "Loading a model, saying which one it is, and naming the weights that count."),
    "infra.data": ("Data", "Records: read, split, rendered, tokenised, packed and written."),
    "infra.train": ("Fine-tuning", "Supervised fine-tuning, recorded so that it can be replayed."),
    "infra.evals": ("Evaluation", "Benchmarks, graders and accuracies."),
    "infra.spans": ("Steps and behaviours", "Where steps begin and end, and what they do."),
    "infra.analysis": ("Analysis", "Effects with intervals."),
    "infra.experiments.selection": ("Selection", "Training sets chosen by influence, each with its control."),
    "infra.experiments.retraining": ("Retraining", "Whether the scores predict what retraining does."),
    "infra.report": ("Report", "The page, the explorer, and a run as data frames."),
}
"""Module -> (title of its page, what it is about)."""


def public_names(room: str) -> tuple[list[str], list[str]]:
    """(functions, classes) among a room's public names, in the order of ``__all__``."""
    module = importlib.import_module(room)
    found = [(name, getattr(module, name)) for name in module.__all__]
    functions = [name for name, value in found if inspect.isfunction(value)]
    return functions, [name for name, value in found if inspect.isclass(value)]


def api_page(room: str) -> str:
    """A room's page in Markdown, for mkdocstrings to fill."""
    title, about = ROOMS[room]
    out = [f"# {title}: `{room}`\n", about + "\n"]
    for heading, names in zip(("Functions", "Classes"), public_names(room)):
        if names:
            out += [f"## {heading}\n", *(f"::: {place_of(room, name)}\n" for name in names)]
    return "\n".join(out)


def place_of(room: str, name: str) -> str:
    """The dotted name that mkdocstrings finds an object by; a module of the room with its name would hide it."""
    hidden = importlib.util.find_spec(f"{room}.{name}") is not None
    return f"{getattr(importlib.import_module(room), name).__module__}.{name}" if hidden else f"{room}.{name}"
