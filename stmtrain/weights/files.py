"""Files of weights: ``torch.save``'s (``.pth``, ``.pt``) and safetensors; read and written.

Files are untrusted: no code in them runs, and whatever is wrong with one is a single
:class:`CheckpointError` line. What is written is whole or not there. A name that ends in
``.safetensors`` says that the file is one; any other file is read by ``torch.load``.
"""

import json
import pickle
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from stmtrain.errors import CheckpointError
from stmtrain.files import whole_file

__all__ = [
    "SAFETENSORS",
    "is_prefixed",
    "load_file",
    "read_state",
    "shown",
    "state_in",
    "wrapper_of",
    "write_state",
]

SAFETENSORS = ".safetensors"
_WRAPPERS = ("state_dict", "model")
_PREFIX = "module."  # of torch.nn.DataParallel, as in the published checkpoints
_LONGEST = 100  # characters that are shown; the names of STM have at most 49
_GIVE = "give a checkpoint file"
# What torch.load raises on damaged files of either format, by trying 12000 of them.
_UNREADABLE = (
    pickle.UnpicklingError,
    struct.error,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    ImportError,
    MemoryError,
    SafetensorError,
)


def load_file(path: Path) -> Mapping[Any, Any]:
    """Read all that a file of weights holds onto the CPU, without running code from it.

    Args:
        path: A file of ``torch.save``, in the present or the pre-1.6 format, or of safetensors.

    Raises:
        CheckpointError: It cannot be read, is damaged, or holds more than tensors and plain values.
    """
    kind = "a safetensors file" if path.suffix == SAFETENSORS else "a PyTorch checkpoint"
    try:
        value = _load(path)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot read the checkpoint ({error.strerror or error}); check the path"
        ) from None
    except _UNREADABLE as error:
        # PyTorch's own text is several lines and proposes to load the file unsafely.
        raise CheckpointError(
            f"{path}: expected {kind} of plain tensors, found a damaged file or "
            f"something else ({type(error).__name__}); copy or download it again"
        ) from None
    if not isinstance(value, Mapping):
        raise CheckpointError(
            f"{path}: expected a dict of tensors, found {type(value).__name__}; {_GIVE}"
        )
    return value


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict, alone or wrapped, without the prefix ``module.``.

    Raises:
        CheckpointError: As :func:`load_file`, or there is no state dict in the file.
    """
    return state_in(load_file(path), path)


def state_in(value: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """Find the state dict in what a file held; see :func:`read_state`."""
    wrapper = wrapper_of(value)
    state = value if wrapper is None else value[wrapper]
    if not state or not all(_is_name(k) and isinstance(state[k], Tensor) for k in state):
        keys = ", ".join(map(shown, list(state)[:4])) or "nothing"
        raise CheckpointError(
            f"{path}: expected a state dict (tensor by name), alone or under "
            f"{' or '.join(map(repr, _WRAPPERS))}, found a dict of {keys}; {_GIVE}"
        )
    strange = next((name for name in state if not _is_plain(state[name])), None)
    if strange is not None:
        raise CheckpointError(
            f"{path}: expected dense tensors of real numbers, found {strange} "
            f"({state[strange].dtype}, {state[strange].layout}, {state[strange].device}); {_GIVE}"
        )
    if is_prefixed(state):
        return {name.removeprefix(_PREFIX): tensor for name, tensor in state.items()}
    return dict(state)


def wrapper_of(value: Mapping[Any, Any]) -> str | None:
    """Name the key of a file's content that holds the state dict, or None if it is one itself."""
    return next((key for key in _WRAPPERS if isinstance(value.get(key), Mapping)), None)


def is_prefixed(state: Mapping[str, Tensor]) -> bool:
    """Tell whether every name begins with ``module.``."""
    return all(name.startswith(_PREFIX) for name in state)


def write_state(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a state dict so that ``path`` is either what it was or the whole new file.

    The same tensors give the same bytes.

    Args:
        path: Safetensors if it ends so, else a file of ``torch.save``.
        state: Tensor by name; written in this order by ``torch.save``.
        metadata: Short texts, kept by safetensors only.

    Raises:
        OSError: The disk is full, or the folder may not be written.
    """
    # Copies, because a view would be saved with the whole storage behind it, or not at all.
    plain = {
        name: t.detach().clone(memory_format=torch.contiguous_format) for name, t in state.items()
    }
    with whole_file(path, sync=True) as file:
        if path.suffix == SAFETENSORS:
            _write_safetensors(file, plain, metadata)
        else:
            torch.save(plain, file)


def shown(value: object) -> str:
    """Write out something from a file so that it cannot upset a terminal: short, printable."""
    text = str(value)
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _load(path: Path) -> object:
    if path.suffix == SAFETENSORS:
        # From memory, not mapped: a file that shrinks while it is read would end the process.
        return safetensors.load(path.read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def _is_name(key: object) -> bool:
    return isinstance(key, str) and shown(key) == key


def _is_plain(tensor: Tensor) -> bool:
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        return False
    if tensor.is_quantized or tensor.is_complex():
        return False
    # A few bytes repeated by a stride of zero may claim any size.
    return tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()


def _write_safetensors(
    file: BinaryIO, state: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    data = safetensors.save(dict(state), {"format": "pt", **metadata})
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    # The library writes metadata in the order of a hash table that differs from run to run.
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    file.write(data[:8] + text.ljust(size))
    file.write(memoryview(data)[8 + size :])
