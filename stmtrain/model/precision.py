"""The precision of computations, and tensors for which half precision is not enough."""

from typing import Literal

import torch
from torch import Tensor

Precision = Literal["float32", "bfloat16"]


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Run the forward pass in this precision; the backward pass must be outside of the context."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def at_least_float32(x: Tensor) -> Tensor:
    """Widen half precision to float32; float32 and float64 are unchanged."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
