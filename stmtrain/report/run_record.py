"""What ``stm eval`` wrote beside its masks, as short texts: how a result was made."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stmtrain.errors import DataError

__all__ = ["RECORD_NAME", "claimed_score", "facts_of", "read_record"]

RECORD_NAME = "results.json"

_MOST_FACTS, _LONGEST_FACT = 120, 200
_MOST_JSON_BYTES = 100_000_000


def read_record(folder: Path) -> dict[str, Any] | None:
    """Read the record in a folder of results; None without one, DataError for a damaged one."""
    path = folder / RECORD_NAME
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _MOST_JSON_BYTES:
            raise ValueError("it is too large")
        record = json.loads(path.read_bytes())
        if not isinstance(record, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: expected what stm eval writes ({error}); remove or replace the file"
        ) from None
    return record


def claimed_score(record: Mapping[str, Any]) -> float | None:
    """Return the J&F that ``results.json`` states, if it does."""
    value: Any = record
    for key in ("scores", "global", "J&F-Mean"):
        value = value.get(key) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) else None


def facts_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Flatten what ``results.json`` says about the run, all but the scores, into short texts."""
    facts: dict[str, str] = {}

    def add(prefix: str, value: Any, depth: int) -> None:
        if isinstance(value, dict) and depth < 4:
            for key, inner in value.items():
                add(f"{prefix} {key}".strip().replace("_", " "), inner, depth + 1)
        elif len(facts) < _MOST_FACTS:
            facts[prefix[:_LONGEST_FACT]] = _shown(value)[:_LONGEST_FACT]

    add("", record.get("protocol", {}), 0)
    add("", {key: value for key, value in record.items() if key not in ("protocol", "scores")}, 0)
    return facts


def _shown(value: Any) -> str:
    """Write a JSON value for people."""
    if value is None or isinstance(value, bool):
        return {None: "not set", True: "yes", False: "no"}[value]
    if isinstance(value, list):
        return ", ".join(map(_shown, value[:_MOST_FACTS])) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
