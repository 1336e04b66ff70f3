"""One YAML per run, checked before anything runs.

An unknown key or a value out of range is a :class:`RecipeError` that names the key and the nearest known one.
Relative paths are taken from the recipe file's own folder.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from infra.data.named import is_named_data
from infra.errors import RecipeError
from infra.pipeline.settings import (
    ArmSettings,
    CurvatureSettings,
    DataSettings,
    EffectSettings,
    EvalSettings,
    ModelSettings,
    ReportSettings,
    ScaleSettings,
    ScoreSettings,
    Settings,
    SourceSettings,
    StrategySettings,
    TargetSettings,
    TaskSettings,
    TrainSettings,
    ValidationSettings,
    WarmupSettings,
)
from infra.plugins import file_of, label_of


class Recipe(Settings):
    """Everything `infra run` needs."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="of the run, and of its folder below runs/")
    question: str = Field(
        "Which training data made the model better at math and code, and does reweighting it help?",
        description="what the report says it answers",
    )
    quick: bool = Field(False, description="marks the report as too small to conclude from")
    method: str = Field(
        "ekfac",
        description="attribution method: gradient, ekfac, trak, less, ... (infra.influence.methods.method_names()); an "
        "ensemble with '+seeds' or '+checkpoints' behind it; or path/to/file.py:NAME for your own",
    )
    seeds: int = Field(3, ge=1, description="fine-tunings of each training set, with seeds 0, 1, ...")
    seed: int = Field(0, description="seed of everything else: sampling, folds, arms, bootstraps")
    jobs: int = Field(1, ge=1, description="stages run at a time, each in a process of its own")
    threads: int | None = Field(None, ge=1, description="threads of each job; default: the cores shared out")
    data: DataSettings = Field(description="training data, pool and queries")
    model: ModelSettings = Field(ModelSettings(), description="the base model")
    tasks: tuple[TaskSettings, ...] = Field((), description="benchmarks, which give accuracies and targets")
    sft: TrainSettings = Field(TrainSettings(), description="fine-tuning")
    eval: EvalSettings = Field(EvalSettings(), description="how problems are answered")
    targets: TargetSettings = Field(TargetSettings(), description="what f is made of")
    curvature: CurvatureSettings = Field(CurvatureSettings(), description="EK-FAC and its like; the tracked weights")
    scores: ScoreSettings = Field(ScoreSettings(), description="which scores are kept")
    scale: ScaleSettings = Field(ScaleSettings(), description="who does the work")
    effects: EffectSettings = Field(EffectSettings(), description="comparisons of groups of examples")
    arms: ArmSettings = Field(ArmSettings(), description="training sets with data swapped in and out")
    strategies: StrategySettings = Field(StrategySettings(), description="other ways to change the data")
    report: ReportSettings = Field(ReportSettings(), description="the page")
    warmup: WarmupSettings | None = Field(None, description="for `infra score`: fine-tune first")
    validation: ValidationSettings | None = Field(None, description="None: the scores stay 'not validated'")

    @model_validator(mode="after")
    def _some_target(self) -> Recipe:
        if not any(t.target for t in self.tasks) and not self.data.queries:
            raise ValueError("at least one task needs a `target` (or give data.queries): f is made of its responses")
        if "select" in self.strategies.names and "flip" not in self.arms.names:
            raise ValueError("strategies 'select' takes out what the arm 'flip' takes out: add 'flip' to arms.names")
        if len({t.label for t in self.tasks}) < len(self.tasks):
            raise ValueError("two tasks have the same name")
        return self


def load_recipe(path: Path, *, changes: Sequence[str] = (), **overrides: Any) -> Recipe:
    """Read a recipe file. Raises RecipeError naming the file and the key.

    ``changes`` are ``key=value`` texts applied last: the key dotted, list positions counted from 0, the value YAML
    (``data.sources.0.path=mine.jsonl``). A path among them is looked for in the working folder first.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path} cannot be read: {error}") from error
    try:
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where is not None else ""
        problem = getattr(error, "problem", None) or "not a YAML document"
        raise RecipeError(f"recipe {path}{line}: {problem}; see recipes/ for examples") from error
    if not isinstance(raw, dict):
        raise RecipeError(f"recipe {path} must be a YAML mapping of settings; see recipes/ for examples")
    for key, value in overrides.items():
        if value is not None:
            raw[key] = {**raw[key], **value} if isinstance(value, dict) and isinstance(raw.get(key), dict) else value
    for change in changes:
        apply_change(raw, change)
    return parse_recipe(raw, where=str(path), folder=path.resolve().parent)


def apply_change(raw: dict[str, Any], change: str) -> None:
    """Set one ``key=value`` in a recipe's content, making the mappings on the way. Raises RecipeError naming it."""
    key, equals, text = change.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise RecipeError(f"--set {change}: a key and a value are expected, such as sft.epochs=1")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {change}: the value is no YAML; put it in quotes") from error
    if names[-1] in ("path", "base") and isinstance(value, str) and Path(value).exists():
        value = str(Path(value).resolve())
    place: Any = raw
    for i, name in enumerate(names):
        last = i == len(names) - 1
        if isinstance(place, list):
            if not name.isdigit() or int(name) >= len(place):
                where = ".".join(names[:i])
                raise RecipeError(f"--set {change}: {where} is a list of {len(place)}; name an entry by 0, 1, ...")
            if last:
                place[int(name)] = value
            place = place[int(name)]
        elif isinstance(place, dict):
            if last:
                place[name] = value
            elif not isinstance(place.get(name), dict | list):
                place[name] = {}
            place = place[name]


def parse_recipe(raw: dict[str, Any], *, where: str, folder: Path) -> Recipe:
    """Check a recipe's content and resolve its relative paths against ``folder``."""
    from infra.models.named import is_named_model

    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(f"recipe {where}: {_sentence(error)}") from error

    def resolve(path: str | None) -> str | None:
        if path is None or Path(path).is_absolute() or is_named_data(path):
            return path
        here = folder / path
        return str(here.resolve()) if here.exists() or path.startswith(".") else path

    def resolve_name(name: str) -> str:
        file = file_of(name)
        return name if file is None else f"{resolve(file)}:{label_of(name)}"

    def resolve_source(source: SourceSettings) -> SourceSettings:
        return source.model_copy(update={"path": resolve(source.path), "schema_": resolve_name(source.schema_)})

    data = recipe.data.model_copy(
        update={name: tuple(map(resolve_source, getattr(recipe.data, name))) for name in ("sources", "queries")}
    )
    tasks = tuple(t.model_copy(update={"path": resolve(t.path), "name": resolve_name(t.name)}) for t in recipe.tasks)
    model = recipe.model
    if not is_named_model(model.base):
        model = model.model_copy(update={"base": resolve(model.base)})
    return recipe.model_copy(
        update={"method": resolve_name(recipe.method), "data": data, "tasks": tasks, "model": model}
    )


def validation_settings(**values: Any) -> ValidationSettings:
    """Checked settings of a validation. Raises RecipeError naming the key."""
    try:
        return ValidationSettings.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"validation: {_sentence(error)}") from error


def _sentence(error: ValidationError) -> str:
    """The first problem of a validation error as one sentence, with the nearest known key for a typo."""
    problems = error.errors()
    first = problems[0]
    path = ["".join(c if c.isprintable() else repr(c)[1:-1] for c in str(p)) for p in first["loc"]]
    key = ".".join(path)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _known_keys(path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(sorted(known))}"
        return f"unknown key '{key}'; {hint}{more}"
    return " ".join(f"'{key or 'recipe'}': {first['msg']}{more}".split())


def _known_keys(path: list[str]) -> list[str]:
    """Names of the settings at a place in the recipe."""
    model: type[BaseModel] = Recipe
    for part in path:
        info = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
        if info is None:
            continue  # an index into a list
        inner = _settings_in(info.annotation)
        if inner is None:
            return []
        model = inner
    return [f.alias or n for n, f in model.model_fields.items()]


def _settings_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _settings_in(argument)
        if found is not None:
            return found
    return None
