"""Run a step that failed once more, clip by clip, and say which clip broke and where.

``stm train`` writes ``replay.json`` beside the checkpoint when a loss or gradient becomes infinite
or NaN. The plan is a function of the step, so the same clips come again with the same augmentation.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from stmtrain.errors import UsageError
from stmtrain.images.draw import ClipView, contact_sheet, save_png
from stmtrain.settings import from_mapping
from stmtrain.shards.urls import parse_location
from stmtrain.streaming.augment import augment
from stmtrain.streaming.batch import Batch
from stmtrain.training.distributed import SINGLE, usable_device
from stmtrain.training.recipe import TrainRecipe, bootstrap_share
from stmtrain.training.run_folder import TrainOptions, open_sets
from stmtrain.training.setup import build_loader, build_plan, build_state
from stmtrain.training.step import TrainState
from stmtrain.weights.checkpoint import load_checkpoint

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["ClipReplay", "Replay", "replay"]


@dataclass(frozen=True)
class ClipReplay:
    """What one clip gave: loss, J, norm of its gradient, and the first module that broke."""

    key: str
    objects: int
    loss: float
    jaccard: float
    grad_norm: float
    broken: str


@dataclass(frozen=True)
class Replay:
    """A step taken again, and the file that shows its clips."""

    step: int
    clips: tuple[ClipReplay, ...]
    picture: Path

    def table(self) -> "Table":
        """List the clips for the terminal."""
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
    """Take the step that ``path`` describes again, each clip by itself; no weight changes.

    Args:
        path: ``replay.json`` in its run folder, beside the checkpoint of before the step.
        device_name: As in ``stm train --device``.

    Raises:
        UsageError: The file is not one of ``stm train``.
        CheckpointError: The checkpoint is gone, damaged, or of another step.
        ShardError: The shards are not there.
    """
    value = _read(path)
    recipe = from_mapping(TrainRecipe, value["recipe"], str(path))
    run = TrainOptions(
        shards=tuple(parse_location(shards) for shards in value["shards"]),
        weights=tuple(value["weights"]),
        out=path.parent,
        backbone=value["backbone"],
        device=device_name,
    )
    device = usable_device(device_name)
    saved = load_checkpoint(path.with_name(value["checkpoint"]))
    if saved.step != value["step"]:
        raise UsageError(
            f"{path}: tells of step {value['step']}, the checkpoint beside it is at step "
            f"{saved.step}; the run has gone on, there is nothing to replay"
        )
    sets, _ = open_sets(run)
    plan = build_plan(run, recipe, sets)
    state = build_state(run, replace(recipe, compile=False), saved, device, SINGLE)
    with build_loader(run, recipe, sets, plan, device, saved.step) as loader:
        batch = next(iter(loader))
        frames, masks = augment(batch, recipe.size)
        clips = tuple(
            _take(state, recipe, batch, frames[i : i + 1], masks[i : i + 1], i)
            for i in range(len(batch.keys))
        )
        picture = path.with_suffix(".png")
        save_png(picture, contact_sheet(_views(batch, frames, masks)))
    return Replay(saved.step, clips, picture)


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value["step"], int):
            raise TypeError
        return {k: value[k] for k in _FIELDS}
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(
            f"--replay {path}: expected a replay.json that stm train has written; check the path"
        ) from None


_FIELDS = ("step", "shards", "weights", "backbone", "checkpoint", "recipe")


def _take(
    state: TrainState, recipe: TrainRecipe, batch: Batch, frames: Tensor, masks: Tensor, index: int
) -> ClipReplay:
    count = batch.num_objects[index : index + 1]
    state.optimizer.zero_grad(set_to_none=True)
    share = bootstrap_share(recipe, batch.step)
    with _watch(state.model) as broken:
        loss, jaccard, _ = state.task(frames, masks, count, share)
        loss.sum().backward()
    norm = nn.utils.get_total_norm([p.grad for p in state.model.parameters() if p.grad is not None])
    return ClipReplay(
        batch.keys[index],
        int(count),
        float(loss.detach()),
        float(jaccard),
        float(norm),
        broken[0] if broken else "",
    )


@contextmanager
def _watch(model: nn.Module) -> Iterator[list[str]]:
    """Collect the names of modules whose output is not finite, in the order of computation."""
    broken: list[str] = []

    def look(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not bool(output.isfinite().all()):
                broken.append(name)

        return hook

    leaves = [(n, m) for n, m in model.named_modules() if not list(m.children())]
    hooks = [module.register_forward_hook(look(name)) for name, module in leaves]
    try:
        yield broken
    finally:
        for hook in hooks:
            hook.remove()


def _views(batch: Batch, frames: Tensor, masks: Tensor) -> list[ClipView]:
    """Show the clips as the network saw them."""
    pixels = (frames * 255).round().clamp(0, 255).byte().permute(0, 1, 3, 4, 2).cpu().numpy()
    labels = masks.cpu().numpy()
    return [
        ClipView(
            key,
            [str(t) for t in range(len(pixels[i]))],
            list(pixels[i]),
            list(labels[i]),
            list(range(1, int(batch.num_objects[i]) + 1)),
        )
        for i, key in enumerate(batch.keys)
    ]
