"""A run's folder and its manners: what it holds, resuming it, stopping it, its metrics file."""

import json
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from stmtrain.cache import DEFAULT_GIGABYTES, Cache, default_folder
from stmtrain.checkpoint import Checkpoint, load_checkpoint
from stmtrain.errors import UsageError
from stmtrain.locations import parse_location, shown, split_weight
from stmtrain.recipes import TrainRecipe
from stmtrain.settings import to_mapping
from stmtrain.shards import ShardSet

__all__ = [
    "CHECKPOINT_NAME",
    "METRICS_NAME",
    "RECIPE_NAME",
    "Progress",
    "Run",
    "describe_sources",
    "metrics_line",
    "open_metrics",
    "open_sets",
    "parse_sources",
    "progress_note",
    "saved_run",
    "stop_signals",
]

CHECKPOINT_NAME = "checkpoint.pt"
METRICS_NAME = "metrics.jsonl"
RECIPE_NAME = "recipe.toml"


@dataclass(frozen=True)
class Run:
    """What a training run is made of, besides its recipe.

    Attributes:
        shards: Folders or URLs of shard sets.
        weights: Mixing weight of each set, positive; clips are drawn in these proportions.
        out: Folder for checkpoint, recipe and metrics.
        backbone: ``resnet50`` or ``resnet18``.
        backbone_weights: ``imagenet``, ``none``, or a torchvision ResNet file.
        init: Weights of a whole STM to start from, or ``None``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        threads: Decoding threads of the loader.
        resume: Go on from the checkpoint in ``out``.
        cache: Folder for shards from URLs; ``None`` is the user's cache folder.
        cache_size: The most that the cache holds, GB (10^9 bytes).
        prefetch: Batches that the loader makes ahead.
        on_bad_sample: ``raise`` or ``skip`` (see :class:`stmtrain.loader.Loader`).
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
    cache: Path | None = None
    cache_size: float = DEFAULT_GIGABYTES
    prefetch: int = 2
    on_bad_sample: Literal["raise", "skip"] = "raise"


@dataclass(frozen=True)
class Progress:
    """What the loop reports after every step: counts, loss of the step, seconds so far.

    ``skipped`` counts the bad samples passed over, by the message that names each.
    """

    step: int
    steps: int
    clips: int
    loss: float
    seconds: float
    waited: float
    skipped: Mapping[str, int] = field(default_factory=dict)


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


def open_sets(run: Run) -> tuple[list[ShardSet], int]:
    """Open the run's shard sets; return them and the bytes that the cache may hold (0: no URL)."""
    if all(isinstance(location, Path) for location in run.shards):
        return [ShardSet.open(location) for location in run.shards], 0
    if not run.cache_size > 0:
        raise UsageError(f"--cache-size {run.cache_size:g}: expected more than 0 GB")
    cache = Cache(run.cache or default_folder(), int(run.cache_size * 1e9))
    return [ShardSet.open(location, cache) for location in run.shards], cache.limit


def progress_note(progress: Progress) -> str:
    """Say what a step gave, for the progress bar: loss, clips per second, share of waiting."""
    rate = progress.clips / progress.seconds
    note = f"loss {progress.loss:.3f}  {rate:.1f} clips/s  waited {progress.waited:.1f} s for data"
    skipped = sum(progress.skipped.values())
    return f"{note}  skipped {skipped} bad samples" if skipped else note


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
    run: Run, recipe: TrainRecipe, sources: Sequence[Mapping[str, Any]]
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
    # More steps and other logging are what a resume may change; the rest would be another run.
    free = (
        {"steps", "log_every", "save_every"}
        if recipe.schedule == "constant"
        else {
            "log_every",
            "save_every",
        }
    )
    differing = sorted(k for k in now if k not in free and now[k] != then.get(k))
    if differing:
        k = differing[0]
        raise UsageError(
            f"{path}: was trained with another {', '.join(differing)} "
            f"({k}: {then.get(k)} there, {now[k]} now); use the same settings or another --out"
        )
    return saved


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Turn SIGINT and SIGTERM into a flag, so that no step is cut in the middle.

    A second SIGINT acts at once, in case a step hangs.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def open_metrics(out: Path, first: int) -> Iterator[TextIO]:
    """Open ``metrics.jsonl`` for appending, after dropping lines of steps that will run again."""
    path = out / METRICS_NAME
    kept = []
    if first and path.exists():
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n") and json.loads(line)["step"] <= first:
                kept.append(line)
    # Renamed into place: killed in between, the lines of the steps that are kept must not be lost.
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text("".join(kept), encoding="utf-8")
    temporary.replace(path)
    with path.open("a", encoding="utf-8", buffering=1) as file:
        yield file


def metrics_line(progress: Progress, rate: float) -> str:
    """Format one line of ``metrics.jsonl``; ``rate`` is the learning rate of the step."""
    value: dict[str, Any] = {
        "step": progress.step,
        "loss": round(progress.loss, 6),
        "learning_rate": rate,
        "clips_per_second": round(progress.clips / progress.seconds, 3),
        "waited_seconds": round(progress.waited, 3),
    }
    if progress.skipped:
        value["skipped"] = dict(progress.skipped)
    return json.dumps(value) + "\n"
