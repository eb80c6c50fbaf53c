"""Make ``docs/preview.gif`` from drawn images and videos.

python docs/draw_preview.py WORK_FOLDER

The first two clips are pseudo-videos of the recipe ``default``, the third is a packed video.
"""

import subprocess
import sys
from pathlib import Path

from stmdata.drawn.trees import draw_coco, draw_davis

PICTURE = Path(__file__).parent / "preview.gif"
FRAMES = 16
KEYS = ("coco_000000000111_v000", "coco_000000000518_v001", "drawn-00")


def stm(*words: object) -> None:
    """Run a command of the toolkit."""
    subprocess.run([sys.executable, "-m", "stmdata.commands.main", *map(str, words)], check=True)


def main(work: Path) -> None:
    """Draw, prepare and pack, and save the animation."""
    coco = draw_coco(work / "data" / "coco", images=24, size=(300, 400), seed=3)
    davis = draw_davis(
        work / "data" / "davis", videos=3, frames=FRAMES, size=(240, 320), objects=(3, 3)
    )
    annotations = coco / "annotations" / "instances_train2017.json"
    clips, videos = work / "coco", work / "davis"
    stm("prepare-coco", "--images", coco / "train2017", "--annotations", annotations,
        "--frames", FRAMES, "--variants", 2, "--out", clips)  # fmt: skip
    stm("pack-davis", "--root", davis, "--out", videos)
    keys = [word for key in KEYS for word in ("--key", key)]
    stm("preview", clips, videos, *keys, "--frames", FRAMES, "--save", PICTURE)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
