"""Prepare data offline: still images and videos to tar shards. Never needs torch.

The names below are the public interface; everything else may change between releases. A name is
imported when it is first used, so that ``import stmdata`` takes no time and needs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stmdata.synthesis.clip import Clip, synthesise

__all__ = [
    "Clip",
    "synthesise",
]

_MODULES = {
    "synthesis.clip": ("Clip", "synthesise"),
}


if not TYPE_CHECKING:  # so that mypy and editors know the names above, and no others

    def __getattr__(name: str) -> Any:
        for module, names in _MODULES.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
