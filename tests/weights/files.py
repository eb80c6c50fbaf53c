"""Files of weights, as the tests write and compare them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from stmtrain.errors import CheckpointError

State = dict[str, Tensor]


def save(value: Any, path: Path, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


def write_safetensors(value: State, path: Path) -> Path:
    path.write_bytes(safetensors.torch.save(value))
    return path


def same(a: State, b: State) -> bool:
    """Bit by bit: 0 and -0 are not the same."""
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and _bits(a[k]) == _bits(b[k])
        for k in a
    )


def _bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


def refusal(function: Callable[..., object], *args: object) -> str:
    """Call the function, and return the one line of its CheckpointError."""
    with pytest.raises(CheckpointError) as caught:
        function(*args)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message
