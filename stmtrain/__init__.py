"""Stream shards of videos into Space-Time Memory Networks: train, segment, evaluate, score.

The names below are the public interface; everything else may change between releases. A name is
imported when it is first used, so that ``import stmtrain`` takes no time and needs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stmtrain.adapters.webdataset import decode_sample, open_webdataset
    from stmtrain.errors import DataError, StmError, UsageError
    from stmtrain.inference.options import Inference
    from stmtrain.inference.segment import segment_video
    from stmtrain.model import STM
    from stmtrain.scoring.score import score
    from stmtrain.scoring.scores import Scores
    from stmtrain.shards.arrays import SampleArrays
    from stmtrain.shards.reader import ShardSet, open_shards
    from stmtrain.streaming.augment import augment
    from stmtrain.streaming.batch import Batch
    from stmtrain.streaming.loader import Loader, open_loader
    from stmtrain.weights.checkpoint import load_model

__all__ = [
    "STM",
    "Batch",
    "DataError",
    "Inference",
    "Loader",
    "SampleArrays",
    "Scores",
    "ShardSet",
    "StmError",
    "UsageError",
    "augment",
    "decode_sample",
    "load_model",
    "open_loader",
    "open_shards",
    "open_webdataset",
    "score",
    "segment_video",
]

_MODULES = {
    "adapters.webdataset": ("decode_sample", "open_webdataset"),
    "errors": ("DataError", "StmError", "UsageError"),
    "inference.options": ("Inference",),
    "inference.segment": ("segment_video",),
    "model": ("STM",),
    "scoring.score": ("score",),
    "scoring.scores": ("Scores",),
    "shards.arrays": ("SampleArrays",),
    "shards.reader": ("ShardSet", "open_shards"),
    "streaming.augment": ("augment",),
    "streaming.batch": ("Batch",),
    "streaming.loader": ("Loader", "open_loader"),
    "weights.checkpoint": ("load_model",),
}


if not TYPE_CHECKING:  # so that mypy and editors know the names above, and no others

    def __getattr__(name: str) -> Any:
        for module, names in _MODULES.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
