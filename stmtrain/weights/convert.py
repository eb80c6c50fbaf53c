"""What is in a file of weights, and the same weights as a plain state dict in another file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from stmtrain.errors import CheckpointError, UsageError
from stmtrain.model import BACKBONES
from stmtrain.weights.files import (
    SAFETENSORS,
    is_prefixed,
    load_file,
    shown,
    state_in,
    wrapper_of,
    write_state,
)
from stmtrain.weights.load import (
    Differences,
    advice,
    backbone_of,
    compare,
    describe,
    expected_state,
    with_counters,
)

__all__ = ["WeightFile", "convert", "inspect"]

_SUFFIXES = (".pth", ".pt", SAFETENSORS)
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", ".mean", ".std")


@dataclass(frozen=True)
class WeightFile:
    """What :func:`inspect` found.

    Attributes:
        path: The file.
        size: Of the file, bytes.
        wrapper: Key of the dict that holds the state dict, or ``None``.
        prefixed: Whether names begin with ``module.``.
        model: What it is, in words.
        backbone: Its name, if it is STM.
        tensors: How many.
        parameters: Numbers that are trained.
        dtypes: Of the tensors, sorted.
        without_counters: Whether BatchNorm's counters are absent (set to zero when loaded).
        not_finite: Names of tensors with a NaN or an infinity.
        differences: From STM with that backbone, or ``None``.
        averaged: Whether there are averaged weights beside these.
        training: How far the run is that saved it, in words, or ``None``.
    """

    path: Path
    size: int
    wrapper: str | None
    prefixed: bool
    model: str
    backbone: str | None
    tensors: int
    parameters: int
    dtypes: tuple[str, ...]
    without_counters: bool
    not_finite: tuple[str, ...]
    differences: Differences | None
    averaged: bool
    training: str | None

    def lines(self, most: int | None) -> list[str]:
        """Say everything, a line each; ``most`` differences of each kind, or all if ``None``."""
        kind = "safetensors" if self.path.suffix == SAFETENSORS else "PyTorch"
        place = "alone" if self.wrapper is None else f"under {self.wrapper!r}"
        prefix = ", names prefixed module." if self.prefixed else ""
        count = f"{self.tensors}, {self.parameters / 1e6:.2f} M parameters"
        lines = [
            f"file: {self.path} ({kind}, {self.size / 1e6:.1f} MB)",
            f"model: {self.model}",
            f"state dict: {place}{prefix}",
            f"tensors: {count}, {', '.join(self.dtypes)}",
        ]
        if self.training is not None:
            lines.append(f"training: {self.training}")
        if self.averaged:
            lines.append("averaged weights: beside these (stm weights convert --ema takes them)")
        if self.without_counters:
            lines.append("BatchNorm's counters: absent, set to zero when loaded")
        if self.not_finite:
            first = self.not_finite[0]
            lines.append(f"NaN or infinity: in {len(self.not_finite)} tensors (first {first})")
        if self.differences is not None:
            lines.append(
                f"names and shapes: {self.differences.summary() or 'all as they should be'}"
            )
            lines += self.differences.lines(most)
        return lines


def inspect(path: Path) -> WeightFile:
    """Look at a file of weights, whatever model it is of.

    Raises:
        CheckpointError: It is unreadable, damaged, or holds no state dict.
    """
    value = load_file(path)
    state = state_in(value, path)
    backbone = backbone_of(state)
    whole, differences = state, None
    if backbone is not None:
        expected = expected_state(backbone)
        whole = with_counters(state, expected)
        differences = compare(whole, expected)
    wrapper = wrapper_of(value)
    return WeightFile(
        path=path,
        size=path.stat().st_size,
        wrapper=wrapper,
        prefixed=is_prefixed(value if wrapper is None else value[wrapper]),
        model=describe(state),
        backbone=backbone,
        tensors=len(state),
        parameters=sum(t.numel() for n, t in state.items() if not n.endswith(_BUFFERS)),
        dtypes=tuple(sorted({str(t.dtype).removeprefix("torch.") for t in state.values()})),
        without_counters=len(whole) > len(state),
        not_finite=_not_finite(state),
        differences=differences,
        averaged=_is_averaged(value),
        training=_training(value),
    )


def convert(
    source: Path,
    target: Path,
    show: Callable[[str], None],
    most: int | None,
    *,
    backbone: str | None = None,
    ema: bool = False,
    overwrite: bool = False,
) -> None:
    """Write the STM weights in ``source`` as a plain state dict, with the names of STM alone.

    Every tensor keeps its dtype and its bits. Nothing is written unless all names and shapes are
    those of the backbone.

    Args:
        source: Published weights or a checkpoint of ours, prefixed and wrapped or not.
        target: New file; its suffix says the format.
        show: Takes each line of what was noticed, also before an error.
        most: Differences of each kind to show; ``None`` for all.
        backbone: What ``source`` must be; recognised if not given.
        ema: Take the averaged weights of a checkpoint.
        overwrite: Replace ``target`` if it exists.

    Raises:
        UsageError: The suffix or the backbone is unknown, or ``target`` exists.
        CheckpointError: ``source`` is damaged, has no averaged weights, or is not that model.
    """
    _check_request(target, backbone, overwrite)
    value = load_file(source)
    state = _averaged(value, source) if ema else state_in(value, source)
    name = backbone or backbone_of(state)
    if name is None:
        raise CheckpointError(
            f"{source}: expected STM weights with one of the backbones {', '.join(BACKBONES)}, "
            f"found {describe(state)}; give a checkpoint of STM, or --backbone NAME to see what "
            "differs"
        )
    expected = expected_state(name)
    whole = with_counters(state, expected)
    differences = compare(whole, expected)
    if differences:
        for line in differences.lines(most):
            show(line)
        raise CheckpointError(
            f"{source}: expected the weights of STM with {name}, found {describe(state)}: "
            f"{differences.summary()}; {advice(state, name)}"
        )
    for note in _notes(value, state, ema=ema, counters=len(whole) - len(state)):
        show(note)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_state(target, {n: whole[n] for n in expected}, {"backbone": name, "model": "STM"})
    size = target.stat().st_size / 1e6
    show(f"weights: {target} (STM with {name}, {len(expected)} tensors, {size:.1f} MB)")


def _check_request(target: Path, backbone: str | None, overwrite: bool) -> None:
    if target.suffix not in _SUFFIXES:
        raise UsageError(
            f"{target}: expected a name that ends in {', '.join(_SUFFIXES)}, found "
            f"{target.suffix or 'no suffix'!r}; it says which format to write"
        )
    if backbone is not None and backbone not in BACKBONES:
        raise UsageError(f"expected --backbone of {', '.join(BACKBONES)}, found {backbone!r}")
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists; give another name or --overwrite")


def _notes(
    value: Mapping[Any, Any], state: Mapping[str, Tensor], *, ema: bool, counters: int
) -> list[str]:
    notes = []
    if counters:
        notes.append(f"note: {counters} counters of BatchNorm were absent and are zero")
    if _is_averaged(value) and not ema:
        notes.append("note: the averaged weights of this checkpoint are left out; --ema takes them")
    bad = _not_finite(state)
    if bad:
        notes.append(f"note: {len(bad)} tensors hold a NaN or an infinity (first {bad[0]})")
    return notes


def _is_averaged(value: Mapping[Any, Any]) -> bool:
    return wrapper_of(value) is not None and isinstance(value.get("ema"), Mapping)


def _averaged(value: Mapping[Any, Any], source: Path) -> dict[str, Tensor]:
    if not _is_averaged(value):
        raise CheckpointError(
            f"{source}: expected a checkpoint with averaged weights, found none; leave --ema out"
        )
    return state_in({"model": value["ema"]}, source)


def _not_finite(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    # In float64, because not every dtype can be asked.
    return tuple(name for name, tensor in state.items() if not tensor.double().isfinite().all())


def _training(value: Mapping[Any, Any]) -> str | None:
    step, recipe = value.get("step"), value.get("recipe")
    if not isinstance(step, int) or not isinstance(recipe, Mapping):
        return None
    return f"{step} steps of recipe {shown(recipe.get('name'))}"
