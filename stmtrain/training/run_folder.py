"""A run's folder and its manners: what it holds, resuming it, stopping it, its metrics file."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stmtrain.errors import UsageError
from stmtrain.settings import to_mapping
from stmtrain.shards.cache import DEFAULT_GIGABYTES, Cache, default_folder
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.urls import parse_location, shown, split_weight
from stmtrain.training.recipe import FREE_ON_RESUME, TrainRecipe
from stmtrain.weights.checkpoint import Checkpoint, load_checkpoint

__all__ = [
    "BEST_NAME",
    "CHECKPOINT_NAME",
    "RECIPE_NAME",
    "REPLAY_NAME",
    "TrainOptions",
    "describe_sources",
    "open_sets",
    "parse_sources",
    "saved_run",
    "stop_signals",
]

CHECKPOINT_NAME = "checkpoint.pt"
BEST_NAME = "best.pt"
RECIPE_NAME = "recipe.toml"
REPLAY_NAME = "replay.json"

_ONE_KEYSTROKE = 2.0  # seconds within which two signals are one wish


@dataclass(frozen=True)
class TrainOptions:
    """What a training run is made of, besides its recipe.

    Attributes:
        shards: Folders or URLs of shard sets.
        weights: Mixing weight of each set, positive; clips are drawn in these proportions.
        out: Folder for checkpoint, recipe and metrics.
        backbone: ``resnet50``, ``resnet18`` or ``resnest101``.
        backbone_weights: ``imagenet``, ``none``, or a file with a classification network.
        init: Weights of a whole STM to start from, or ``None``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        threads: Decoding threads of the loader.
        resume: Go on from the checkpoint in ``out``.
        other_data: Go on although the shard sets are not those of the checkpoint.
        val: Shard set of validation videos, packed whole (``stm pack-davis``), or ``None``.
        cache: Folder for shards from URLs; ``None`` is the user's cache folder.
        cache_size: The most that the cache holds, GB (10^9 bytes).
        prefetch: Batches that the loader makes ahead.
        on_bad_sample: ``raise`` or ``skip`` (see :class:`stmtrain.streaming.loader.Loader`).
    """

    shards: tuple[Path | str, ...]
    weights: tuple[float, ...]
    out: Path
    backbone: str = "resnet50"
    backbone_weights: str = "imagenet"
    init: Path | None = None
    device: str = "auto"
    threads: int = 2
    resume: bool = False
    other_data: bool = False
    val: Path | str | None = None
    cache: Path | None = None
    cache_size: float = DEFAULT_GIGABYTES
    prefetch: int = 2
    on_bad_sample: Literal["raise", "skip"] = "raise"


def parse_sources(
    texts: Sequence[str],
) -> tuple[tuple[Path | str, ...], tuple[float, ...]]:
    """Parse ``LOCATION`` or ``LOCATION=WEIGHT`` texts; a location is a folder or a URL.

    Raises:
        UsageError: A weight that is no number above 0, or a URL of an unknown scheme.
    """
    locations, weights = [], []
    for text in texts:
        location, weight = split_weight(text)
        try:
            weights.append(float(weight) if weight else 1.0)
        except ValueError:
            raise UsageError(
                f"--shards {shown(text)}: expected FOLDER=WEIGHT with a number, found {weight}"
            ) from None
        if not weights[-1] > 0:
            raise UsageError(
                f"--shards {shown(text)}: expected a weight above 0, found {weights[-1]:g}"
            )
        locations.append(parse_location(location))
    return tuple(locations), tuple(weights)


def open_sets(run: TrainOptions) -> tuple[list[ShardSet], int]:
    """Open the run's shard sets; return them and the bytes that the cache may hold (0: no URL)."""
    if all(isinstance(location, Path) for location in run.shards):
        return [ShardSet.open(location) for location in run.shards], 0
    if not run.cache_size > 0:
        raise UsageError(f"--cache-size {run.cache_size:g}: expected more than 0 GB")
    cache = Cache(run.cache or default_folder(), int(run.cache_size * 1e9))
    return [ShardSet.open(location, cache) for location in run.shards], cache.limit


def describe_sources(
    sets: Sequence[ShardSet], weights: Sequence[float]
) -> tuple[dict[str, Any], ...]:
    """Identify the data by content, not by path: a set that moved is the same set."""
    return tuple(
        {
            "config_hash": s.manifest.config_hash,
            "manifest": s.manifest_sha256,
            "samples": len(s),
            "weight": w,
        }
        for s, w in zip(sets, weights, strict=True)
    )


def saved_run(
    run: TrainOptions, recipe: TrainRecipe, sources: Sequence[Mapping[str, Any]]
) -> Checkpoint | None:
    """Return the checkpoint to resume from; refuse to mix two runs in one folder."""
    path = run.out / CHECKPOINT_NAME
    if not path.exists():
        if run.resume:
            raise UsageError(f"{path}: nothing to resume; leave out --resume to start a run there")
        return None
    if not run.resume:
        raise UsageError(
            f"{path}: this folder holds a run already; add --resume to go on with it, "
            "or choose another --out"
        )
    saved = load_checkpoint(path)
    now = {**to_mapping(recipe), "backbone": run.backbone, "shards": list(map(dict, sources))}
    then = {**saved.recipe, "backbone": saved.backbone, "shards": list(map(dict, saved.sources))}
    # More steps, and what decides no number, are what a resume may change.
    free = FREE_ON_RESUME | ({"steps"} if _steps_are_free(recipe) else set())
    free |= {"shards"} if run.other_data else set()
    differing = sorted(k for k in now if k not in free and now[k] != then.get(k))
    if differing:
        k = differing[0]
        advice = ", or --other-data" if differing == ["shards"] else ""
        raise UsageError(
            f"{path}: was trained with another {', '.join(differing)} "
            f"({k}: {then.get(k)} there, {now[k]} now); use the same settings or another "
            f"--out{advice}"
        )
    return saved


def _steps_are_free(recipe: TrainRecipe) -> bool:
    """Say whether no number before the last step depends on how many steps there will be."""
    return recipe.schedule == "constant" and recipe.max_skip_end[0] == 1


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Turn SIGINT and SIGTERM into a flag, so that no step is cut in the middle.

    A second signal, some seconds later, ends the process at once in case a step hangs; the last
    checkpoint stays as it was. (Ctrl-C in a terminal may reach a rank twice: by itself, and
    through the process that started it.)
    """
    asked = 0.0
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(_number: int, _frame: object) -> None:
        nonlocal asked
        now = time.monotonic()
        if stop.is_set() and now - asked > _ONE_KEYSTROKE:
            os._exit(130)
        if not stop.is_set():
            asked = now
        stop.set()

    before = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
