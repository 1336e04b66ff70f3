"""Float64 throughout, in an opponent's environment, where this project is not installed."""

import torch
from torch.overrides import TorchFunctionMode


class Float64(TorchFunctionMode):
    """Model and library code ask for float32 by name; here they get float64."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.float:
            return args[0].to(torch.float64)
        if func is torch.Tensor.to:
            args = tuple(torch.float64 if a is torch.float32 else a for a in args)
        if kwargs.get("dtype") is torch.float32:
            kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)
