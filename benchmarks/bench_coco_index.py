"""The COCO index at the full size of COCO 2017 (118 287 images, 860 001 annotations).

Repeats the annotations of a small file, with new ids and linked images, up to that size. Then fresh
processes measure the first start (parse, index), the second start, the memory of two simultaneous
workers that read every annotation, how the time grows with the size, and one mask. JSON goes to
standard output.

    python -m benchmarks.bench_coco_index --coco DIR --work DIR

``--coco`` holds ``annotations/instances_{train,val}2017.json`` and the two image folders.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

IMAGES, ANNOTATIONS = 118_287, 860_001
SPLITS = ("train2017", "val2017")


def make_coco(coco: Path, work: Path, images: int, annotations: int) -> Path:
    """Write an annotation file of the given size and a folder of linked images, unless present."""
    path = work / f"instances_{images}.json"
    folder = work / f"images_{images}"
    if path.exists() and folder.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    documents = {
        s: json.loads((coco / f"annotations/instances_{s}.json").read_text()) for s in SPLITS
    }
    base = [(coco / s / i["file_name"], i) for s in SPLITS for i in documents[s]["images"]]
    with path.open("w") as file:
        file.write('{"info": {}, "licenses": [], "images": [')
        for k in range(images):
            source, record = base[k % len(base)]
            link = folder / f"{k + 1:012d}.jpg"
            link.unlink(missing_ok=True)
            link.symlink_to(source.resolve())
            record = record | {"id": k + 1, "file_name": link.name}
            file.write((", " if k else "") + json.dumps(record))
        file.write('], "annotations": [')
        for k, text in enumerate(_repeated(documents, base, images, annotations)):
            file.write((", " if k else "") + text)
        file.write('], "categories": []}')
    return path


def _repeated(
    documents: dict[str, Any], base: list[tuple[Path, Any]], images: int, annotations: int
) -> Iterator[str]:
    """Yield annotations as JSON; each pass over the real ones refers to the next copy of images."""
    where = {record["id"]: i for i, (_, record) in enumerate(base)}
    real = [a for s in SPLITS for a in documents[s]["annotations"]]
    shapes = [json.dumps(a["segmentation"], separators=(",", ":")) for a in real]  # as COCO has it
    copies = max(1, images // len(base))
    for k in range(annotations):
        a, copy = real[k % len(real)], k // len(real) % copies
        image_id = copy * len(base) + where[a["image_id"]] + 1
        rest = {key: v for key, v in a.items() if key != "segmentation"}
        rest |= {"id": k + 1, "image_id": image_id}
        yield '{"segmentation": ' + shapes[k % len(real)] + ", " + json.dumps(rest)[1:]


def memory() -> dict[str, float]:
    """Return this process's memory in MB: peak, now, and what of now is its own."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith("kB")}
    names = {"VmHWM": "peak_mb", "VmRSS": "rss_mb", "RssAnon": "own_mb"}
    return {new: round(int(kilobytes[old]) / 1024) for old, new in names.items()}


def start(path: Path, touch: bool) -> dict[str, Any]:
    """Import, open and, with ``touch``, read every annotation; runs in a child process."""
    began = time.perf_counter()
    from stmdata.stills.coco import CocoIndex

    index = CocoIndex.open(path)
    rows = len(index.pasteable(3000))
    result = {"seconds": round(time.perf_counter() - began, 3), "pasteable": rows}
    if touch:
        began = time.perf_counter()
        points = 0
        for i in range(index.images):
            for instance in index.instances(i):
                if isinstance(instance.segmentation, tuple):
                    points += sum(float(part.sum()) > 0 for part in instance.segmentation)
        result["touch_all_seconds"] = round(time.perf_counter() - began, 2)
    return result | memory()


def child(path: Path, *flags: str) -> "subprocess.Popen[str]":
    """Run ``start`` in a fresh interpreter."""
    command = [sys.executable, "-m", "benchmarks.bench_coco_index", "--child", str(path), *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result_of(process: "subprocess.Popen[str]") -> Any:
    """Wait for a child and read what it measured."""
    out, _ = process.communicate()
    if process.returncode:
        sys.exit(f"child failed with {process.returncode}")
    return json.loads(out)


def mask_times(path: Path, count: int = 1500) -> dict[str, float]:
    """Return the median microseconds per mask, ours and pycocotools', for the same instances."""
    import warnings

    import numpy as np
    import pycocotools.mask as coco_mask

    from stmdata.stills.coco import CocoIndex, rasterise_box

    warnings.simplefilter("ignore", DeprecationWarning)

    def decoded(instance: Any, height: int, width: int) -> Any:
        if not isinstance(instance.segmentation, tuple):
            rle = {"size": [height, width], "counts": instance.segmentation.counts}
            return np.ascontiguousarray(coco_mask.decode(rle))
        parts = [part.ravel().tolist() for part in instance.segmentation]
        rle = coco_mask.merge(coco_mask.frPyObjects(parts, height, width))
        return np.ascontiguousarray(coco_mask.decode(rle))

    index = CocoIndex.open(path)
    cases: list[tuple[Any, int, int]] = []
    for i in range(index.images):
        record = index.image(i)
        cases += [(o, record.height, record.width) for o in index.instances(i)]
        if len(cases) >= count:
            break
    times: dict[str, list[float]] = {}
    for _ in range(5):
        for function in (decoded, rasterise_box):
            began = time.perf_counter()
            for case in cases:
                function(*case)
            times.setdefault(function.__name__, []).append(time.perf_counter() - began)
    return {n: round(statistics.median(t) / len(cases) * 1e6, 1) for n, t in times.items()}


def measure(coco: Path, work: Path) -> dict[str, Any]:
    """Run everything and return the figures."""
    from stmdata.stills.index_file import index_path

    path = make_coco(coco, work, IMAGES, ANNOTATIONS)
    index = index_path(path)
    growth = {}
    for part in (8, 4, 2, 1):
        file = make_coco(coco, work, IMAGES // part, ANNOTATIONS // part)
        index_path(file).unlink(missing_ok=True)
        growth[ANNOTATIONS // part] = result_of(child(file))
    second = [result_of(child(path)) for _ in range(5)]
    workers = [child(path, "--touch") for _ in range(2)]
    return {
        "machine": {"cpu": platform.processor() or platform.machine(), "python": sys.version[:6]},
        "images": IMAGES,
        "annotations": ANNOTATIONS,
        "json_mb": round(path.stat().st_size / 1e6),
        "index_mb": round(index.stat().st_size / 1e6),
        "first_start_by_annotations": growth,
        "second_start_median_seconds": statistics.median(s["seconds"] for s in second),
        "second_start_seconds": [s["seconds"] for s in second],
        "two_workers_touching_all": [result_of(worker) for worker in workers],
        "mask_microseconds": mask_times(path),
    }


def main() -> None:
    """Parse the arguments; ``--child`` is used when the module starts itself."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--coco", type=Path, help="folder with annotations, train2017, val2017")
    parser.add_argument("--work", type=Path, help="folder for the large file, about 1.7 GB")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--touch", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(start(arguments.child, arguments.touch)))
    elif arguments.coco and arguments.work:
        print(json.dumps(measure(arguments.coco, arguments.work), indent=1))
    else:
        parser.error("--coco and --work are needed")


if __name__ == "__main__":
    main()
