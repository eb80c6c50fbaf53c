"""The distribution: its version, and which packages each optional extra brings.

The commands turn a failed import of one of these packages into one line (``stmtrain.commands``).
"""

import tomllib
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from stmtrain.errors import UsageError

EXTRAS = {
    "prep": ("cv2", "imgaug", "msgspec", "pycocotools", "skimage"),
    "video": ("av",),
    "rerun": ("rerun",),
    "log": ("matplotlib", "tensorboard"),
    "wandb": ("wandb",),
    "remote": ("aiobotocore", "aiohttp", "fsspec", "huggingface_hub", "s3fs"),
    "gcs": ("gcsfs",),
}
"""Modules that each extra of pyproject.toml brings."""

PURPOSES = {
    "prep": "pseudo-videos from still images, resized videos",
    "video": "video files as input, MP4 files as output",
    "rerun": "recordings for the viewer of Rerun",
    "log": "TensorBoard, curves.png",
    "wandb": "Weights & Biases",
    "remote": "shards from s3://, hf:// and https://",
    "gcs": "shards from gs://",
}
"""What each extra is for."""


def version() -> str:
    """Return the version: of the checkout that this file is in, else of the installation."""
    project = Path(__file__).parents[1] / "pyproject.toml"
    if project.is_file():
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    return metadata.version("stm-vos")


def pip_install(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'stm-vos[{extra}]'"


def has_extra(extra: str) -> bool:
    """Return whether all packages of an extra are installed; nothing is imported."""
    return all(find_spec(module) is not None for module in EXTRAS[extra])


def require(module: str, what: str) -> None:
    """Check early that a module of an extra is installed, before anything is written.

    Raises:
        UsageError: It is not.
    """
    if find_spec(module) is None and (error := missing(ImportError(name=module), what)):
        raise error


def missing(error: ImportError, what: str) -> UsageError | None:
    """Return the error for the user if a package of an extra is missing, else ``None``.

    Args:
        error: Of an import that failed.
        what: What needs the package, e.g. "stm prepare-coco".
    """
    module = (error.name or "").partition(".")[0]
    for extra, modules in EXTRAS.items():
        if module in modules:
            return UsageError(
                f"{what} needs the package {module} of the extra {extra}, which is not installed; "
                f"run: {pip_install(extra)}"
            )
    return None
