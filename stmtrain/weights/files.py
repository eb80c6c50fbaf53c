"""Files of weights, read and written: ``torch.save`` (``.pth``, ``.pt``) and ``.safetensors``.

Files are untrusted input: no code in them runs, what they may make a reader do is limited before it
starts, and any defect is one line of a :class:`CheckpointError`.
"""

import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import torch as safetensors
from torch import Tensor

from stmtrain.errors import CheckpointError, StmError
from stmtrain.files import open_regular, whole_file
from stmtrain.weights.dry_run import LargeTupleError, refuse_large_tuples

SAFETENSORS = ".safetensors"
MAX_HEADER = 8 << 20
"""Bytes of a safetensors header, and of the pickle of a PyTorch file. They list names and shapes,
STM's in 0.3 MB; each byte of a crafted one can cost a microsecond or a hundred bytes of memory."""

MAX_UNPACKED = 1 << 30
"""Bytes that the records of a PyTorch file may have if the file is smaller. PyTorch does not
compress; a few MB that are compressed can claim any size."""

_OLD_PICKLES = 5  # magic number, protocol, system, content, keys of the storages
_MAX_DIMS = 16  # STM's tensors have at most 4; PyTorch's time grows with the square
_WRAPPERS = ("state_dict", "model", "model_state_dict", "network", "net", "module", "weights")
_PREFIX = re.compile(r"((module|_orig_mod|_forward_module|model|network|net|ema_model|ema)\.)*")
_INNER = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")  # around any module
_OF_STM = "KV_M_r4.Key.weight"  # whatever precedes it in an STM is a prefix
_AVERAGED = "n_averaged"  # torch.optim.swa_utils.AveragedModel counts next to the weights
_LONGEST = 100  # characters that are shown; the names of STM have at most 49
_SAVE_ALONE = (
    "save the weights alone where the file comes from: torch.save(model.state_dict(), FILE)"
)


def load_file(path: Path) -> Mapping[Any, Any]:
    """Read the complete content of a file onto the CPU: safetensors by suffix, else torch's.

    Raises:
        CheckpointError: The file cannot be read, is damaged, is larger than its limits, or contains
            more than plain values.
    """
    kind = "safetensors file" if path.suffix == SAFETENSORS else "PyTorch checkpoint"
    content: object
    try:
        with open_regular(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.suffix == SAFETENSORS:
                # Read, not mapped: a mapped file that is truncated meanwhile would end the process.
                data = file.read()
                _check_header(data)
                content = safetensors.load(data)
            else:
                _check_records(file)
                content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot read the checkpoint ({error.strerror or error}); check the path"
        ) from None
    except (_TooLargeError, LargeTupleError) as error:
        raise _not_weights(path, f"a {kind}", str(error)) from None
    except Exception as error:  # noqa: BLE001  (damaged files raise a dozen different types)
        # PyTorch's own message takes several lines and suggests loading the file unsafely.
        objects = re.search(r"GLOBAL ([\w.]+)", str(error))
        if objects:
            raise CheckpointError(
                f"{path}: expected a {kind} of plain tensors, found a Python object of "
                f"{shown(objects[1])} next to them, which could run code; {_SAVE_ALONE}"
            ) from None
        raise CheckpointError(
            f"{path}: expected a {kind} of plain tensors, found a damaged file or another kind of "
            f"file ({type(error).__name__}); copy or download it again"
        ) from None
    if not isinstance(content, Mapping):
        raise _not_weights(path, "a dict of tensors", type(content).__name__)
    return content


class _TooLargeError(Exception):
    """States what in a file exceeds which limit."""


def _check_header(data: bytes) -> None:
    """Refuse a safetensors header that takes long to read."""
    size = int.from_bytes(data[:8], "little")
    if size > MAX_HEADER:
        raise _TooLargeError(f"a header of {size} bytes, the limit is {MAX_HEADER}")
    for name, entry in json.loads(data[8 : 8 + size]).items():
        dims = entry.get("shape", ())
        if len(dims) > _MAX_DIMS:
            raise _TooLargeError(f"{shown(name)} with {len(dims)} dimensions")


def _check_records(file: BinaryIO) -> None:
    """Refuse records that would unpack to far more than the file, or take for ever to build."""
    if not zipfile.is_zipfile(file):
        # PyTorch before 1.6 wrote pickles, and the tensors themselves, which cannot claim more.
        file.seek(0)
        start = file.read(MAX_HEADER)
        if not start.startswith(b"PK"):
            refuse_large_tuples(io.BytesIO(start), _OLD_PICKLES)
        file.seek(0)
        return
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
    total, most = sum(r.file_size for r in records), max(file.seek(0, 2), MAX_UNPACKED)
    if total > most:
        raise _TooLargeError(f"records that unpack to {total} bytes, the limit is {most}")
    pickle = max((r.file_size for r in records if r.filename.endswith(".pkl")), default=0)
    if pickle > MAX_HEADER:
        raise _TooLargeError(f"a pickle of {pickle} bytes, the limit is {MAX_HEADER}")
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        for record in records:
            if record.filename.endswith(".pkl"):
                refuse_large_tuples(io.BytesIO(archive.read(record)))
    file.seek(0)


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a file; see :func:`load_file` and :func:`state_in`."""
    return state_in(load_file(path), path)


def state_in(content: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """Return the state dict in the content of a file, without the prefixes of frameworks.

    Raises:
        CheckpointError: There is none, neither alone nor within one or two dicts, several that it
            could be, or it contains something else than dense tensors of real numbers.
    """
    _, state = _find_state(content)
    if not state:
        keys = ", ".join(map(shown, list(content)[:4])) or "nothing"
        places = f"alone or under {' or '.join(map(repr, _WRAPPERS[:2]))}"
        raise _not_weights(path, f"a state dict (tensor by name), {places}", f"a dict of {keys}")
    for name, tensor in state.items():
        if not is_plain(tensor):
            found = f"{name} ({tensor.dtype}, {tensor.layout}, {tensor.device})"
            raise _not_weights(path, "dense tensors of real numbers", found)
    prefix = _prefix_of(state)
    plain = {_without(prefix, name): tensor for name, tensor in state.items() if name != _AVERAGED}
    if len(plain) < len(state) - (_AVERAGED in state):
        raise _not_weights(path, "each tensor once", f"names with and without {_INNER[0]}")
    return plain


def location_of(content: Mapping[Any, Any]) -> str:
    """Return in words where :func:`state_in` finds the state dict in the content of a file."""
    place, state = _find_state(content)
    text = f"under {place!r}" if place else "alone"
    prefix = _prefix_of(state)
    return f"{text}, names prefixed {prefix}" if prefix else text


def _find_state(content: Mapping[Any, Any]) -> tuple[str, Mapping[str, Tensor]]:
    """Return a state dict and its keys, joined by dots; empty if there is none or no single one.

    Averaged weights are found only where there are no others.
    """
    found = dict(_states(content))
    named = [w for w in _WRAPPERS if w in found]
    plain = [place for place in found if "ema" not in place.lower()]
    for places in ([""] if "" in found else [], named[:1], plain, list(found)):
        if len(places) == 1:
            return places[0], found[places[0]]
    return "", {}


def _states(value: Mapping[Any, Any], place: str = "", depth: int = 2) -> Iterator[Any]:
    """Yield (place, state dict) of a dict and the dicts in it; not of optimisers."""
    if value and all(_is_name(k) and isinstance(v, Tensor) for k, v in value.items()):
        yield place, value
    elif depth:
        for key, part in value.items():
            if isinstance(key, str) and isinstance(part, Mapping) and "optim" not in key:
                yield from _states(part, f"{place}.{key}" if place else key, depth - 1)


def _prefix_of(state: Mapping[str, Tensor]) -> str:
    """Return what all names begin with: ``module.``, ``_orig_mod.module.``, ``network.``, ..."""
    names = [name for name in state if name != _AVERAGED]
    first = next((name for name in names if name.endswith(_OF_STM)), min(names, default=""))
    prefix = first.removesuffix(_OF_STM)
    if prefix == first:
        prefix = _PREFIX.match(first)[0]  # type: ignore[index]
    return prefix if all(name.startswith(prefix) for name in names) else ""


def _without(prefix: str, name: str) -> str:
    return ".".join(p for p in name.removeprefix(prefix).split(".") if p not in _INNER)


def save_tensors(value: Any, file: BinaryIO, path: Path) -> None:
    """Write a value with ``torch.save``.

    Raises:
        StmError: The disk is full, or ``path`` cannot be written for another reason.
    """
    try:
        torch.save(value, file)
    except (OSError, RuntimeError) as error:  # PyTorch's writer hides the reason in its own error
        reason = next(
            (e.strerror for e in (error, error.__context__) if isinstance(e, OSError)), ""
        )
        raise StmError(
            f"{path}: cannot be written ({reason or 'No space left on device?'}); free disk space, "
            "then run the same command again"
        ) from None


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
            save_tensors(plain, file, path)


def shown(value: object) -> str:
    """Return a value from a file as text for a terminal: short, without control codes."""
    text = str(value)
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _not_weights(path: Path, expected: str, found: str) -> CheckpointError:
    return CheckpointError(f"{path}: expected {expected}, found {found}; give a checkpoint file")


def _is_name(key: object) -> bool:
    return isinstance(key, str) and shown(key) == key


def is_plain(tensor: Tensor) -> bool:
    """Return whether a tensor holds dense real numbers of its own, on the CPU."""
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
