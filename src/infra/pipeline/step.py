"""What a step declares beside its function, and how a job's stages and their keys follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from infra.errors import ArtifactError
from infra.layout import BASE, EXPLAINED
from infra.models import generation_config_hash, model_folder, model_hash, tokenizer_hash
from infra.pipeline.recipe import Recipe
from infra.pipeline.stage import Context, Stage
from infra.store import MANIFEST, RunFolder, link, sha256_path

WEIGHTS, TOKENIZER, GENERATION = "weights", "tokenizer", "generation config"
_HASHES: Mapping[str, Callable[[str], str]] = {
    WEIGHTS: model_hash,
    TOKENIZER: tokenizer_hash,
    GENERATION: generation_config_hash,
}


@dataclass(frozen=True, slots=True)
class Uses:
    """A model that a step uses, and the parts of it that its result depends on."""

    model: str
    parts: tuple[str, ...] = (WEIGHTS,)


@dataclass(frozen=True)
class Job:
    """A recipe in a folder, with what is given rather than made.

    ``models``: ``base`` and ``sft/...`` that exist before the run, as folder or hub id. ``steps``: finished steps of
    an earlier run, by the run's folder. ``fetch=False`` plans without downloading a model from the hub.
    """

    recipe: Recipe
    models: Mapping[str, str] = field(default_factory=dict)
    steps: Mapping[str, Path] = field(default_factory=dict)
    fetch: bool = True

    @property
    def trains(self) -> bool:
        """Whether the explained model is made here, and data experiments with it; else it is given."""
        return EXPLAINED not in self.models and not self.warms_up

    @property
    def warms_up(self) -> bool:
        """Whether the explained model is the given one after a short fine-tuning here."""
        return self.recipe.warmup is not None

    def makes(self, step: str) -> bool:
        """Whether a step is run here rather than given."""
        return step not in self.steps

    @cached_property
    def _hashes(self) -> dict[tuple[str, str], str]:
        return {}

    def part(self, model: str, part: str) -> str:
        """Hash of a part of a given model; found once, since a model may be large."""
        path = self.models[model]
        if (path, part) not in self._hashes:
            if model_folder(path, fetch=self.fetch) is None:
                return f"not here yet: {path}"
            self._hashes[path, part] = _HASHES[part](path)
        return self._hashes[path, part]

    @cached_property
    def dumped(self) -> dict[str, Any]:
        """The recipe as JSON values."""
        return self.recipe.model_dump(mode="json", by_alias=True)


Names = tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """A step of the job, declared beside its function.

    Everything is a value, or a function of the job (and of the member, for a family of steps) that gives one:

    - ``reads``: the steps whose folders it reads;
    - ``uses``: the models it uses. One that the run trains is a step too, and is then read whole;
    - ``settings``: the settings, by dotted name, that its bytes depend on; ``unhashed``: settings that it reads and
      its bytes do not depend on (or only through what it reads);
    - ``also``: further values that its bytes depend on, derived from settings;
    - ``files``: what it reads from outside the run;
    - ``when``: whether the job has it; ``each``: the members of a family, whose names are those of the steps;
    - ``parallel``: as in :class:`~infra.pipeline.stage.Stage`.
    """

    name: str
    run: Callable[[Context], None]
    reads: Names | Callable[[Job, Any], Names] = ()
    uses: Sequence[Uses] | Callable[[Job, Any], Sequence[Uses]] = ()
    settings: Names | Callable[[Job], Names] = ()
    unhashed: Names = ()
    also: Callable[[Job, Any], Mapping[str, Any]] = lambda job, member: {}
    files: Callable[[Job], Iterable[str]] = lambda job: ()
    when: Callable[[Job], bool] = lambda job: True
    each: Callable[[Job], Sequence[Any]] | None = None
    parallel: bool = False

    def names(self, job: Job) -> list[str]:
        """The names of the stages that are run here for a job; looks at no model and at no file."""
        if not self.when(job) or not job.makes(self.name):
            return []
        return [self.name] if self.each is None else [member.step for member in self.each(job)]

    def stages(self, job: Job) -> list[Stage]:
        """The stages this step has in a job: none, one, or one a member."""
        if not self.when(job):
            return []
        if not job.makes(self.name):
            return [_given(self.name, job.steps[self.name])]
        if self.each is None:
            return [self._stage(job, self.name, None)]
        return [self._stage(job, member.step, member) for member in self.each(job)]

    def _stage(self, job: Job, name: str, member: Any) -> Stage:
        reads = self.reads(job, member) if callable(self.reads) else self.reads
        uses = self.uses(job, member) if callable(self.uses) else self.uses
        settings = self.settings(job) if callable(self.settings) else self.settings
        made = tuple(u.model for u in uses if u.model not in job.models)
        files = {f: found for f in self.files(job) if (found := sha256_path(Path(f))) is not None}
        parts = {f"{u.model} {p}": job.part(u.model, p) for u in uses if u.model in job.models for p in u.parts}
        return Stage(
            name,
            self.run,
            tuple(dict.fromkeys((*reads, *made))),
            {**{s: _setting(job.dumped, s) for s in settings}, **self.also(job, member)},
            {**files, **parts},
            self.parallel,
            job.recipe,
            (*settings, *self.unhashed),
            {u.model: job.models.get(u.model, "") for u in uses},
            member,
        )


def _setting(dumped: Mapping[str, Any], name: str) -> Any:
    """A setting's value by its dotted name; ``*`` is all of them. None inside a part of the recipe that is not set."""
    value: Any = dumped
    for part in () if name == "*" else name.split("."):
        value = None if value is None else value[part]
    return value


def _given(name: str, run: Path) -> Stage:
    """A stage that takes over a finished step of an earlier run: hard links where the file system has them.

    Raises ArtifactError when that run has no such step, or a file of it is damaged.
    """
    manifest = RunFolder(run).verify(name)
    if manifest is None:
        raise ArtifactError(f"{run} has no finished stage '{name}'; give the folder of an `infra run` or `infra score`")
    return Stage(name, _TakeOver(run / name), inputs={f"{name} of an earlier run": manifest.digest})


@dataclass(frozen=True, slots=True)
class _TakeOver:
    source: Path

    def __call__(self, context: Context) -> None:
        for file in sorted(p for p in self.source.rglob("*") if p.is_file() and p.name != MANIFEST):
            target = context.out / file.relative_to(self.source)
            target.parent.mkdir(parents=True, exist_ok=True)
            link(file, target)


def in_order(stages: Sequence[Stage]) -> list[Stage]:
    """The stages so that each comes after all that it needs, otherwise as they are given.

    Raises ValueError for a need that no stage meets, a circle, or two stages of one name.
    """
    if len({s.name for s in stages}) < len(stages):
        raise ValueError("two stages have one name")
    left, out, seen = list(stages), [], set[str]()
    while left:
        found = next((s for s in left if seen.issuperset(s.needs)), None)
        if found is None:
            raise ValueError(f"stage {left[0].name} can never run: it needs {sorted(set(left[0].needs) - seen)}")
        left.remove(found)
        seen.add(found.name)
        out.append(found)
    return out


__all__ = ["BASE", "EXPLAINED", "GENERATION", "TOKENIZER", "WEIGHTS", "Job", "Step", "Uses", "in_order"]
