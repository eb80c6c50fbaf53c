"""Synthesis recipes: how a still image becomes a clip, each number with its unit and source.

``ClassicRecipe`` is the published distribution; ``SmoothRecipe``, our default, avoids its flaws.
Both are plain values that are read from TOML, printed as TOML and stored in the manifest of a shard
set. Lengths and areas marked "at 384" are in pixels of a 384x384 clip and scale with ``--size``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from stmtrain.settings import load_named, setting

REFERENCE_SIZE = 384
"""Side of the clips to which the pixel numbers below refer (Oh et al. 2019, "Training")."""


@dataclass(frozen=True)
class SynthRecipe:
    """Fields of both families: which objects are used, and which clips are good enough.

    Where masks of an image overlap, the smaller object is in front if ``small_in_front``, else the
    one that is annotated earlier.
    """

    small_in_front: ClassVar[bool] = True
    family: str = setting("smooth", "motion model: classic or smooth")
    min_instance_area: float = setting(
        2000.0, "px at native size; smaller instances of the image stay background (published)"
    )
    min_cutout_box: float = setting(
        3000.0, "px, width times height of an instance's box; smaller are never pasted (published)"
    )
    pastes: tuple[int, int] = setting((1, 3), "fewest and most objects pasted, if any (published)")
    flip: float = setting(0.5, "probability of mirroring the image, all frames alike (published)")
    min_object_area: float = setting(
        350.0, "px at 384; fewer in frame 0 and the object is background (published)"
    )
    max_object_share: float = setting(
        1.0, "share of frame 0; a clip whose every object covers more is drawn again"
    )
    max_objects: int = setting(5, "most objects of a clip, drawn at random (published)")
    pool_size: int = setting(
        96, "cut-outs drawn per shard, at most two per clip; the published code draws one per use"
    )
    max_draws: int = setting(
        8, "tries until frame 0 shows an object of fitting size; then the clip is skipped"
    )
    min_side: int = setting(32, "px at native size; images with a shorter side are skipped")
    appearance: str = setting("none", "look and deformation: none, light, strong or FILE.toml")

    def __post_init__(self) -> None:
        """Refuse values that contradict each other."""
        fewest, most = self.pastes
        if not 0 <= fewest <= most <= 32:
            raise ValueError(f"pastes: expected 0 <= fewest <= most <= 32, found {self.pastes}")
        if not 1 <= self.max_objects <= 254:
            raise ValueError(f"max_objects: expected 1..254, found {self.max_objects}")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip: expected a probability in 0..1, found {self.flip}")
        if self.min_object_area < 1:
            raise ValueError(
                f"min_object_area: expected at least 1 px, found {self.min_object_area}"
            )
        if self.max_draws < 1 or self.pool_size < 0:
            raise ValueError("max_draws must be at least 1 and pool_size at least 0")


@dataclass(frozen=True)
class ClassicRecipe(SynthRecipe):
    """The published pre-training distribution (re-training code of STM, stage 1), unchanged.

    Its known flaws are included, because the statistics depend on them: pasted objects always move
    right and down, cut-outs are pasted at native size, edges are hard, and there are black wedges
    where the warp leaves the image.
    """

    small_in_front: ClassVar[bool] = False
    family: Literal["classic"] = setting("classic", "motion model: classic or smooth")
    paste_probability: float = setting(
        0.5, "probability of branch B; in branch A only an image without instances gets pastes"
    )
    max_base_objects: int = setting(5, "instances of the image kept in branch B")
    short_side: float = setting(480.0, "px at 384: short side of the image before cropping")
    corner_shift: float = setting(
        0.1, "share of width and height: largest move of a corner from one frame to the next"
    )
    full_speed_steps: int = setting(
        2, "frame steps of the published clip; longer clips spread its motion over all frames"
    )
    paste_right: int = setting(40, "px at 384 per frame, uniform from 0")
    paste_down: int = setting(20, "px at 384 per frame, uniform from 0")
    paste_rotate: float = setting(30.0, "degrees per frame, either way, compounding")
    paste_shear: float = setting(20.0, "degrees per frame, either way, compounding")
    paste_scale: tuple[float, float] = setting(
        (0.8, 1.2), "factor per frame, x and y independent, compounding"
    )


@dataclass(frozen=True)
class SmoothRecipe(SynthRecipe):
    """Our default: camera and objects move smoothly in any direction, and edges are blended.

    Each speed is drawn per clip and changes a little over it. All frames are inside the image, so
    that there are no wedges and no mirrored borders.
    """

    family: Literal["smooth"] = setting("smooth", "motion model: classic or smooth")
    min_instance_area: float = setting(
        1000.0, "px at native size; smaller instances of the image stay background"
    )
    min_object_area: float = setting(
        500.0, "px at 384; fewer in frame 0 and the object is background"
    )
    max_object_share: float = setting(
        0.85, "share of frame 0; a clip whose every object covers more is drawn again"
    )
    max_objects: int = setting(20, "most objects of a clip, drawn at random")
    appearance: str = setting("light", "look and deformation: none, light, strong or FILE.toml")
    paste_probability: float = setting(
        0.7, "probability of pasting; an image without instances always gets pastes"
    )
    view: tuple[float, float] = setting(
        (0.6, 1.0),
        "side of a frame as a share of the image's short side; less if the motion requires it",
    )
    camera_shift: float = setting(0.1, "clip sides per frame, any direction: largest speed")
    camera_zoom: float = setting(0.06, "per frame, either way: largest relative change of size")
    camera_rotate: float = setting(5.0, "degrees per frame, either way: largest speed")
    camera_shear: float = setting(3.0, "degrees per frame, either way: largest speed")
    camera_tilt: float = setting(
        0.03, "per frame, either way: largest change of size by perspective at the frame's border"
    )
    paste_share: tuple[float, float] = setting(
        (0.01, 0.25), "share of the frame that a pasted object covers, log-uniform"
    )
    paste_enlarge: float = setting(2.0, "factor: no cut-out is enlarged more than this")
    paste_turn: float = setting(15.0, "degrees, either way: rotation in frame 0")
    paste_shift: float = setting(0.15, "clip sides per frame, any direction: largest speed")
    paste_zoom: float = setting(0.1, "per frame, either way: largest relative change of size")
    paste_stretch: float = setting(0.05, "per frame, either way: width against height")
    paste_rotate: float = setting(10.0, "degrees per frame, either way: largest speed")
    paste_shear: float = setting(6.0, "degrees per frame, either way: largest speed")
    acceleration: float = setting(
        0.6, "largest share of a speed by which it changes over the clip, either way"
    )
    full_speed_steps: int = setting(
        4, "frame steps; longer clips move more slowly, no farther than this many at full speed"
    )
    leave_probability: float = setting(
        0.15, "probability that a pasted object leaves the frame and returns within the clip"
    )
    behind_probability: float = setting(
        0.25, "probability that a pasted object passes behind the instances of the image"
    )

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        super().__post_init__()
        for name in ("paste_probability", "leave_probability", "behind_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected 0..1, found {getattr(self, name)}")
        for name in ("view", "paste_share"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 1:
                raise ValueError(f"{name}: expected 0 < low <= high <= 1, found {low, high}")
        if self.full_speed_steps < 1 or self.paste_enlarge <= 0:
            raise ValueError("full_speed_steps must be at least 1 and paste_enlarge above 0")


CLASSIC = ClassicRecipe()
DEFAULT = SmoothRecipe()
RECIPES: dict[str, SynthRecipe] = {"default": DEFAULT, "classic": CLASSIC}
FAMILIES = {known.family: known for known in RECIPES.values()}


def load_recipe(name_or_path: str | Path) -> SynthRecipe:
    """Return the recipe of a name (``default``, ``classic``) or of a TOML file.

    A file may name its ``family``, which is ``smooth`` otherwise; fields that it leaves out keep
    the value of that family's recipe.

    Raises:
        UsageError: There is no such recipe or file; a field is unknown, of the wrong type, or out
            of range.
    """
    return load_named(name_or_path, RECIPES, _family, "recipe")


def _family(values: Mapping[str, Any]) -> SynthRecipe:
    name = values.get("family", "smooth")
    if name not in list(FAMILIES):
        raise ValueError(f"family: expected one of {', '.join(FAMILIES)}, found {name!r}")
    return FAMILIES[name]
