"""What a file of weights contains, and the same weights as a plain state dict in another file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from stmtrain.errors import CheckpointError, UsageError
from stmtrain.model import BACKBONES
from stmtrain.weights.files import (
    SAFETENSORS,
    load_file,
    location_of,
    shown,
    state_in,
    write_state,
)
from stmtrain.weights.load import (
    Differences,
    backbone_of,
    compare_stm,
    describe,
    listing,
    stm_state,
    summary,
)

_SUFFIXES = (".pth", ".pt", SAFETENSORS)
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", ".mean", ".std")


@dataclass(frozen=True)
class Inspection:
    """What a file of weights contains.

    Attributes:
        file: Its path.
        format: ``safetensors`` or ``PyTorch``.
        bytes: Its size.
        model: Which model it is, in words.
        backbone: Of STM; ``None`` for another model.
        state_dict: Where in the file the state dict is.
        tensors: Their number.
        parameters: Their elements, without buffers.
        dtypes: Of the tensors, sorted.
        steps: Steps of training, if the file is a checkpoint.
        recipe: Name of the recipe, if the file is a checkpoint.
        averaged: Whether there are averaged weights too.
        not_finite: Tensors with NaN or infinity.
        counters: Whether BatchNorm's counters are there; ``None`` for another model.
        differences: From STM, by kind; ``None`` for another model.
    """

    file: str
    format: str
    bytes: int
    model: str
    backbone: str | None
    state_dict: str
    tensors: int
    parameters: int
    dtypes: tuple[str, ...]
    steps: int | None
    recipe: str | None
    averaged: bool
    not_finite: tuple[str, ...]
    counters: bool | None = None
    differences: Differences | None = None

    def lines(self, most: int | None = None) -> list[str]:
        """Describe the file in lines, with at most ``most`` differences of each kind."""
        lines = [
            f"file: {self.file} ({self.format}, {self.bytes / 1e6:.1f} MB)",
            f"model: {self.model}",
            f"state dict: {self.state_dict}",
            f"tensors: {self.tensors}, {self.parameters / 1e6:.2f} M parameters, "
            f"{', '.join(self.dtypes)}",
        ]
        if self.steps is not None and self.recipe is not None:
            lines.append(f"training: {self.steps} steps of recipe {self.recipe}")
        if self.averaged:
            lines.append("averaged weights: present (stm weights convert --ema selects them)")
        if self.not_finite:
            first = self.not_finite[0]
            lines.append(f"NaN or infinity: in {len(self.not_finite)} tensors (first {first})")
        if self.counters is False:
            lines.append("BatchNorm's counters: absent, set to zero when loaded")
        if self.differences is not None:
            found = summary(self.differences) or "all as they should be"
            lines += [f"names and shapes: {found}", *listing(self.differences, most)]
        return lines


def inspect(path: Path) -> Inspection:
    """Inspect a file of weights of any model.

    Raises:
        CheckpointError: The file is unreadable, damaged, or contains no state dict.
    """
    content = load_file(path)
    state = state_in(content, path)
    step, recipe = content.get("step"), content.get("recipe")
    found = Inspection(
        file=str(path),
        format="safetensors" if path.suffix == SAFETENSORS else "PyTorch",
        bytes=path.stat().st_size,
        model=describe(state),
        backbone=backbone_of(state),
        state_dict=location_of(content),
        tensors=len(state),
        parameters=sum(t.numel() for name, t in state.items() if not name.endswith(_BUFFERS)),
        dtypes=tuple(sorted({str(t.dtype).removeprefix("torch.") for t in state.values()})),
        steps=step if isinstance(step, int) else None,
        recipe=shown(recipe.get("name")) if isinstance(recipe, Mapping) else None,
        averaged=_has_averages(content),
        not_finite=tuple(_not_finite(state)),
    )
    if found.backbone is None:
        return found
    complete, differences = compare_stm(state, found.backbone)
    return replace(found, counters=len(complete) == len(state), differences=differences)


def convert(
    path: Path,
    target: Path,
    show: Callable[[str], None],
    most: int | None,
    *,
    backbone: str | None = None,
    ema: bool = False,
    overwrite: bool = False,
) -> None:
    """Write the STM weights in ``path`` as a plain state dict with the names of STM.

    Every tensor keeps its dtype and its bits. Nothing is written unless all names and shapes are
    those of the backbone.

    Args:
        path: Published weights or a checkpoint of this program, prefixed and wrapped or not.
        target: New file; its suffix selects the format.
        show: Receives each line of output, also before an error.
        most: Differences of each kind to show; ``None`` for all.
        backbone: The expected backbone; recognised if not given.
        ema: Take the averaged weights of a checkpoint.
        overwrite: Replace ``target`` if it exists.

    Raises:
        UsageError: The suffix or the backbone is unknown, or ``target`` exists.
        CheckpointError: ``path`` is damaged, has no averaged weights, or is not that model.
    """
    _check_request(target, backbone, overwrite)
    content = load_file(path)
    if ema and not _has_averages(content):
        raise CheckpointError(
            f"{path}: expected a checkpoint with averaged weights, found none; leave out --ema"
        )
    state = state_in({"model": content["ema"]} if ema else content, path)
    name = backbone or backbone_of(state)
    if name is not None:
        for line in listing(compare_stm(state, name)[1], most):
            show(line)
    name, complete = stm_state(state, str(path), backbone)
    if len(complete) > len(state):
        added = len(complete) - len(state)
        show(f"note: {added} counters of BatchNorm were absent and are zero")
    if _has_averages(content) and not ema:
        show("note: the averaged weights of this checkpoint are not included; --ema selects them")
    not_finite = _not_finite(state)
    if not_finite:
        show(f"note: {len(not_finite)} tensors contain NaN or infinity (first {not_finite[0]})")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_state(target, complete, {"backbone": name, "model": "STM"})
    size = target.stat().st_size / 1e6
    show(f"weights: {target} (STM with {name}, {len(complete)} tensors, {size:.1f} MB)")


def _check_request(target: Path, backbone: str | None, overwrite: bool) -> None:
    if target.suffix not in _SUFFIXES:
        raise UsageError(
            f"{target}: expected a name that ends in {', '.join(_SUFFIXES)}, found "
            f"{target.suffix or 'no suffix'!r}; the suffix selects the format"
        )
    if backbone is not None and backbone not in BACKBONES:
        raise UsageError(f"expected --backbone of {', '.join(BACKBONES)}, found {backbone!r}")
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists; give another name or --overwrite")


def _has_averages(content: Mapping[Any, Any]) -> bool:
    return isinstance(content.get("ema"), Mapping)


def _not_finite(state: Mapping[str, Tensor]) -> list[str]:
    # In float64, because not every dtype has isfinite.
    return [name for name, tensor in state.items() if not tensor.double().isfinite().all()]
