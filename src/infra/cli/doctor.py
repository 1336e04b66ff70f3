"""`infra doctor`: what this machine has for Infra, and what it lacks."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "numpy", "scipy", "pandas", "pyarrow", "duckdb")
EXTRAS = {"hub": "datasets", "view": "starlette", "lora": "peft", "slurm": "submitit", "ray": "ray"}
"""Optional parts of the installation, each with the package that it needs most."""
MATRIX = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512"}
"""Processor flags that make bfloat16 products fast, best first."""
LITTLE_MEMORY, LITTLE_DISK = 2e9, 5e9


class Finding(NamedTuple):
    """``what`` was looked at, what was ``found``, and ``advice`` where it is not as it should be."""

    what: str
    found: str
    advice: str = ""


def doctor() -> None:
    """Versions, devices, fast bfloat16, the sandbox for code, free memory and disk; exit code 0 whatever is found."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "found", "advice")
    for finding in findings():
        table.add_row(*map(Text, finding))
    Console().print(table)


def findings() -> Iterator[Finding]:
    """Everything that is looked at, in the order it is shown."""
    from infra import __version__

    yield Finding("infra", __version__)
    yield Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield Finding("packages", ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES))
    yield extras()
    yield processor()
    yield from accelerators()
    yield sandbox()
    yield from room()


def extras() -> Finding:
    """Which optional parts are installed."""

    def installed(package: str) -> bool:
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            return False
        return True

    there = [name for name, package in EXTRAS.items() if installed(package)]
    missing = [name for name in EXTRAS if name not in there]
    advice = f"where you need them: pip install 'infra-attribution[{','.join(missing)}]'" if missing else ""
    return Finding("extras", ", ".join(there) or "none", advice)


def processor() -> Finding:
    """Cores that this process may use, and whether bfloat16 products are fast on them."""
    import torch

    flags, name = set[str](), platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            flags |= set(value.split()) if key.strip() in ("flags", "Features") else set()
            name = value.strip() if key.strip() == "model name" else name
    fast = next((words for flag, words in MATRIX.items() if flag in flags), None)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = f"{name}, {cores} cores, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    if fast is None:
        return Finding("processor", f"{found}; no fast bfloat16", "keep model.dtype at float32 on this processor")
    return Finding("processor", f"{found}; bfloat16 by {fast}")


def accelerators() -> Iterator[Finding]:
    """Each CUDA device with its free memory."""
    import torch

    from infra.influence.estimate import free_memory

    if not torch.cuda.is_available():
        built = torch.version.cuda
        advice = "" if built is None else f"torch is built for CUDA {built}: check the driver with nvidia-smi"
        yield Finding("cuda", "none", advice)
    for i in range(torch.cuda.device_count()):
        device = torch.device("cuda", i)
        total = torch.cuda.get_device_properties(i).total_memory
        bfloat16 = "bfloat16" if torch.cuda.is_bf16_supported() else "no bfloat16"
        memory = f"{free_memory(device) / 1e9:.1f} of {total / 1e9:.1f} GB free"
        yield Finding(f"cuda:{i}", f"{torch.cuda.get_device_name(i)}, {memory}, {bfloat16}")


def sandbox() -> Finding:
    """The sandbox that code of models will run in, as it is found when code is graded."""
    from infra.errors import InfraError
    from infra.evals.sandbox import choose, describe

    try:
        return Finding("sandbox", describe(choose()))
    except InfraError as error:
        return Finding("sandbox", "none works here: code cannot be graded", str(error))


def room() -> Iterator[Finding]:
    """Free memory, and free disk where runs and models are kept."""
    import torch

    from infra.influence.estimate import free_memory
    from infra.models.cache import cache_folder

    free = free_memory(torch.device("cpu"))
    yield Finding("memory", f"{free / 1e9:.1f} GB free", "little for any model" if free < LITTLE_MEMORY else "")
    for what, folder in (("disk here", Path.cwd()), ("disk of models", cache_folder())):
        place = next(p for p in (folder, *folder.parents) if p.exists())
        left = shutil.disk_usage(place).free
        yield Finding(what, f"{left / 1e9:.1f} GB free in {place}", "little for a run" if left < LITTLE_DISK else "")
