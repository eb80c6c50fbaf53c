"""``config.json``: what a set was asked to be, written before its first shard.

It holds the configuration and the names of all shards planned, so that an interrupted set, or one
that lost its manifest, can be told from files of others. Readers of samples do not need it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from stmtrain.errors import ShardError
from stmtrain.shards.sample import (
    CONFIG_NAME,
    FORMAT_NAME,
    FORMAT_VERSION,
    MANIFEST_NAME,
    canonical_json,
    config_hash,
    sidecar_name,
)

__all__ = ["SHARD_NAME", "parse_plan", "plan_json", "plan_value"]

SHARD_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}\.tar")


def plan_value(config: Mapping[str, Any], shards: Sequence[str]) -> dict[str, Any]:
    """Return the content of ``config.json``, as JSON reads it back.

    Args:
        config: Everything that decides the bytes of the set.
        shards: The tar names planned, in order.
    """
    reserved = {MANIFEST_NAME, CONFIG_NAME}
    bad = [n for n in shards if not SHARD_NAME.fullmatch(n) or sidecar_name(n) in reserved]
    if bad or len(set(shards)) != len(shards):
        raise ValueError(f"expected distinct plain shard names, found {bad or 'one twice'}")
    value: dict[str, Any] = json.loads(
        canonical_json(
            {
                "format": FORMAT_NAME,
                "format_version": FORMAT_VERSION,
                "config": config,
                "config_hash": config_hash(config),
                "shards": shards,
            }
        )
    )
    return value


def plan_json(plan: Mapping[str, Any]) -> bytes:
    """Encode as the bytes of ``config.json``, indented for human readers."""
    return (json.dumps(plan, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def parse_plan(data: bytes, where: str) -> dict[str, Any]:
    """Decode ``config.json``; ``where`` is its path.

    Raises:
        ShardError: It is not what :func:`plan_json` writes.
    """
    try:
        value = json.loads(data)
        plan = plan_value(value["config"], value["shards"])
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ShardError(f'{where}: is damaged ({error!r}); run "stm shards repair"') from None
    if plan != value:
        raise ShardError(f'{where}: contradicts itself; it was edited, run "stm shards repair"')
    return plan
