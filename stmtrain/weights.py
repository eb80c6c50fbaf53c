"""Weight files into models: whole STM checkpoints and pretrained backbones.

Files are untrusted: only tensors and plain containers are unpickled. Names and shapes must agree
exactly, and every disagreement is one :class:`CheckpointError` line that says what to do.
"""

import pickle
import struct
import warnings
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from stmtrain.errors import CheckpointError
from stmtrain.model import BACKBONES, STM

__all__ = ["backbone_of", "load_backbone", "load_file", "load_weights", "read_state"]

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
)
_WRAPPERS = ("state_dict", "model")
_PREFIX = "module."  # of torch.nn.DataParallel, as in the published checkpoints
_STAGES = {"res2": "layer1", "res3": "layer2", "res4": "layer3"}
_UNUSED = ("layer4.", "fc.")
_GIVE = "give a checkpoint file"
_CONSTANTS = ("mean", "std")  # in our encoders, not in a ResNet
_COUNTER = "num_batches_tracked"  # used by nothing, and absent from files older than PyTorch 0.4.1


def load_weights(model: STM, path: Path) -> None:
    """Load a whole STM checkpoint, the published ones or our own.

    The file holds a state dict, or a dict with one under ``state_dict`` or ``model``; a prefix
    ``module.`` is taken off.

    Args:
        model: Receives the weights; unchanged if anything disagrees.
        path: A file of ``torch.save``, in the present or the pre-1.6 format.

    Raises:
        CheckpointError: Unreadable, not a state dict, or other names or shapes than the model's.
    """
    state = read_state(path)
    faults = _differences(state, model.state_dict())
    if faults:
        raise CheckpointError(
            f"{path}: expected the weights of STM with {model.backbone.name}, found "
            f"{_describe(state)}: {faults}; {_advice(state, model)}"
        )
    model.load_state_dict(state)


def load_backbone(model: STM, source: str | Path) -> None:
    """Initialise both encoders from a classification network.

    Args:
        model: Its encoders receive ``conv1``, ``bn1`` and the first three stages.
        source: ``"imagenet"`` for torchvision's weights, as the paper has it (downloaded once);
            ``"none"`` to keep the random ones, whose BatchNorm statistics then have to be trained;
            or a file with the state dict of a torchvision ResNet.

    Raises:
        CheckpointError: No download, an unreadable file, or one of another network.
    """
    if source == "none":
        return
    name = model.backbone.name
    if source == "imagenet":
        where, state = f"torchvision {name}", _imagenet(name)
    else:
        where, state = str(source), read_state(Path(source))
    encoder = model.Encoder_Q.state_dict()
    own = [k for k in encoder if k not in _CONSTANTS and _COUNTER not in k]
    theirs = {_torchvision_name(k): encoder[k] for k in own}
    given = {k: v for k, v in state.items() if not k.startswith(_UNUSED) and _COUNTER not in k}
    faults = _differences(given, theirs)
    if faults:
        raise CheckpointError(
            f"{where}: expected the weights of torchvision's {name}, found {_describe(state)}: "
            f"{faults}; give a file of {name}, or --backbone-weights none"
        )
    renamed = {k: given[_torchvision_name(k)] for k in own}
    for part in (model.Encoder_Q, model.Encoder_M):
        part.load_state_dict(renamed, strict=False)


def load_file(path: Path) -> Mapping[Any, Any]:
    """Read a file of ``torch.save`` onto the CPU without running code from it.

    Raises:
        CheckpointError: It cannot be read, is damaged, or holds more than tensors and plain values.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot read the checkpoint ({error.strerror or error}); check the path"
        ) from None
    except _UNREADABLE as error:
        # PyTorch's own text is several lines and proposes to load the file unsafely.
        raise CheckpointError(
            f"{path}: expected a PyTorch checkpoint of plain tensors, found a damaged file or "
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
    value = load_file(path)
    inner = [value[key] for key in _WRAPPERS if isinstance(value.get(key), Mapping)]
    state = inner[0] if inner else value
    if not state or not all(isinstance(k, str) and isinstance(state[k], Tensor) for k in state):
        keys = ", ".join(map(str, list(state)[:4])) or "nothing"
        raise CheckpointError(
            f"{path}: expected a state dict (tensor by name), alone or under "
            f"{' or '.join(map(repr, _WRAPPERS))}, found a dict of {keys}; {_GIVE}"
        )
    if all(name.startswith(_PREFIX) for name in state):
        return {name.removeprefix(_PREFIX): tensor for name, tensor in state.items()}
    return dict(state)


def backbone_of(state: Mapping[str, Tensor]) -> str | None:
    """Name the backbone of an STM state dict by its key layer and stem, or None."""
    key = state.get("KV_M_r4.Key.weight")
    if key is None or key.dim() != 4 or "Encoder_M.conv1.weight" not in state:
        return None
    for name, backbone in BACKBONES.items():
        if tuple(key.shape[:2]) == (backbone.key_channels, backbone.channels[-1]):
            return name
    return None


def _differences(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Say how two state dicts differ in names and shapes, with counts and first names, or ''."""
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    shapes = [n for n in expected if n in found and found[n].shape != expected[n].shape]
    parts = []
    if missing:
        parts.append(f"{len(missing)} of {len(expected)} missing (first {missing[0]})")
    if extra:
        parts.append(f"{len(extra)} unknown (first {extra[0]})")
    if shapes:
        first = shapes[0]
        was, should = tuple(found[first].shape), tuple(expected[first].shape)
        parts.append(f"{len(shapes)} of another shape (first {first}: {was} instead of {should})")
    return ", ".join(parts)


def _describe(state: Mapping[str, Tensor]) -> str:
    backbone = backbone_of(state)
    if backbone:
        return f"STM with {backbone}"
    if "Encoder_M.conv1.0.weight" in state:
        return "STM with a deep stem (ResNeSt)"
    if "layer1.0.conv1.weight" in state:
        depth = "50 or deeper" if "layer1.0.conv3.weight" in state else "18 or 34"
        return f"a ResNet for classification ({depth} layers)"
    return f"{len(state)} tensors of another model"


def _advice(state: Mapping[str, Tensor], model: STM) -> str:
    backbone = backbone_of(state)
    if backbone and backbone != model.backbone.name:
        return f"choose --backbone {backbone}"
    if "layer1.0.conv1.weight" in state:
        return "give it as --backbone-weights"
    return f"give a checkpoint of STM with {model.backbone.name}"


def _imagenet(name: str) -> dict[str, Tensor]:
    weights = get_model_weights(name)["IMAGENET1K_V1"]
    try:
        return dict(weights.get_state_dict(check_hash=True, weights_only=True))
    except (OSError, HTTPException, RuntimeError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise CheckpointError(
            f"torchvision {name}: cannot download ImageNet weights from {weights.url} ({reason}); "
            "fetch that file and give it as --backbone-weights FILE, or --backbone-weights none"
        ) from None


def _torchvision_name(name: str) -> str:
    """``res2.0.bn1.weight`` of an encoder is ``layer1.0.bn1.weight`` of a ResNet."""
    head, _, rest = name.partition(".")
    return f"{_STAGES.get(head, head)}.{rest}"
