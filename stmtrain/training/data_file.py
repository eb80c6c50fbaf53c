"""``data.json`` in a run folder: the shard sets of the run, so that its batches can be made again.

The recipe in ``recipe.toml`` and this file determine every batch of the run.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stmtrain.errors import UsageError
from stmtrain.files import read_regular, write_whole
from stmtrain.shards.urls import name_of, parse_location
from stmtrain.training.setup import TrainingData, TrainOptions

_NAME = "data.json"


def write_data(out: Path, options: TrainOptions, shard_sets: Sequence[Mapping[str, Any]]) -> None:
    """Write where the shard sets of a run are, and what they contain.

    Args:
        out: The run folder.
        options: Name the sets; secrets in URLs are left out.
        shard_sets: Identity of each set, as in a checkpoint.
    """
    places = [
        str(location.resolve()) if isinstance(location, Path) else name_of(location)
        for location in options.shards
    ]
    sets = [
        {"location": place, **identity} for place, identity in zip(places, shard_sets, strict=True)
    ]
    value = {"on_bad_sample": options.on_bad_sample, "shards": sets}
    write_whole(out / _NAME, json.dumps(value, indent=1) + "\n")


def read_data(out: Path) -> tuple[TrainOptions, tuple[Mapping[str, Any], ...]]:
    """Read what :func:`write_data` wrote.

    Returns:
        Options with the locations, weights and treatment of bad samples; identity of each set.

    Raises:
        UsageError: There is no such file, or ``stm train`` did not write it.
    """
    path = out / _NAME
    try:
        value = json.loads(read_regular(path))
        sets = [dict(entry) for entry in value["shards"]]
        options = TrainOptions(
            shards=tuple(parse_location(str(entry.pop("location"))) for entry in sets),
            weights=tuple(float(entry["weight"]) for entry in sets),
            out=out,
            on_bad_sample="skip" if value["on_bad_sample"] == "skip" else "raise",
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        if not out.is_dir():
            raise UsageError(
                f"{out}: expected the --out of stm train, found no folder; check the path"
            ) from None
        raise UsageError(
            f"{path}: expected the data of a run, written by stm train; give its recipe and shards "
            f"instead: --recipe {out}/recipe.toml --shards ..."
        ) from None
    return options, tuple(sets)


def check_data(data: TrainingData, expected: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Check that opened shard sets are those of a run.

    Raises:
        UsageError: One of them has other content now.
    """
    for shard_set, now, then in zip(data.sets, data.identity, expected, strict=True):
        if dict(now) != dict(then):
            raise UsageError(
                f"{shard_set.name}: expected the set that {out} was trained on, found another one "
                f"there; to look at it anyway, use --recipe {out}/recipe.toml --shards ..."
            )
