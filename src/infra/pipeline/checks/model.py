"""Checks of the model and of how it is used: its files, weights that count, device, number format, method, extras."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator

from infra.errors import ArtifactError, InfraError, InputError, ModelError
from infra.experiments.retraining.run_folder import check_recorded
from infra.influence.methods import get_method
from infra.layout import BASE, EXPLAINED, Run
from infra.models import model_hash, tracked_weights
from infra.models.device import check_device, check_dtype
from infra.models.skeleton import check_files
from infra.pipeline.checks.subject import Subject
from infra.pipeline.method import check_method
from infra.store import RunFolder, read_json

EXTRAS = {"submitit": "slurm", "ray": "ray", "peft": "lora", "tensorboard": "", "wandb": ""}
"""Package -> the extra of this project that brings it."""


def device(subject: Subject) -> None:
    """The device is here and computes in the number formats asked for."""
    model, sft = subject.recipe.model, subject.recipe.sft
    check_device(model.device)
    for dtype in {model.dtype, *((sft.dtype, sft.autocast) if subject.job.trains else ())} - {None}:
        check_dtype(model.device, str(dtype))


def method(subject: Subject) -> None:
    """The attribution method exists and can work in this job."""
    check_method(subject.job)


def extras(subject: Subject) -> Iterator[InfraError]:
    """Packages that settings ask for are installed."""
    recipe = subject.recipe
    launchers = {"slurm": "submitit", "submitit-local": "submitit", "ray": "ray"}
    wanted = [(p, f"scale.launcher {name}") for name, p in launchers.items() if name == recipe.scale.launcher]
    if subject.job.trains:
        wanted += [("peft", "sft.lora_rank")] * (recipe.sft.lora_rank is not None)
        wanted += [(name, f"scale.report_to {name}") for name in recipe.scale.report_to]
    for package, setting in wanted:
        if importlib.util.find_spec(package) is None:
            extra = EXTRAS[package]
            what = f"'infra-attribution[{extra}]'" if extra else package
            yield InputError(f"{setting} needs the package {package}, which is not installed; pip install {what}")
    if recipe.validation is not None and recipe.validation.compile and shutil.which("g++") is None:
        yield ModelError("validation.compile needs the compiler g++, which is not here; install it, or leave it out")


def files(subject: Subject) -> None:
    """The model is there with configuration, tokenizer and every file of its weights."""
    if subject.model is not None:
        check_files(subject.model)
        assert subject.tokenizer is not None


def directions(subject: Subject) -> Iterator[InfraError]:
    """Directions of an earlier run were made for these weights."""
    run = subject.job.steps.get("directions")
    if run is None or subject.model is None:
        return
    if RunFolder(run).manifest("directions") is None:
        yield ArtifactError(f"{run} has no finished directions; give --directions the folder of a finished run")
        return
    expected, got = str(read_json(Run(run).method_index).get("model_hash")), model_hash(subject.model)
    if expected != got:
        yield ModelError(
            f"the directions in {run} were made for a model with hash {expected[:12]}, and {subject.job.models[BASE]} "
            f"has {got[:12]}; score with the model they were made for, or make new directions with --queries"
        )


def recorded(subject: Subject) -> None:
    """The fine-tuning that is to be replayed was recorded."""
    check_recorded(Run(subject.folder).model(EXPLAINED))


def tracked(subject: Subject) -> Iterator[InfraError]:
    """The pattern of tracked weights matches weights of this model that can be tracked."""
    if subject.skeleton is not None:
        pattern = subject.recipe.curvature.tracked
        try:
            tracked_weights(subject.skeleton, pattern)
        except (InputError, ModelError) as error:
            yield type(error)(f"{error}; give another {subject.option('curvature.tracked', 'PATTERN')}")


def validation(subject: Subject) -> Iterator[InfraError]:
    """The methods that a validation compares exist."""
    settings = subject.recipe.validation
    for name in settings.methods if settings is not None else ():
        try:
            get_method(name)
        except InputError as error:
            yield InputError(f"--methods: {error}")
