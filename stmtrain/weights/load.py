"""Weight files into models: whole STM checkpoints and pretrained backbones.

Names and shapes must agree exactly, and every disagreement is one :class:`CheckpointError` line
that says what to do. One exception: a file without any of BatchNorm's counters
(``num_batches_tracked``, used by nothing) is older than PyTorch 0.4.1, and they are set to zero.
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from stmtrain.errors import CheckpointError
from stmtrain.model import BACKBONES, STM
from stmtrain.weights.files import read_state

__all__ = [
    "Differences",
    "advice",
    "backbone_of",
    "compare",
    "describe",
    "expected_state",
    "load_backbone",
    "load_state",
    "load_weights",
    "with_counters",
]

_STAGES = {"res2": "layer1", "res3": "layer2", "res4": "layer3"}
_UNUSED = ("layer4.", "fc.")
_CONSTANTS = ("mean", "std")  # in our encoders, not in a classification network
_COUNTER = "num_batches_tracked"
# Where torchvision has no ImageNet weights: those of the network's authors.
_PUBLISHED = {
    "resnest101": "https://github.com/zhanghang1989/ResNeSt/releases/download/weights_step1/"
    "resnest101-22405ba7.pth"
}


@dataclass(frozen=True)
class Differences:
    """How one state dict differs from another; false if it does not.

    Attributes:
        expected: How many tensors were expected.
        missing: Names that are expected and not there.
        unknown: Names that are there and not expected.
        shapes: ``(name, found, expected)`` in words, where name agrees and shape or kind does not.
    """

    expected: int
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    shapes: tuple[tuple[str, str, str], ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unknown or self.shapes)

    def summary(self) -> str:
        """Say it in one line, with counts and first names."""
        parts = []
        if self.missing:
            parts.append(
                f"{len(self.missing)} of {self.expected} missing (first {self.missing[0]})"
            )
        if self.unknown:
            parts.append(f"{len(self.unknown)} unknown (first {self.unknown[0]})")
        if self.shapes:
            name, found, expected = self.shapes[0]
            first = f"{name}: {found} instead of {expected}"
            parts.append(f"{len(self.shapes)} of another shape (first {first})")
        return ", ".join(parts)

    def lines(self, most: int | None = None) -> list[str]:
        """Say it in a line per tensor, ``most`` of each kind if that is given."""
        shapes = [f"{name}: {found} instead of {expected}" for name, found, expected in self.shapes]
        kinds = (("missing", self.missing), ("unknown", self.unknown), ("other shape", shapes))
        lines = []
        for kind, texts in kinds:
            lines += [f"{kind}: {text}" for text in texts[:most]]
            if most is not None and len(texts) > most:
                lines.append(f"{kind}: ... and {len(texts) - most} more")
        return lines


def compare(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Differences:
    """Compare names and shapes, and that what should be a fraction is no integer."""
    both = [name for name in expected if name in found]
    pairs = ((name, *_forms(found[name], expected[name])) for name in both)
    return Differences(
        expected=len(expected),
        missing=tuple(name for name in expected if name not in found),
        unknown=tuple(name for name in found if name not in expected),
        shapes=tuple(pair for pair in pairs if pair[1] != pair[2]),
    )


def with_counters(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add BatchNorm's counters, zero, to a state dict that has none of them."""
    counters = [name for name in expected if name.endswith(_COUNTER)]
    if any(name in state for name in counters):
        return dict(state)
    return {**state, **{name: torch.zeros((), dtype=torch.int64) for name in counters}}


@cache
def expected_state(backbone: str) -> dict[str, Tensor]:
    """Return names and shapes of STM with a backbone, as tensors that hold no numbers."""
    with torch.device("meta"):
        return dict(STM(backbone).state_dict())


def load_weights(model: STM, path: Path) -> None:
    """Load a whole STM checkpoint, the published ones or our own.

    The file holds a state dict, or a dict with one under ``state_dict`` or ``model``; a prefix
    ``module.`` is taken off.

    Args:
        model: Receives the weights; unchanged if anything disagrees.
        path: A file of ``torch.save``, in the present or the pre-1.6 format, or of safetensors.

    Raises:
        CheckpointError: Unreadable, not a state dict, or other names or shapes than the model's.
    """
    load_state(model, read_state(path), str(path))


def load_state(model: STM, state: Mapping[str, Tensor], where: str) -> None:
    """Load a whole state dict; ``where`` names it in the error of :func:`load_weights`."""
    expected = model.state_dict()
    state = with_counters(state, expected)
    differences = compare(state, expected)
    if differences:
        name = model.backbone.name
        raise CheckpointError(
            f"{where}: expected the weights of STM with {name}, found "
            f"{describe(state)}: {differences.summary()}; {advice(state, name)}"
        )
    model.load_state_dict(state)


def load_backbone(model: STM, source: str | Path) -> None:
    """Initialise both encoders from a classification network.

    Args:
        model: Its encoders receive the stem and the first three stages.
        source: ``"imagenet"`` for torchvision's weights, as the paper has it (downloaded once);
            ``"none"`` to keep the random ones, whose BatchNorm statistics then have to be trained;
            or a file with the state dict of such a network: torchvision's ResNet, or the ResNeSt
            that its authors published.

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
    theirs = {_classification_name(k): encoder[k] for k in own}
    given = {k: v for k, v in state.items() if not k.startswith(_UNUSED) and _COUNTER not in k}
    differences = compare(given, theirs)
    if differences:
        raise CheckpointError(
            f"{where}: expected the weights of {name} for classification, found "
            f"{describe(state)}: {differences.summary()}; "
            f"give a file of {name}, or --backbone-weights none"
        )
    renamed = {k: given[_classification_name(k)] for k in own}
    for part in (model.Encoder_Q, model.Encoder_M):
        part.load_state_dict(renamed, strict=False)


def backbone_of(state: Mapping[str, Tensor]) -> str | None:
    """Name the backbone of an STM state dict by its stem and key layer, or None."""
    key = state.get("KV_M_r4.Key.weight")
    if key is None or key.dim() != 4:
        return None
    for name, backbone in BACKBONES.items():
        first_layer = f"Encoder_M.{backbone.first_layer}.weight"
        form = (backbone.key_channels, backbone.channels[-1])
        if first_layer in state and tuple(key.shape[:2]) == form:
            return name
    return None


def describe(state: Mapping[str, Tensor]) -> str:
    """Say in words which model a state dict is of."""
    backbone = backbone_of(state)
    if backbone:
        return f"STM with {backbone}"
    if "layer1.0.conv2.conv.weight" in state:
        return "a ResNeSt for classification"
    if "layer1.0.conv1.weight" in state:
        depth = "50 or deeper" if "layer1.0.conv3.weight" in state else "18 or 34"
        return f"a ResNet for classification ({depth} layers)"
    return f"{len(state)} tensors of another model"


def advice(state: Mapping[str, Tensor], backbone: str) -> str:
    """Say what to do with a state dict that is not of STM with ``backbone``."""
    found = backbone_of(state)
    if found and found != backbone:
        return f"choose --backbone {found}"
    if "layer1.0.conv1.weight" in state:
        return "give it as --backbone-weights"
    return f"give a checkpoint of STM with {backbone}"


def _forms(found: Tensor, expected: Tensor) -> tuple[str, str]:
    """Write out two shapes, and the dtype of an integer that should be a fraction."""
    wrong = expected.is_floating_point() and not found.is_floating_point()
    return f"{tuple(found.shape)}{f' {found.dtype}' if wrong else ''}", f"{tuple(expected.shape)}"


def _imagenet(name: str) -> dict[str, Tensor]:
    if name in _PUBLISHED:
        raise CheckpointError(
            f"{name}: torchvision has no ImageNet weights of it; fetch {_PUBLISHED[name]} and give "
            "that file as --backbone-weights FILE, or --backbone-weights none"
        )
    weights = get_model_weights(name)["IMAGENET1K_V1"]
    try:
        return dict(weights.get_state_dict(check_hash=True, weights_only=True))
    except (OSError, HTTPException, RuntimeError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise CheckpointError(
            f"torchvision {name}: cannot download ImageNet weights from {weights.url} ({reason}); "
            "fetch that file and give it as --backbone-weights FILE, or --backbone-weights none"
        ) from None


def _classification_name(name: str) -> str:
    """``res2.0.bn1.weight`` of an encoder is ``layer1.0.bn1.weight`` of its network."""
    head, _, rest = name.partition(".")
    return f"{_STAGES.get(head, head)}.{rest}"
