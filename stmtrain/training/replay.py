"""Repeat a failed step, clip by clip, to find the clip and the module that broke it.

``stm train`` writes ``replay.json`` next to the checkpoint when a loss or gradient becomes infinite
or NaN. The plan is a function of the step, so the same clips are read, with the same augmentation.
"""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from stmtrain.errors import UsageError
from stmtrain.files import read_regular
from stmtrain.images.sheet import contact_sheet, save_png
from stmtrain.settings import from_mapping
from stmtrain.shards.urls import parse_location
from stmtrain.streaming.augment import augment
from stmtrain.streaming.batch import Batch
from stmtrain.training.as_trained import batch_views
from stmtrain.training.distributed import SINGLE, usable_device
from stmtrain.training.recipe import TrainRecipe, bootstrap_share
from stmtrain.training.setup import TrainOptions, build_loader, build_state, open_data
from stmtrain.training.step import TrainState
from stmtrain.weights.checkpoint import load_training_state

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class _ReplayFile:
    """What replay.json states; ``checkpoint`` is a name in the same folder."""

    step: int
    shards: tuple[str, ...]
    weights: tuple[float, ...]
    backbone: str
    checkpoint: str

    def __post_init__(self) -> None:
        """Refuse what no run can have."""
        if Path(self.checkpoint).name != self.checkpoint:
            raise ValueError(
                f"expected the name of a checkpoint next to it, found {self.checkpoint!r}"
            )
        if len(self.shards) != len(self.weights) or not all(0 < w < inf for w in self.weights):
            raise ValueError(
                f"expected a positive weight for each of {len(self.shards)} shard sets"
            )


@dataclass(frozen=True)
class ClipReplay:
    """Result of one clip: loss, J, norm of its gradient, first module with a non-finite output."""

    key: str
    objects: int
    loss: float
    jaccard: float
    grad_norm: float
    broken: str


@dataclass(frozen=True)
class Replay:
    """A repeated step, and the picture of its clips."""

    step: int
    clips: tuple[ClipReplay, ...]
    picture: Path

    def table(self) -> "Table":
        """Return the clips as a table for the terminal."""
        from rich.table import Table

        columns = ("clip", "objects", "loss", "J", "gradient norm", "first non-finite output")
        table = Table(*columns, title=f"step {self.step}", title_justify="left")
        for clip in self.clips:
            table.add_row(
                clip.key,
                str(clip.objects),
                f"{clip.loss:.4g}",
                f"{100 * clip.jaccard:.1f}",
                f"{clip.grad_norm:.4g}",
                clip.broken or "none",
            )
        return table


def replay(path: Path, device_name: str = "auto") -> Replay:
    """Repeat the step that ``path`` describes, each clip on its own; no weight changes.

    Args:
        path: ``replay.json`` in its run folder, next to the checkpoint from before the step.
        device_name: As in ``stm train --device``.

    Raises:
        UsageError: ``stm train`` did not write this file, or the run was resumed since.
        CheckpointError: The checkpoint is missing or damaged.
        ShardError: The shards are missing or damaged.
    """
    value, recipe = _read(path)
    options = TrainOptions(
        shards=tuple(parse_location(shards) for shards in value.shards),
        weights=value.weights,
        out=path.parent,
        backbone=value.backbone,
        device=device_name,
    )
    device = usable_device(device_name)
    checkpoint = load_training_state(path.with_name(value.checkpoint))
    if checkpoint.backbone != options.backbone:
        raise UsageError(
            f"{path}: expected backbone {options.backbone}, found {checkpoint.backbone} in the "
            "checkpoint next to it; put the two files of one run together"
        )
    if checkpoint.step != value.step:
        raise UsageError(
            f"{path}: describes step {value.step}, but the checkpoint next to it is at step "
            f"{checkpoint.step}; the run was resumed since, there is nothing to replay"
        )
    data = open_data(options, recipe)
    state = build_state(options, replace(recipe, compile=False), checkpoint, device, SINGLE)
    with build_loader(options, recipe, data, device, checkpoint.step) as loader:
        batch = next(iter(loader))
        frames, masks = augment(batch, recipe.size)
        clips = tuple(
            _replay_clip(state, recipe, batch, frames[i : i + 1], masks[i : i + 1], i)
            for i in range(len(batch.keys))
        )
        picture = path.with_suffix(".png")
        save_png(picture, contact_sheet(batch_views(batch, frames, masks, data, recipe)))
    return Replay(checkpoint.step, clips, picture)


def _read(path: Path) -> tuple[_ReplayFile, TrainRecipe]:
    try:
        value = json.loads(read_regular(path))
        fields = {field.name: value[field.name] for field in dataclasses.fields(_ReplayFile)}
        recipe = value["recipe"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UsageError(
            f"--replay {path}: expected a replay.json written by stm train; check the path"
        ) from None
    return (
        from_mapping(_ReplayFile, fields, str(path)),
        from_mapping(TrainRecipe, dict(recipe), f"{path}: recipe"),
    )


def _replay_clip(
    state: TrainState, recipe: TrainRecipe, batch: Batch, frames: Tensor, masks: Tensor, index: int
) -> ClipReplay:
    count = batch.num_objects[index : index + 1]
    state.optimizer.zero_grad(set_to_none=True)
    share = bootstrap_share(recipe, batch.step)
    with _find_non_finite(state.model) as broken:
        loss, jaccard, _ = state.clip_loss(frames, masks, count, share)
        loss.sum().backward()
    norm = nn.utils.get_total_norm([p.grad for p in state.model.parameters() if p.grad is not None])
    return ClipReplay(
        key=batch.keys[index],
        objects=int(count),
        loss=float(loss.detach()),
        jaccard=float(jaccard),
        grad_norm=float(norm),
        broken=broken[0] if broken else "",
    )


@contextmanager
def _find_non_finite(model: nn.Module) -> Iterator[list[str]]:
    """Collect the names of modules with a non-finite output, in the order of computation."""
    broken: list[str] = []

    def check(name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and not bool(output.isfinite().all()):
            broken.append(name)

    leaves = [(n, m) for n, m in model.named_modules() if not list(m.children())]
    hooks = [module.register_forward_hook(partial(check, name)) for name, module in leaves]
    try:
        yield broken
    finally:
        for hook in hooks:
            hook.remove()
