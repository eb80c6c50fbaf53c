"""Files of weights, read and written: ``torch.save`` (``.pth``, ``.pt``) and ``.safetensors``.

Files are untrusted input: no code in them runs, and any defect is one line of a
:class:`CheckpointError`.
"""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor

from stmtrain.errors import CheckpointError
from stmtrain.files import whole_file

SAFETENSORS = ".safetensors"
_WRAPPERS = ("state_dict", "model")
_PREFIX = "module."  # of torch.nn.DataParallel, as in the published checkpoints
_LONGEST = 100  # characters that are shown; the names of STM have at most 49


def load_file(path: Path) -> Mapping[Any, Any]:
    """Read the complete content of a file onto the CPU: safetensors by suffix, else torch's.

    Raises:
        CheckpointError: The file cannot be read, is damaged, or contains more than plain values.
    """
    kind = "safetensors file" if path.suffix == SAFETENSORS else "PyTorch checkpoint"
    content: object
    try:
        if path.suffix == SAFETENSORS:
            # Read, not mapped: a mapped file that is truncated meanwhile would end the process.
            content = safetensors.load(path.read_bytes())
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot read the checkpoint ({error.strerror or error}); check the path"
        ) from None
    except Exception as error:  # noqa: BLE001  (damaged files raise a dozen different types)
        # PyTorch's own message takes several lines and suggests loading the file unsafely.
        raise CheckpointError(
            f"{path}: expected a {kind} of plain tensors, found a damaged file or another kind of "
            f"file ({type(error).__name__}); copy or download it again"
        ) from None
    if not isinstance(content, Mapping):
        raise _not_weights(path, "a dict of tensors", type(content).__name__)
    return content


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a file; see :func:`load_file` and :func:`state_in`."""
    return state_in(load_file(path), path)


def state_in(content: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """Return the state dict in the content of a file, without the prefix ``module.``.

    Raises:
        CheckpointError: There is none, neither alone nor under ``state_dict`` or ``model``, or it
            contains something else than dense tensors of real numbers.
    """
    wrapper = _wrapper_of(content)
    state = content if wrapper is None else content[wrapper]
    if not state or not all(_is_name(k) and isinstance(state[k], Tensor) for k in state):
        places = f"alone or under {' or '.join(map(repr, _WRAPPERS))}"
        keys = ", ".join(map(shown, list(state)[:4])) or "nothing"
        raise _not_weights(path, f"a state dict (tensor by name), {places}", f"a dict of {keys}")
    for name, tensor in state.items():
        if not _is_plain(tensor):
            found = f"{name} ({tensor.dtype}, {tensor.layout}, {tensor.device})"
            raise _not_weights(path, "dense tensors of real numbers", found)
    prefix = _prefix_of(state)
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def location_of(content: Mapping[Any, Any]) -> str:
    """Return in words where :func:`state_in` finds the state dict in the content of a file."""
    wrapper = _wrapper_of(content)
    place = "alone" if wrapper is None else f"under {wrapper!r}"
    prefix = _prefix_of(content if wrapper is None else content[wrapper])
    return f"{place}, names prefixed {prefix}" if prefix else place


def write_state(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a state dict, completely or not at all; the same tensors give the same bytes.

    Args:
        path: Written as safetensors if it has that suffix, else by ``torch.save``.
        state: Tensor by name; ``torch.save`` keeps the order.
        metadata: Short texts, stored by safetensors only.
    """
    # Copies, because a view would be saved with its complete storage, or not at all.
    plain = {
        name: t.detach().clone(memory_format=torch.contiguous_format) for name, t in state.items()
    }
    with whole_file(path, sync=True) as file:
        if path.suffix == SAFETENSORS:
            file.write(_safetensors(plain, metadata))
        else:
            torch.save(plain, file)


def shown(value: object) -> str:
    """Return a value from a file as text for a terminal: short, without control codes."""
    text = str(value)
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _not_weights(path: Path, expected: str, found: str) -> CheckpointError:
    return CheckpointError(f"{path}: expected {expected}, found {found}; give a checkpoint file")


def _wrapper_of(content: Mapping[Any, Any]) -> str | None:
    return next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)


def _prefix_of(state: Mapping[str, Tensor]) -> str:
    return _PREFIX if all(name.startswith(_PREFIX) for name in state) else ""


def _is_name(key: object) -> bool:
    return isinstance(key, str) and shown(key) == key


def _is_plain(tensor: Tensor) -> bool:
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        return False
    if tensor.is_quantized or tensor.is_complex():
        return False
    # With a stride of zero, a few bytes can claim any size.
    return tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()


def _safetensors(state: dict[str, Tensor], metadata: Mapping[str, str]) -> bytearray:
    data = bytearray(safetensors.save(state, {"format": "pt", **metadata}))
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    # The library writes metadata in the order of a hash table, which differs from run to run.
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    data[8:end] = text.ljust(end - 8)
    return data
