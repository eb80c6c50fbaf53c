"""Activation checkpointing: activations are recomputed in the backward pass."""

import contextlib
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def run_again(part: nn.Module, *inputs: Any) -> Any:
    """Return ``part(*inputs)``, keeping only the inputs for the backward pass.

    The second run equals the first one bit for bit (dropout included), except that BatchNorm in
    training mode does not update its running statistics a second time.
    """
    if not torch.is_grad_enabled():
        return part(*inputs)
    return checkpoint(
        part,
        *inputs,
        use_reentrant=False,
        context_fn=lambda: (contextlib.nullcontext(), _StatisticsKept(part)),
    )


class _StatisticsKept:
    """Inside this context, BatchNorm uses batch statistics but does not update its own.

    The momentum is zero; with ``track_running_stats = False``, the second run would save other
    tensors for the backward pass than the first one, which PyTorch refuses.
    """

    def __init__(self, part: nn.Module) -> None:
        self._norms = [m for m in part.modules() if isinstance(m, _BatchNorm) and m.training]
        self._kept: list[tuple[_BatchNorm, float | None, torch.Tensor | None]] = []

    def __enter__(self) -> None:
        self._kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in self._norms]
        for norm in self._norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None

    def __exit__(self, *_error: object) -> None:
        for norm, momentum, batches in self._kept:
            norm.momentum, norm.num_batches_tracked = momentum, batches
