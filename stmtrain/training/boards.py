"""Where the curves of a run can be watched while it trains: TensorBoard, Weights & Biases.

Both are optional, and imported where they are used.
"""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stmtrain.errors import UsageError
from stmtrain.files import write_whole

_WANDB_ID = "wandb_id"


class Board(Protocol):
    """What a run is recorded on, with the methods of TensorBoard's ``SummaryWriter``."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Record a number."""

    def add_image(
        self, tag: str, img_tensor: NDArray[np.uint8], global_step: int, *, dataformats: str
    ) -> None:
        """Record a picture (H, W, 3)."""

    def close(self) -> None:
        """Write what is not written yet."""


@contextmanager
def open_boards(
    out: Path, first: int, project: str | None, config: Mapping[str, Any]
) -> Iterator[list[Board]]:
    """Open TensorBoard if it is installed, and Weights & Biases if a project is named.

    Args:
        out: The run's folder.
        first: Steps done; those after it are recorded again.
        project: Project of Weights & Biases.
        config: Recipe of the run, which Weights & Biases shows next to it.

    Raises:
        UsageError: Weights & Biases cannot start.
    """
    boards = [_tensorboard(out / "tensorboard", first)]
    if project is not None:
        boards.append(_WandbBoard(out, project, config))
    with ExitStack() as stack:
        opened = [board for board in boards if board is not None]
        for board in opened:
            stack.callback(board.close)
        yield opened


def _tensorboard(folder: Path, first: int) -> Board | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    writer: Board = SummaryWriter(str(folder), purge_step=first + 1)
    return writer


class _WandbBoard:
    """A run of Weights & Biases; a resumed run continues it, by the id stored in its folder."""

    def __init__(self, out: Path, project: str, config: Mapping[str, Any]) -> None:
        import wandb

        place = out / _WANDB_ID
        if not place.exists():
            write_whole(place, secrets.token_hex(4) + "\n")
        self._image = wandb.Image
        try:
            self._run = wandb.init(
                project=project,
                name=out.name,
                dir=out,
                config=dict(config),
                id=place.read_text(encoding="utf-8").strip(),
                resume="allow",
                settings=wandb.Settings(console="off"),  # it would take over the progress bar
            )
        except wandb.Error as error:
            raise UsageError(
                f"--wandb {project}: Weights & Biases does not start ({error}); run wandb login, "
                "or set WANDB_MODE=offline and run wandb sync later"
            ) from None

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Record a number."""
        self._run.log({tag: scalar_value}, step=global_step)

    def add_image(
        self, tag: str, img_tensor: NDArray[np.uint8], global_step: int, *, dataformats: str
    ) -> None:
        """Record a picture (H, W, 3), the form that wandb expects too."""
        del dataformats
        self._run.log({tag: self._image(img_tensor)}, step=global_step)

    def close(self) -> None:
        """End the run, which sends or writes what is left."""
        self._run.finish()
