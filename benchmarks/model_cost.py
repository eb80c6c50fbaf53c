"""What a model costs: bytes of tensors that are alive, and the rate of bare matrix products."""

import time
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Alive", "matmul_rates"]


class Alive(TorchDispatchMode):
    """Counts the bytes of tensors created while it is active: those alive, and their maximum."""

    def __init__(self) -> None:
        """Start at zero."""
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run the operation and count what it made."""
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._known:
            return
        self._known[storage._cdata] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, storage._cdata)

    def _forget(self, key: int) -> None:
        self.now -= self._known.pop(key)


def matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Return the FLOPs a second of a large square matrix product; on a CPU, of CPU time.

    Wall time would include other work on a shared CPU.
    """
    cuda = device.type == "cuda"
    side, clock = (8192, time.perf_counter) if cuda else (1536, time.process_time)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(8):
        start = clock()
        for _ in range(4):
            a @ b
        if cuda:
            torch.cuda.synchronize(device)
        best = min(best, (clock() - start) / 4)
    return 2 * side**3 / best


def matmul_rates(device: torch.device) -> dict[str, float]:
    """Return the measured rate of each precision; float32 with TF32, as its rows compute."""
    torch.backends.cuda.matmul.allow_tf32 = True
    rates = {
        "float32": matmul_flops(device, torch.float32),
        "bfloat16": matmul_flops(device, torch.bfloat16),
    }
    torch.backends.cuda.matmul.allow_tf32 = False
    return rates
