"""``config.json``: what a set is meant to be, written before its first shard.

It holds the configuration and the names of all shards to come, so that an interrupted set, or one
that lost its manifest, can be told from the files of other programs. Readers of samples do not
need it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from stmtrain.errors import ShardError
from stmtrain.shards.sample import (
    FORMAT_NAME,
    FORMAT_VERSION,
    canonical_json,
    config_hash,
    is_shard_name,
)


@dataclass(frozen=True)
class SetConfig:
    """The content of ``config.json``.

    Attributes:
        config: Everything that decides the bytes of the set, as JSON reads it back.
        shards: The tar names of the set, in order.
    """

    config: Mapping[str, Any]
    shards: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse names that no shard can have, and turn tuples into the lists of JSON."""
        bad = [name for name in self.shards if not is_shard_name(name)]
        if bad or len(set(self.shards)) != len(self.shards):
            raise ValueError(f"expected distinct plain shard names, found {bad or 'one twice'}")
        object.__setattr__(self, "config", json.loads(canonical_json(self.config)))

    @property
    def hash(self) -> str:
        """The hash that every sidecar of the set carries."""
        return config_hash(self.config)

    def to_mapping(self) -> dict[str, Any]:
        """Return the file's content as JSON values."""
        return {
            "format": FORMAT_NAME,
            "format_version": FORMAT_VERSION,
            "config": dict(self.config),
            "config_hash": self.hash,
            "shards": list(self.shards),
        }

    def to_json(self) -> bytes:
        """Encode as the file's bytes, indented for human readers."""
        text = json.dumps(self.to_mapping(), indent=1, sort_keys=True, ensure_ascii=False)
        return (text + "\n").encode(errors="surrogatepass")

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Self:
        """Decode ``config.json``; ``where`` is its path.

        Raises:
            ShardError: It is not what :meth:`to_json` writes.
        """
        try:
            value = json.loads(data)
            config = cls(value["config"], tuple(value["shards"]))
            intact = config.to_mapping() == value
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise ShardError(f'{where}: is damaged ({error!r}); run "stm shards repair"') from None
        if not intact:
            raise ShardError(f'{where}: contradicts itself; it was edited, run "stm shards repair"')
        return config
