"""A stage as the runner knows it, and the context its function works in: what was declared, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from infra.layout import Run
from infra.models.precision import products_in
from infra.pipeline.recipe import Recipe

PRECISION = "model.precision"
"""The setting of every step that multiplies matrices of a model."""


class UndeclaredInputError(RuntimeError):
    """A step's function asked for an artifact, a model or a setting that the step does not declare: a fault of ours."""


class Context(Run):
    """A run as one step sees it.

    The paths of :class:`~infra.layout.Run` work for the steps it declared to read, and for its own, which lie in
    ``out`` until the step is done. ``recipe`` holds the settings it declared. Anything else raises
    UndeclaredInputError: the step's key would not know of it.
    """

    def __init__(self, stage: Stage, out: Path, root: Path, label: str | None = None) -> None:
        super().__init__(root)
        self._stage, self.out, self.label = stage, out, label or stage.name

    @property
    def root(self) -> Path:
        """Refused: name the steps to read (:meth:`root_for`), or the file to keep (:meth:`beside`)."""
        raise UndeclaredInputError(f"step {self._stage.name} asks for the whole run; use root_for or beside")

    def step(self, name: str) -> Path:
        """The folder of a step that this one declared to read, or its own."""
        if name == self._stage.name:
            return self.out
        if name not in self._stage.needs:
            raise UndeclaredInputError(f"step {self._stage.name} reads {name!r}, which it does not declare")
        return self._root / name

    def has(self, name: str) -> bool:
        """Whether the step declared to read that one, which depends on the recipe."""
        return name in self._stage.needs

    def root_for(self, *names: str) -> Path:
        """The run folder, for code that finds these steps in it by itself."""
        for name in names:
            self.step(name)
        return self._root

    def beside(self, name: str) -> Path:
        """A file or folder beside the steps that outlives them: answers of a judge, never asked for again."""
        return self._root / name

    def use(self, model: str) -> str:
        """Folder or hub id of the model ``base`` or ``sft/...`` that the step declared to use."""
        if model not in self._stage.models:
            raise UndeclaredInputError(f"step {self._stage.name} uses model {model!r}, which it does not declare")
        return self._stage.models[model] or str(self.model(model))

    @property
    def alone(self) -> bool:
        """Whether this process runs the step by itself: no other one waits at its collectives."""
        return not self._stage.parallel

    @property
    def recipe(self) -> Recipe:
        """The recipe, of which only the declared settings can be read."""
        return cast(Recipe, _Declared(self._stage.recipe, self._stage.settings, self._stage.name))

    @property
    def member(self) -> Any:
        """Which one of a family of steps this is."""
        return self._stage.member


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of one run.

    ``config`` holds every setting that its bytes depend on; ``needs`` the stages it reads; ``inputs`` the hashes of
    anything it reads from outside the run. ``parallel``: under torchrun every process runs it, in the same folder, and
    it shares its work out among them; other stages are rank 0's alone. ``recipe``, ``settings`` (dotted names),
    ``models`` (name to place; an empty place: trained by this run) and ``member`` are what its :class:`Context` hands
    out.
    """

    name: str
    run: Callable[[Context], None]
    needs: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    parallel: bool = False
    recipe: Recipe | None = None
    settings: tuple[str, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    member: Any = None

    def perform(self, context: Context) -> None:
        """Run the step, with matrix products in the precision that the recipe asks for where the step declares it."""
        model = self.recipe.model if self.recipe is not None and PRECISION in self.settings else None
        with products_in(model.precision if model else "float32", model.device if model else "cpu"):
            self.run(context)


class _Declared:
    """Settings of which only some can be read. ``allowed`` are dotted names; one names all that is inside it."""

    def __init__(self, value: Any, allowed: tuple[str, ...], step: str, path: str = "") -> None:
        self._value, self._allowed, self._step, self._path = value, allowed, step, path

    def __getattr__(self, name: str) -> Any:
        path = f"{self._path}.{name}" if self._path else name
        if name.startswith("__"):
            raise AttributeError(name)
        if any(a == "*" or path == a or path.startswith(a + ".") for a in self._allowed):
            return getattr(self._value, name)
        if any(a.startswith(path + ".") for a in self._allowed):
            inner = getattr(self._value, name)
            return None if inner is None else _Declared(inner, self._allowed, self._step, path)
        raise UndeclaredInputError(f"step {self._step} reads the setting {path!r}, which it does not declare")
