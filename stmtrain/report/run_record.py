"""How a result was made: the ``results.json`` that ``stm eval`` writes, as short texts."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stmtrain.errors import DataError
from stmtrain.files import read_regular
from stmtrain.scoring.scores import RESULTS_NAME

_MAX_FACTS, _MAX_FACT_LENGTH, _MAX_DEPTH = 120, 200, 4
_MAX_BYTES = 100_000_000


def read_run(folder: Path) -> dict[str, Any] | None:
    """Read ``results.json`` in a folder of results; return None if there is none.

    Raises:
        DataError: The file is damaged or too large.
    """
    path = folder / RESULTS_NAME
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("it is too large")
        run = json.loads(read_regular(path))
        if not isinstance(run, dict):
            raise ValueError("it is not a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: expected the output of stm eval ({error}); remove or replace the file"
        ) from None
    return run


def claimed_score(run: Mapping[str, Any]) -> float | None:
    """Return the J&F that ``results.json`` states, or None."""
    value: Any = run
    for key in ("scores", "global", "J&F-Mean"):
        value = value.get(key) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) else None


def counted_otherwise(run: Mapping[str, Any], protocol: Mapping[str, Any]) -> str | None:
    """Return how the stated numbers were counted, if that is not by this protocol; None if it is.

    Args:
        run: The contents of ``results.json``; older ones do not state how they were counted.
        protocol: What :meth:`stmtrain.scoring.scores.Scores.protocol` returns.
    """
    scores = run.get("scores")
    stated = scores.get("protocol") if isinstance(scores, dict) else None
    if not isinstance(stated, dict) or "counted_sha256" not in stated:
        return None
    if all(stated.get(key) == protocol[key] for key in ("name", "version", "counted_sha256")):
        return None
    return (
        f"by {stated.get('name')} version {stated.get('version')} over "
        f"{str(stated['counted_sha256'])[:12]}, not by {protocol['name']} version "
        f"{protocol['version']} over {protocol['counted_sha256'][:12]}"
    )


def facts_of(run: Mapping[str, Any]) -> dict[str, str]:
    """Flatten everything except the scores in ``results.json`` into short texts by name."""
    facts: dict[str, str] = {}

    def add(prefix: str, value: Any, depth: int) -> None:
        if isinstance(value, dict) and depth < _MAX_DEPTH:
            for key, inner in value.items():
                add(f"{prefix} {key}".strip().replace("_", " "), inner, depth + 1)
        elif len(facts) < _MAX_FACTS:
            facts[prefix[:_MAX_FACT_LENGTH]] = _shown(value)[:_MAX_FACT_LENGTH]

    add("", run.get("protocol", {}), 0)
    add("", {key: value for key, value in run.items() if key not in ("protocol", "scores")}, 0)
    return facts


def _shown(value: Any) -> str:
    """Format a JSON value for readers."""
    if value is None or isinstance(value, bool):
        return {None: "not set", True: "yes", False: "no"}[value]
    if isinstance(value, list):
        return ", ".join(map(_shown, value[:_MAX_FACTS])) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
