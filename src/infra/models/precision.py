"""Precision of products and determinism as explicit settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import perf_counter
from typing import Any, Literal

import torch
from torch.overrides import TorchFunctionMode


class float64_everywhere(TorchFunctionMode):
    """Inside this context a request for float32 gives float64.

    Model code upcasts norms, rotary angles and router softmaxes to float32 by name, which rounds a float64
    model down to seven digits in silence. Comparisons at 1e-10 need this; the engine enters it by itself for
    a float64 model.
    """

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.float:
            return args[0].to(torch.float64)
        if func in (torch.Tensor.to, torch.Tensor.type):
            args = tuple(torch.float64 if a is torch.float32 else a for a in args)
        if kwargs.get("dtype") is torch.float32:
            kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)


def exact_in(dtype: torch.dtype) -> AbstractContextManager[Any]:
    """:class:`float64_everywhere` for a float64 model, nothing for others."""
    return float64_everywhere() if dtype == torch.float64 else nullcontext()


Products = Literal["float32", "fast"]
"""How float32 matrices are multiplied: as they are, or rounded to bfloat16 (CPU) or TF32 (CUDA), summed in float32."""


@contextmanager
def products_in(precision: str, device: str = "cpu") -> Iterator[None]:
    """Matrix products of float32 tensors as :data:`Products` says, process-wide, as they were on exit.

    Where the processor has no such products they stay what they are.
    """
    before = torch.get_float32_matmul_precision()
    fast = "medium" if torch.device(device).type == "cpu" else "high"
    torch.set_float32_matmul_precision(fast if precision == "fast" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def product_gain(device: str = "cpu", size: int = 1024) -> float:
    """How many times as fast a product of float32 matrices is under ``fast``, the best of several turns of each; 1.0
    where the processor has no such products, which shows in the digits. About 0.3 s.
    """
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator).to(device) for _ in range(2))

    def product(precision: str) -> tuple[float, torch.Tensor]:
        with products_in(precision, device):
            start = perf_counter()
            found = a @ b
            float(found[0, 0])  # waits for the device
            return perf_counter() - start, found

    turns = [(product("float32"), product("fast")) for _ in range(8)]
    (_, exact), (_, rounded) = turns[0]
    if float((rounded - exact).norm()) < 1e-5 * float(exact.norm()):
        return 1.0
    return min(plain for (plain, _), _ in turns[1:]) / min(fast for _, (fast, _) in turns[1:])


@contextmanager
def deterministic(enabled: bool = True) -> Iterator[None]:
    """The same inputs give the same bytes inside this context.

    Only deterministic kernels run, and attention does not depend on what else is in the batch: flash and
    memory-efficient attention change gradients with the batch around an example, so only the plain kernel is left on.
    Settings are restored on exit.

    Args:
        enabled: False changes nothing.
    """
    if not enabled:
        yield
        return
    was = torch.are_deterministic_algorithms_enabled()
    warn = torch.is_deterministic_algorithms_warn_only_enabled()
    cuda = torch.backends.cuda
    flash, efficient, cudnn = (
        cuda.flash_sdp_enabled(),
        cuda.mem_efficient_sdp_enabled(),
        cuda.cudnn_sdp_enabled(),
    )
    tf32 = cuda.matmul.allow_tf32
    torch.use_deterministic_algorithms(True, warn_only=True)
    if torch.cuda.is_available():
        cuda.enable_flash_sdp(False)
        cuda.enable_mem_efficient_sdp(False)
        cuda.enable_cudnn_sdp(False)
        cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was, warn_only=warn)
        if torch.cuda.is_available():
            cuda.enable_flash_sdp(flash)
            cuda.enable_mem_efficient_sdp(efficient)
            cuda.enable_cudnn_sdp(cudnn)
            cuda.matmul.allow_tf32 = tf32
