"""The folder of a training run: its files, its lock, its checkpoints, resuming and stopping."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stmtrain.errors import CheckpointError, UsageError
from stmtrain.files import locked, remove_temporaries, write_whole
from stmtrain.settings import to_mapping, to_toml
from stmtrain.training.data_file import write_data
from stmtrain.training.distributed import Ranks
from stmtrain.training.recipe import FREE_ON_RESUME, TrainRecipe
from stmtrain.training.setup import TrainOptions
from stmtrain.training.step import NonFiniteError, TrainState
from stmtrain.weights.checkpoint import Checkpoint, keep_as, load_training_state, save_checkpoint

CHECKPOINT_NAME = "checkpoint.pt"
RECIPE_NAME = "recipe.toml"
_ONE_KEYSTROKE = 2.0  # seconds within which two signals count as one request to stop


@contextmanager
def run_folder(
    options: TrainOptions,
    recipe: TrainRecipe,
    shard_sets: Sequence[Mapping[str, Any]],
    ranks: Ranks,
) -> Iterator[None]:
    """Create the folder, write recipe and data, and lock the folder against other runs.

    Args:
        options: Name the folder and the shard sets.
        recipe: Written as ``recipe.toml``.
        shard_sets: Identity of the data, written to ``data.json`` with its locations.
        ranks: Only rank 0 writes.

    Raises:
        UsageError: Another run is writing into the folder.
    """
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    if ranks.rank > 0:
        yield
        return
    with locked(out):
        remove_temporaries(out)
        write_whole(out / RECIPE_NAME, to_toml(recipe))
        write_data(out, options, shard_sets)
        yield


def checkpoint_to_resume(
    options: TrainOptions, recipe: TrainRecipe, shard_sets: Sequence[Mapping[str, Any]]
) -> Checkpoint | None:
    """Return the checkpoint to resume from, or ``None`` for a new run.

    Args:
        options: Name the folder, and state whether to resume.
        recipe: Must be that of the checkpoint, except for :data:`FREE_ON_RESUME`.
        shard_sets: Identity of the data; must be that of the checkpoint.

    Raises:
        UsageError: The folder contains another run, or none to resume.
        CheckpointError: The checkpoint is damaged, or none of this program.
    """
    path = options.out / CHECKPOINT_NAME
    if not path.exists():
        if options.resume:
            raise UsageError(f"{path}: nothing to resume; leave out --resume to start a new run")
        return None
    if not options.resume:
        raise UsageError(
            f"{path}: this folder already contains a run{_if_complete(path, recipe)}; add --resume "
            "to resume it, or choose another --out"
        )
    checkpoint = load_training_state(path)
    there = {"backbone": checkpoint.backbone, "shards": list(checkpoint.shard_sets)}
    then = {**checkpoint.recipe, **there}
    now = {**to_mapping(recipe), "backbone": options.backbone, "shards": list(shard_sets)}
    free = set(FREE_ON_RESUME)
    if recipe.schedule == "constant" and recipe.max_skip_end[0] == 1:
        free.add("steps")  # nothing before the last step depends on the total number of steps
    if options.other_data:
        free.add("shards")
    differing = sorted(name for name in now if name not in free and now[name] != then.get(name))
    if differing:
        first = differing[0]
        advice = ", or add --other-data" if differing == ["shards"] else ""
        raise UsageError(
            f"{path}: the run in this folder has another {', '.join(differing)} ({first}: "
            f"expected {then.get(first)}, found {now[first]}); use the same settings or another "
            f"--out{advice}"
        )
    return checkpoint


def _if_complete(path: Path, recipe: TrainRecipe) -> str:
    """Say that the run of a checkpoint is complete, if it is."""
    with suppress(CheckpointError):
        if load_training_state(path).step >= recipe.steps:
            return f", already complete with {recipe.steps} steps"
    return ""


@dataclass
class CheckpointSaver:
    """Writes the checkpoints of a run; only rank 0 writes files."""

    options: TrainOptions
    recipe: TrainRecipe
    shard_sets: tuple[Mapping[str, Any], ...]
    state: TrainState
    ranks: Ranks

    def __post_init__(self) -> None:
        """Take a checkpoint that exists in the folder to be up to date."""
        self.path = self.options.out / CHECKPOINT_NAME
        self.saved = self.state.step if self.path.exists() else -1  # step of the saved state

    def save(self) -> None:
        """Write ``checkpoint.pt``, unless it contains this step already."""
        state = self.state
        if self.saved != state.step and self.ranks.rank == 0:
            checkpoint = Checkpoint(
                backbone=self.options.backbone,
                step=state.step,
                model=state.model.state_dict(),
                optimizer=state.optimizer.state_dict(),
                recipe=to_mapping(self.recipe),
                shard_sets=self.shard_sets,
                batchnorm=state.batchnorm,
                ema=None if state.ema is None else state.ema.module.state_dict(),
                best=state.best,
                validated=state.validated,
            )
            save_checkpoint(self.path, checkpoint)
        self.saved = state.step

    def keep(self) -> None:
        """Save, and keep a copy that later checkpoints do not replace."""
        self.save()
        self._keep_as(f"step-{self.state.step:08d}.pt")

    def save_validated(self, score: float) -> None:
        """Save that this step is validated, and keep it if its score is the best so far."""
        self.state.validated = self.state.step
        better = self.state.best is None or score > self.state.best
        if better:
            self.state.best = score
        self.saved = -1
        self.save()
        if better:
            self._keep_as("best.pt")

    def write_replay(self, error: NonFiniteError) -> None:
        """Write ``replay.json``, from which the failed step can be repeated."""
        keys = [key for part in self.ranks.gather(list(error.keys)) for key in part]
        if self.ranks.rank == 0:
            value = {
                "step": self.state.step,
                "keys": keys,
                "why": str(error),
                "shards": [str(shards) for shards in self.options.shards],
                "weights": list(self.options.weights),
                "backbone": self.options.backbone,
                "checkpoint": CHECKPOINT_NAME,
                "recipe": to_mapping(self.recipe),
            }
            write_whole(self.options.out / "replay.json", json.dumps(value, indent=1) + "\n")

    def _keep_as(self, name: str) -> None:
        if self.ranks.rank == 0:
            keep_as(self.path, name)


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Turn SIGINT and SIGTERM into a flag, so that no step is interrupted.

    A second signal, more than two seconds later, ends the process at once in case a step hangs;
    the last checkpoint remains. (Ctrl-C in a terminal may reach a rank twice: directly, and
    through the process that started it.)
    """
    requested = 0.0
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(_number: int, _frame: object) -> None:
        nonlocal requested
        now = time.monotonic()
        if not stop.is_set():
            requested = now
            stop.set()
        elif now - requested > _ONE_KEYSTROKE:
            os._exit(130)

    before = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
