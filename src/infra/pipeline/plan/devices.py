"""What a device can do: stated figures of makers, the user's own, or a calibration of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from infra.errors import InputError

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class Device:
    """One device. ``flops``: dense matrix products a second by dtype, as stated; ``efficiency``: the share of it that a
    training step reaches; ``bandwidth``, ``link``, ``disk``: bytes a second of its memory, between two devices, to
    disk. ``latency``: seconds of a decoding step beyond its arithmetic. ``python``: how many times as long this machine
    takes for interpreted code as the reference machine of :data:`infra.pipeline.plan.costs.PER_RECORD`."""

    name: str
    memory: float
    flops: Mapping[str, float]
    bandwidth: float
    link: float
    disk: float = 1e9
    efficiency: float = 0.4
    latency: float = 0.02
    python: float = 1.0
    measured: bool = False

    def rate(self, dtype: str) -> float:
        """FLOPs a second in a training step."""
        return self.flops[dtype] * self.efficiency


DEVICES = {
    "h100": Device("h100", 80e9, {"bfloat16": 989e12, "float32": 67e12, "float64": 67e12}, 3.35e12, 450e9),
    "h200": Device("h200", 141e9, {"bfloat16": 989e12, "float32": 67e12, "float64": 67e12}, 4.8e12, 450e9),
    "a100": Device("a100", 80e9, {"bfloat16": 312e12, "float32": 19.5e12, "float64": 19.5e12}, 2.0e12, 300e9),
    "l40s": Device("l40s", 48e9, {"bfloat16": 362e12, "float32": 91e12, "float64": 1.4e12}, 0.86e12, 32e9),
}
"""Dense peak rates without sparsity, from the makers' data sheets; float32 without TF32. ``efficiency`` 0.4 is an
assumption: well-tuned training reaches 0.35 to 0.5."""

CUSTOM = ("memory", "flops", "bandwidth", "link", "disk", "efficiency", "latency")


def device_of(text: str) -> Device:
    """A device by name, or ``memory=80e9,flops=400e12,bandwidth=2e12`` (for every dtype), from an H100 for the rest.

    Raises :class:`InputError` for an unknown name or figure. ``cpu`` is not among them: it is calibrated.
    """
    if text in DEVICES:
        return DEVICES[text]
    if "=" not in text:
        raise InputError(
            f"device {text!r} is not known; use cpu, {', '.join(DEVICES)}, or memory=80e9,flops=400e12,..."
        )
    found = replace(DEVICES["h100"], name="custom")
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            number = float(value)
        except ValueError as error:
            raise InputError(f"device: {part!r} is no number; write e.g. memory=80e9") from error
        if name not in CUSTOM or not 0 < number < 1e30:
            raise InputError(f"device: {part!r} is not understood; positive numbers for {', '.join(CUSTOM)}")
        value_of: Any = dict.fromkeys(BYTES, number) if name == "flops" else number
        found = replace(found, **{name: value_of})
    return found
