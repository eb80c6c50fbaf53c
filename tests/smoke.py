"""Run every command once in an environment that has a release installed, outside the checkout.

cd EMPTY_FOLDER && ENVIRONMENT/bin/python CHECKOUT/tests/smoke.py [EXTRA …]

A command whose extra is installed must work; any other works too or names the extra, in one line.
Given extras, only their commands are run, and those that make what these need.
"""

import http.server
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

sys.path.pop(0)  # the folder of this file: nothing is imported from the checkout

import stmtrain
from stmdata.drawn.trees import draw_coco, draw_davis
from stmtrain.extras import EXTRAS, has_extra

STM = Path(sys.executable).with_name("stm")
SMALL = "--backbone resnet18 --backbone-weights none --size 64 --steps 2 --batch-size 2"
COCO = "--images coco/train2017 --annotations coco/annotations/instances_train2017.json"
STEPS = (  # the extra that a command needs, its words, and what it makes
    ("", "pack-davis --root DAVIS --split train --out videos", "videos/manifest.json"),
    ("", f"train --shards videos --recipe main --out run {SMALL}", "run/checkpoint.pt"),
    ("", "shards verify videos", ""),
    ("", "preview videos --save videos.gif", "videos.gif"),
    ("", "stats videos", ""),
    ("", "eval --checkpoint run/checkpoint.pt --davis DAVIS --out masks", "masks/results.json"),
    ("", "score --results masks --davis DAVIS", ""),
    ("", "report masks --davis DAVIS --out report.html", "report.html"),
    ("", "track FRAMES --mask FIRST --checkpoint run/checkpoint.pt --out a", "a/summary.json"),
    ("", "weights info run/checkpoint.pt", ""),
    ("", "doctor --tree DAVIS", ""),
    ("prep", f"prepare-coco {COCO} --size 64 --out stills", "stills/manifest.json"),
    ("prep", "pack-davis --root DAVIS --resize 64 --out resized", "resized/manifest.json"),
    ("video", "track FILM --mask FIRST --checkpoint run/checkpoint.pt --out b", "b/overlay.mp4"),
    ("video", "preview videos --save videos.mp4", "videos.mp4"),
    ("log", "stats videos --plot stats.png", "stats.png"),
    ("rerun", "preview videos --save videos.rrd", "videos.rrd"),
    ("wandb", f"train --shards videos --out told --wandb stm {SMALL}", "told/wandb"),
    ("remote", "shards verify URL/videos --cache cache", ""),
    ("remote", f"train --shards URL/videos --cache cache --out far {SMALL}", "far/checkpoint.pt"),
)


def main() -> None:
    """Draw data, run the commands and print one line for each; exit with 1 if one failed."""
    here = Path.cwd()
    if any(here.iterdir()) or Path(stmtrain.__file__).is_relative_to(Path(__file__).parents[1]):
        sys.exit("expected an empty folder, and an environment with an installed release")
    if has_extra("prep"):
        draw_coco(here / "coco", images=6)
    davis = draw_davis(here / "DAVIS")
    (val,) = (davis / "ImageSets" / "2017" / "val.txt").read_text().split()
    frames, masks = (davis / kind / "480p" / val for kind in ("JPEGImages", "Annotations"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    names = {
        "FRAMES": str(frames),
        "FIRST": str(masks / "00000.png"),
        "FILM": str(film(sorted(frames.glob("*.jpg")), here / "film.mp4")),
        "URL": f"http://127.0.0.1:{server.server_port}",
    }
    wanted = sys.argv[1:]
    chosen = [step for i, step in enumerate(STEPS) if i < 2 or not wanted or step[0] in wanted]
    failed = [words for extra, words, made in chosen if not works(extra, words, made, names)]
    if (find_spec("matplotlib") is not None) != (here / "run" / "curves.png").exists():
        failed.append("curves.png is drawn if, and only if, matplotlib is installed")
    print(sys.version.split()[0], *(extra for extra in EXTRAS if has_extra(extra)), sep=" + ")
    sys.exit("\n".join(["FAILED:", *failed]) if failed else 0)


def works(extra: str, words: str, made: str, names: dict[str, str]) -> bool:
    """Run a command; return whether it did what it can do with the extras that are installed."""
    for name, value in names.items():
        words = words.replace(name, value)
    done = subprocess.run([STM, *words.split()], capture_output=True, text=True, check=False)
    fine = done.returncode == 0 and Path(made).exists()
    if extra and not has_extra(extra):
        message = done.stderr.strip().splitlines()
        fine |= done.returncode == 2 and len(message) == 1 and f"'stm-vos[{extra}]'" in message[0]
    print("ok  " if fine else "FAIL", "stm", words)
    if not fine:
        print(done.stdout, done.stderr, f"exit code {done.returncode}", sep="\n")
    return fine


def film(frames: list[Path], path: Path) -> Path:
    """Encode a video file; without PyAV, one that needs no decoding to be refused."""
    if not has_extra("video"):
        path.write_bytes(b"no video")
        return path
    import av
    from PIL import Image

    with av.open(path, "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height = Image.open(frames[0]).size
        for image in frames:
            out.mux(stream.encode(av.VideoFrame.from_image(Image.open(image))))
        out.mux(stream.encode(None))
    return path


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing about requests."""


if __name__ == "__main__":
    main()
