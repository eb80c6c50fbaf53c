"""Prepare data offline: still images and videos to tar shards. Never needs torch.

The names below are the public interface; everything else may change between releases. A name is
imported when it is first used, so that ``import stmdata`` takes no time and needs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stmdata.packing.clips import ClipOptions, prepare_coco, prepare_masks
    from stmdata.packing.pack import SetPlan, pack
    from stmdata.packing.videos import prepare_videos
    from stmdata.synthesis.clip import Clip, synthesise
    from stmdata.synthesis.recipe import load_recipe

__all__ = [
    "Clip",
    "ClipOptions",
    "SetPlan",
    "load_recipe",
    "pack",
    "prepare_coco",
    "prepare_masks",
    "prepare_videos",
    "synthesise",
]

_MODULES = {
    "packing.clips": ("ClipOptions", "prepare_coco", "prepare_masks"),
    "packing.pack": ("SetPlan", "pack"),
    "packing.videos": ("prepare_videos",),
    "synthesis.clip": ("Clip", "synthesise"),
    "synthesis.recipe": ("load_recipe",),
}


if not TYPE_CHECKING:  # so that mypy and editors know the names above, and no others

    def __getattr__(name: str) -> Any:
        for module, names in _MODULES.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
