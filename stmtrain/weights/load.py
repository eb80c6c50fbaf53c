"""Weights into models: complete STM checkpoints, and pretrained backbones.

Names and shapes must agree exactly, and every disagreement is one line of a
:class:`CheckpointError` that says what to do. One exception: a file without any of BatchNorm's
counters (``num_batches_tracked``, which nothing uses) is older than PyTorch 0.4.1; its counters
become zero.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from stmtrain.errors import CheckpointError
from stmtrain.model import BACKBONES, STM
from stmtrain.weights.files import read_state

_STAGES = {"res2": "layer1", "res3": "layer2", "res4": "layer3"}
_UNUSED = ("layer4.", "fc.")
_CONSTANTS = ("mean", "std")  # in our encoders, not in a classification network
_COUNTER = "num_batches_tracked"
# Backbones for which torchvision has no ImageNet weights: those of the network's authors.
_PUBLISHED = {
    "resnest101": "https://github.com/zhanghang1989/ResNeSt/releases/download/weights_step1/"
    "resnest101-22405ba7.pth"
}

Differences = Mapping[str, list[str]]
"""Kind of difference -> names, or ``name: found instead of expected``; empty if there is none."""


def compare(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Differences:
    """Compare names and shapes; integers where floats are expected count as another shape."""
    wrong = []
    for name in (name for name in expected if name in found):
        ours, theirs = found[name], expected[name]
        integers = theirs.is_floating_point() and not ours.is_floating_point()
        if integers or ours.shape != theirs.shape:
            dtype = f" {ours.dtype}" if integers else ""
            wrong.append(f"{name}: {tuple(ours.shape)}{dtype} instead of {tuple(theirs.shape)}")
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    kinds = {"missing": missing, "unknown": unknown, "of another shape": wrong}
    return {kind: names for kind, names in kinds.items() if names}


def summary(differences: Differences) -> str:
    """Return the number and the first name of each kind, in one line."""
    return ", ".join(
        f"{len(names)} {kind} (first {names[0]})" for kind, names in differences.items()
    )


def listing(differences: Differences, most: int | None = None) -> list[str]:
    """Return one line per difference; at most ``most`` of each kind, or all if ``None``."""
    lines = []
    for kind, names in differences.items():
        lines += [f"{kind}: {name}" for name in names[:most]]
        if most is not None and len(names) > most:
            lines.append(f"{kind}: ... and {len(names) - most} more")
    return lines


@cache
def _expected_state(backbone: str) -> dict[str, Tensor]:
    """Return names and shapes of STM with a backbone, as tensors without data."""
    with torch.device("meta"):
        return dict(STM(backbone).state_dict())


def compare_stm(
    state: Mapping[str, Tensor], backbone: str
) -> tuple[dict[str, Tensor], Differences]:
    """Compare a state dict with that of STM; counters are added if all of them are absent."""
    expected, complete = _expected_state(backbone), dict(state)
    if not any(name.endswith(_COUNTER) for name in state):
        zero = torch.zeros((), dtype=torch.int64)
        complete |= {name: zero.clone() for name in expected if name.endswith(_COUNTER)}
    return complete, compare(complete, expected)


def stm_state(
    state: Mapping[str, Tensor], where: str, backbone: str | None = None
) -> tuple[str, dict[str, Tensor]]:
    """Return backbone and state dict of an STM, counters included, in the order of STM.

    Args:
        state: Any state dict.
        where: Named in errors.
        backbone: The expected one; recognised if ``None``.

    Raises:
        CheckpointError: The names or shapes are not those of STM with that backbone.
    """
    name = backbone or backbone_of(state)
    if name is None:
        raise CheckpointError(
            f"{where}: expected STM weights with one of the backbones {', '.join(BACKBONES)}, "
            f"found {describe(state)}; give a checkpoint of STM"
        )
    complete, differences = compare_stm(state, name)
    if differences:
        raise CheckpointError(
            f"{where}: expected the {len(_expected_state(name))} tensors of STM with {name}, "
            f"found {describe(state)}: {summary(differences)}; {_advice(state, name)}"
        )
    return name, {key: complete[key] for key in _expected_state(name)}


def load_weights(model: STM, path: Path) -> None:
    """Load a complete STM checkpoint, published or of this program, by name.

    Raises:
        CheckpointError: The file is unreadable, or not of this model, which is left unchanged.
    """
    _, state = stm_state(read_state(path), str(path), model.backbone.name)
    model.load_state_dict(state)


def load_backbone(model: STM, origin: str | Path) -> None:
    """Initialise both encoders from a classification network.

    Args:
        model: Its encoders receive the stem and the first three stages.
        origin: ``"imagenet"`` for torchvision's weights, as in the paper (downloaded once);
            ``"none"`` to keep the random weights, whose BatchNorm statistics have to be trained;
            or a file with the state dict of such a network: torchvision's ResNet, or the ResNeSt
            of its authors.

    Raises:
        CheckpointError: The download fails, or the file is unreadable or of another network.
    """
    if origin == "none":
        return
    name = model.backbone.name
    if origin == "imagenet":
        where, state = f"torchvision {name}", _imagenet(name)
    else:
        where, state = str(origin), read_state(Path(origin))
    encoder = model.Encoder_Q.state_dict()
    own = [k for k in encoder if k not in _CONSTANTS and _COUNTER not in k]
    expected = {_classification_name(k): encoder[k] for k in own}
    given = {k: v for k, v in state.items() if not k.startswith(_UNUSED) and _COUNTER not in k}
    differences = compare(given, expected)
    if differences:
        whole = backbone_of(state)
        advice = f"use it with --init and --backbone {whole}" if whole else f"give a file of {name}"
        raise CheckpointError(
            f"{where}: expected the weights of {name} for classification, found "
            f"{describe(state)}: {summary(differences)}; {advice}, or --backbone-weights none"
        )
    renamed = {k: given[_classification_name(k)] for k in own}
    for part in (model.Encoder_Q, model.Encoder_M):
        part.load_state_dict(renamed, strict=False)


def backbone_of(state: Mapping[str, Tensor]) -> str | None:
    """Return the backbone of an STM state dict, by its stem and key layer; else ``None``."""
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
    """Return in words which model a state dict belongs to."""
    backbone = backbone_of(state)
    if backbone:
        return f"STM with {backbone}"
    if "layer1.0.conv2.conv.weight" in state:
        return "a ResNeSt for classification"
    if "layer1.0.conv1.weight" in state:
        depth = "50 or deeper" if "layer1.0.conv3.weight" in state else "18 or 34"
        return f"a ResNet for classification ({depth} layers)"
    return f"{len(state)} tensors of another model"


def _advice(state: Mapping[str, Tensor], backbone: str) -> str:
    """Return what to do with a state dict that is not STM's with ``backbone``."""
    found = backbone_of(state)
    if found and found != backbone:
        return f"choose --backbone {found}"
    if "layer1.0.conv1.weight" in state:
        return "give it as --backbone-weights"
    return f"give a checkpoint of STM with {backbone}"


def _imagenet(name: str) -> dict[str, Tensor]:
    if name in _PUBLISHED:
        raise CheckpointError(
            f"{name}: torchvision has no ImageNet weights of it; fetch {_PUBLISHED[name]} and give "
            "that file as --backbone-weights FILE, or --backbone-weights none"
        )
    weights = get_model_weights(name)["IMAGENET1K_V1"]
    try:
        return dict(weights.get_state_dict(check_hash=True, weights_only=True))
    except Exception as error:  # noqa: BLE001  (network, disk, wrong hash, damaged cache)
        reason = (str(error).splitlines() or [""])[0]
        raise CheckpointError(
            f"torchvision {name}: cannot download ImageNet weights from {weights.url} ({reason}); "
            "fetch that file and give it as --backbone-weights FILE, or --backbone-weights none"
        ) from None


def _classification_name(name: str) -> str:
    """``res2.0.bn1.weight`` of an encoder is ``layer1.0.bn1.weight`` of its network."""
    head, _, rest = name.partition(".")
    return f"{_STAGES.get(head, head)}.{rest}"
