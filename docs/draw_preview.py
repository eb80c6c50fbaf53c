"""Make ``docs/preview.gif``: clips of COCO with the recipe ``default``, and a video of DAVIS.

python docs/draw_preview.py IMAGES ANNOTATIONS DAVIS WORK_FOLDER

Only COCO images under CC BY 2.0 are used, also for what is pasted into others, and videos that
the authors of DAVIS own (CC BY 4.0). ``README.md`` names those that are shown.
"""

import json
import subprocess
import sys
from pathlib import Path

PICTURE = Path(__file__).parent / "preview.gif"
KEYS = ("coco_000000458756_v000", "coco_000000352257_v000", "bear")
LICENCE = 4  # CC BY 2.0, in all annotations of COCO


def keep_licence(annotations: Path, kept: Path) -> None:
    """Write the annotations of the images with the licence."""
    value = json.loads(annotations.read_text())
    value["images"] = [image for image in value["images"] if image["license"] == LICENCE]
    ids = {image["id"] for image in value["images"]}
    value["annotations"] = [a for a in value["annotations"] if a["image_id"] in ids]
    kept.write_text(json.dumps(value))


def stm(*words: object) -> None:
    """Run a command of the toolkit."""
    subprocess.run([sys.executable, "-m", "stmdata.commands.main", *map(str, words)], check=True)


def main(images: Path, annotations: Path, davis: Path, work: Path) -> None:
    """Prepare both sets, and save the animation."""
    work.mkdir(parents=True, exist_ok=True)
    keep_licence(annotations, work / "instances.json")
    coco, videos = work / "coco", work / "davis"
    stm("prepare-coco", "--images", images, "--annotations", work / "instances.json",
        "--frames", 16, "--variants", 4, "--out", coco)  # fmt: skip
    stm("pack-davis", "--root", davis, "--year", 2016, "--out", videos)
    keys = [word for key in KEYS for word in ("--key", key)]
    stm("preview", coco, videos, *keys, "--frames", 16, "--save", PICTURE)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
