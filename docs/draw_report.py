"""Make ``docs/report.png``: the report on two results with known faults, from drawn videos.

python docs/draw_report.py WORK_FOLDER        # needs Chromium for the screenshot
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from stmdata.drawn.trees import draw_davis
from stmtrain.datasets.dataset import find_dataset
from stmtrain.datasets.video import Video
from stmtrain.datasets.video_set import VideoSet
from stmtrain.images.encode import encode_mask
from stmtrain.report.comparison import compare
from stmtrain.report.page import write_report

PICTURE = Path(__file__).parent / "report.png"


def drifting(masks: list[np.ndarray], number: int) -> list[np.ndarray]:
    """Lag behind: the masks are shifted down, further with every frame."""
    return [np.roll(mask, t * (number + 1) // 16, axis=0) for t, mask in enumerate(masks)]


def forgetful(masks: list[np.ndarray], number: int) -> list[np.ndarray]:
    """Be exact, but lose the last object for a while; in some videos, confuse it with another."""
    out = [mask.copy() for mask in masks]
    lost = int(masks[0].max())
    for t in range(len(out) // 2, len(out) // 2 + 4 * (4 - number)):
        out[t][masks[t] == lost] = 1 if number % 2 and lost > 1 else 0
    return out


def write_results(folder: Path, videos: list[Video], fault, memory_every: int) -> None:
    """Write a result folder as ``stm eval`` does."""
    for number, video in enumerate(videos):
        masks = fault([video.read_mask(name) for name in video.frames], number)
        (folder / video.name).mkdir(parents=True)
        for name, mask in zip(video.frames, masks, strict=True):
            (folder / video.name / f"{name}.png").write_bytes(encode_mask(mask))
    record = {"protocol": {"memory_every": memory_every, "short_side": None, "device": "drawn"}}
    (folder / "results.json").write_text(json.dumps(record))


def main(work: Path) -> None:
    """Draw the videos, write the report and take its screenshot."""
    shutil.rmtree(work, ignore_errors=True)
    root = draw_davis(
        work / "data", videos=4, val=4, frames=40, size=(240, 426), objects=(2, 3), seed=3
    )
    davis = find_dataset("davis2017")
    videos = davis.videos(root, "val")
    write_results(work / "forgetful", videos, forgetful, 5)
    write_results(work / "drifting", videos, drifting, 8)
    folders = {"forgetful": work / "forgetful", "drifting": work / "drifting"}
    page = work / "report.html"
    write_report(page, compare(folders, VideoSet("Drawn videos", tuple(videos), davis.protocol)))
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit(f"{page} is written; no chromium found to take the screenshot")
    options = [
        "--headless=new",
        "--no-sandbox",
        "--hide-scrollbars",
        "--force-device-scale-factor=0.8",
        "--window-size=1180,1780",
    ]
    subprocess.run([chromium, *options, f"--screenshot={PICTURE}", page.as_uri()], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
