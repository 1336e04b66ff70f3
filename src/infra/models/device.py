"""Which device a model goes to: refused in one sentence where the machine has no such device."""

from __future__ import annotations

import torch

from infra.errors import InputError


def check_device(device: str) -> None:
    """Raise :class:`InputError` unless ``device`` names one that this machine and this build of torch have."""
    try:
        kind = torch.device(device)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"device {device!r} is no name of one; use cpu, cuda or cuda:1") from error
    if kind.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (kind.index or 0) >= count:
            built = "" if torch.backends.cuda.is_built() else " (this build of torch has no CUDA)"
            raise InputError(
                f"device {device!r} is not here: {count} CUDA devices are visible{built}; use cpu"
                + (f" or one of cuda:0 to cuda:{count - 1}" if count else ", or a machine with a GPU and its driver")
            )
    elif kind.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"device {device!r} is not here; use cpu")
    elif kind.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"device {device!r} cannot be used; use cpu, cuda or cuda:1")


def check_dtype(device: str, dtype: str) -> None:
    """Raise :class:`InputError` where the device, which is here, cannot compute in a number format."""
    kind = torch.device(device)
    if kind.type == "mps" and dtype == "float64":
        raise InputError(f"device {device!r} has no float64; use float32, or the device cpu")
    if kind.type == "cuda" and dtype == "bfloat16" and torch.cuda.get_device_capability(kind)[0] < 8:
        raise InputError(f"device {device!r} has no bfloat16 of its own (before compute capability 8.0); use float32")
