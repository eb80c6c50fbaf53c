"""Other trainers with our shard sets: equal samples, losses of a short run, clips per CPU second.

The peer's folder is an argument; its code is used as it is, on the CPU. ``--tree`` is what ``stm
shards export`` wrote of the set in ``--shards``, so that both have the same frames and masks.

    python -m benchmarks.peers sam2 --peer SAM2 --shards SHARDS --tree TREE

It needs what the peer needs: sam2 hydra-core, iopath, pandas, tensordict and fvcore; cutie and xmem
hydra-core, hickle and einops. ImageNet weights are drawn instead of downloaded. Each short run is
in a process of its own.
"""

import argparse
import importlib
import json
import os
import random  # noqa: TID251 - the peers draw from it
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.common import ROOT, commit_of, report
from stmtrain.adapters.pytorch import ClipDataset

__all__ = ["alone", "clips_per_second", "compare_files"]

PEERS = ("sam2", "cutie", "xmem")


def clips_per_second(readers: dict[str, Callable[[int], Any]], clips: int) -> dict[str, float]:
    """Return how many clips each reader gives in a second of CPU time; they take turns."""
    seconds = dict.fromkeys(readers, 0.0)
    for read in readers.values():
        read(0)  # caches are warm
    for index in range(clips):
        for name, read in readers.items():
            start = time.process_time()
            read(index)
            seconds[name] += time.process_time() - start
    return {name: clips / spent for name, spent in seconds.items()}


def compare_files(data: ClipDataset, tree: Path, clips: int) -> int:
    """Return how many clips have exactly the frames, masks and ids of the files in a tree."""
    equal = 0
    for index in range(clips):
        item = data[index]
        frames, masks = [], []
        for name in item["frame_names"]:
            jpg = tree / "JPEGImages" / item["key"] / f"{name}.jpg"
            png = tree / "Annotations" / item["key"] / f"{name}.png"
            frames.append(np.asarray(Image.open(jpg).convert("RGB")))
            masks.append(np.asarray(Image.open(png)))
        slots = np.zeros(256, np.uint8)
        ids = item["object_ids"][: item["num_objects"]].tolist()
        slots[ids], slots[255] = range(1, len(ids) + 1), 255
        same = np.array_equal(item["frames"], frames)
        equal += same and np.array_equal(item["masks"], slots[np.array(masks)])
    return equal


def alone() -> None:
    """Make this process the only one of a process group, and the CPU what the peers take for CUDA.

    This is what their code needs in order to train without a GPU.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "RANK": "0",
                   "LOCAL_RANK": "0", "WORLD_SIZE": "1"}  # fmt: skip
    torch.cuda.reset_peak_memory_stats = lambda *_: None
    torch.Tensor.cuda = lambda tensor, *_, **__: tensor
    torch.nn.Module.cuda = lambda module, *_: module
    parallel = torch.nn.parallel.DistributedDataParallel
    torch.nn.parallel.DistributedDataParallel = lambda module, **options: parallel(
        module,
        find_unused_parameters=True,
        broadcast_buffers=options.get("broadcast_buffers", True),
    )


def losses_of(arguments: argparse.Namespace, source: str) -> list[float]:
    """Train in a process of its own, and return the loss of each step."""
    words = [sys.executable, "-m", "benchmarks.peers", *sys.argv[1:], "--train", source]
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
        if done.returncode:
            log.seek(0)
            raise SystemExit(f"{arguments.name}, {source}: {log.read()[-2000:]}")
    losses: list[float] = json.loads(done.stdout.splitlines()[-1])
    return losses


def main() -> None:
    """Compare one peer, or, with ``--train``, do one of its short runs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("--peer", type=Path, required=True, help="folder of its repository")
    parser.add_argument("--shards", type=Path, required=True, help="shard set of videos")
    parser.add_argument("--tree", type=Path, required=True, help="the same videos as files")
    parser.add_argument("--pseudo", type=Path, help="shard set for the still-image stage")
    parser.add_argument("--stills", type=Path, help="folder of X.jpg and X.png for that stage")
    parser.add_argument("--size", type=int, default=128, help="side of the crop, pixels")
    parser.add_argument("--steps", type=int, default=20, help="steps of a short run")
    parser.add_argument("--clips", type=int, default=24, help="clips to compare and to time")
    parser.add_argument("--train", choices=("folders", "shards"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sys.path.insert(0, str(arguments.peer.resolve()))
    module = importlib.import_module(f"benchmarks.peer_{arguments.name.replace('xmem', 'cutie')}")
    if arguments.train:
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002 - the peers draw from it
        torch.manual_seed(0)
        print(json.dumps(module.train(arguments, arguments.train)))
        return
    found = {"peer": commit_of(arguments.peer), "size": arguments.size, **module.compare(arguments)}
    found["losses"] = {name: losses_of(arguments, name) for name in ("folders", "shards")}
    print(json.dumps(found, indent=1))
    print(report(f"peers_{arguments.name}", found))


if __name__ == "__main__":
    main()
