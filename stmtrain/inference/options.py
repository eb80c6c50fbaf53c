"""The options of inference: how a video is segmented. Free of torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


class OptionError(ValueError):
    """An option of inference has a wrong value.

    Attributes:
        option: Which one, an attribute of :class:`Inference`.
        problem: What was expected and found.
    """

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(option, problem)
        self.option, self.problem = option, problem

    def __str__(self) -> str:
        return f"{self.option}: {self.problem}"


@dataclass(frozen=True)
class Inference:
    """How a video is segmented.

    Attributes:
        memory_every: Every Nth frame stays in memory, >= 1: 5 in the paper, 8 in the published
            re-training's script.
        memory_frames: Most frames in the memory of an object, >= 2; ``None`` has no limit, as in
            the paper. The frame that gives the object and the latest frame always stay, the others
            thin out evenly: see ``memory_bank.History``. A frame takes 4.1 MB per object at 480p
            with ResNet-50, and time in proportion.
        top_k: How many memory positions, the most similar ones, a query position reads; ``None``
            reads all. Costs a selection among all positions, and with bfloat16 on a GPU the fused
            read.
        size: Short side at which the network works, pixels; ``None`` is the frames' own. A network
            that was trained at a smaller size than the paper's expects objects of that scale.
        flip: Average with the prediction for the mirrored video, which has a memory of its own:
            twice the time and memory.
        scales: Sizes, relative to ``size``, whose predictions are averaged, each with a memory of
            its own: (0.75, 1, 1.25) costs 3.1 times the time and memory (the sum of squares), and
            3.8 times the read (of fourth powers), both doubled by ``flip``.
        precision: ``"bfloat16"`` computes in half precision and halves the memory. Similarities,
            their softmax and the merging of objects stay float32.
    """

    memory_every: int = 5
    memory_frames: int | None = None
    top_k: int | None = None
    size: int | None = None
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        """Raise :class:`OptionError` for a wrong value."""
        _at_least("memory_every", self.memory_every, 1)
        _at_least("memory_frames", self.memory_frames, 2)
        _at_least("top_k", self.top_k, 1)
        _at_least("size", self.size, 16)
        if not self.scales or not all(0 < scale < math.inf for scale in self.scales):
            problem = f"expected one or more numbers above 0, found {self.scales}"
            raise OptionError("scales", problem)
        if self.precision not in ("float32", "bfloat16"):
            problem = f"expected 'float32' or 'bfloat16', found {self.precision!r}"
            raise OptionError("precision", problem)


def options_in_words(options: Mapping[str, Any]) -> str:
    """Describe in one line how videos were segmented.

    Args:
        options: The attributes of :class:`Inference` by name, as JSON values.
    """
    frames, top_k, side = options["memory_frames"], options["top_k"], options["size"]
    views = [f"scale {scale:g}" for scale in options["scales"]]
    if options["flip"]:
        views.append("mirrored")
    return ", ".join(
        [
            f"memory every {options['memory_every']} frames",
            f"at most {frames} frames in it" if frames else "no limit to it",
            f"the best {top_k} positions read" if top_k else "all positions read",
            f"short side {side}" if side else "native size",
            " + ".join(views),
            options["precision"],
        ]
    )


def _at_least(option: str, value: int | None, minimum: int) -> None:
    if value is not None and value < minimum:
        raise OptionError(option, f"expected at least {minimum}, found {value}")


DEFAULT = Inference()
"""As in the paper: every fifth frame stays in memory, at the frames' own size."""
