"""The install without extras: every command works, or ends in one line that names the extra."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from click import Group
from typer.main import get_command

import cli
from stmtrain.extras import EXTRAS
from stmtrain.model import STM
from tests.paths import ROOT

HIDDEN = [module for modules in EXTRAS.values() for module in modules]
RUN = f"""
import json, sys
for name in {HIDDEN}:
    sys.modules[name] = None  # as if it were not installed
from typer.testing import CliRunner
from stmdata.commands.main import app
for words in json.load(sys.stdin):
    result = CliRunner().invoke(app, words)
    trouble = "" if isinstance(result.exception, SystemExit) else repr(result.exception or "")
    print(json.dumps([result.exit_code, result.output + trouble]))
"""
TRAIN = (
    *("train", "--recipe", "main", "--backbone", "resnet18", "--backbone-weights", "none"),
    *("--device", "cpu", "--threads", "1", "--size", "32", "--batch-size", "1", "--steps", "1"),
)
WORK = ["--workers", "1"]


class Case(NamedTuple):
    """A command with its options, and the extra that it needs."""

    words: list[str]
    extra: str | None = None


@pytest.fixture(scope="module")
def cases(
    tmp_path_factory: pytest.TempPathFactory,
    coco_tree: Path,
    davis_tree: Path,
    youtube_vos_tree: Path,
) -> list[Case]:
    tmp = tmp_path_factory.mktemp("lean")
    torch.save(STM("resnet18").state_dict(), tmp / "stm.pth")
    (tmp / "film.mp4").write_bytes(b"film")
    davis, images = str(davis_tree), str(coco_tree / "train2017")
    annotations = str(coco_tree / "annotations" / "instances_train2017.json")
    results, shards, weights = str(tmp / "results"), str(tmp / "davis"), str(tmp / "stm.pth")
    frames = davis_tree / "JPEGImages" / "480p" / "drawn-00"
    first = str(davis_tree / "Annotations" / "480p" / "drawn-00" / "00000.png")
    clips = ["prepare-coco", "--images", images, "--annotations", annotations, *WORK]
    pack = ["pack-davis", "--root", davis, *WORK]
    return [
        Case(["prepare-coco", "--show-recipe"], "prep"),
        Case([*clips, "--out", str(tmp / "a")], "prep"),
        Case([*clips, "--out", str(tmp / "b"), "--appearance", "none"], "prep"),
        Case(["prepare-masks", "--images", images, "--masks", images], "prep"),
        Case(["demo", "--out", str(tmp / "demo")], "prep"),
        Case([*pack, "--out", str(tmp / "c"), "--resize", "32"], "prep"),
        Case([*pack, "--out", shards]),
        Case(["pack-videos", "--layout", "davis2017", "--root", davis,
              "--out", str(tmp / "v"), *WORK]),
        Case(["pack-youtube-vos", "--root", str(youtube_vos_tree), "--out", f"{tmp / 'y'}", *WORK]),
        Case(["shards", "info", shards]),
        Case(["shards", "verify", shards, *WORK]),
        Case(["shards", "repair", shards, *WORK]),
        Case(["shards", "index", str(tmp / "foreign"), *WORK]),
        Case(["doctor", "--tree", davis, "--disk", str(tmp)]),
        Case(["preview", shards, "--save", str(tmp / "p.png")]),
        Case(["preview", shards, "--save", str(tmp / "p.mp4")], "video"),
        Case(["preview", shards, "--save", str(tmp / "p.rrd")], "rerun"),
        Case(["preview", "--images", images, "--annotations", annotations], "prep"),
        Case(["preview", shards, "--as-trained", "0", "--batch-size", "1", "--size", "32"]),
        Case(["audit", davis, shards, "--layout", "davis2017", "--fail-on", "never", *WORK]),
        Case(["stats", shards, "--plot", str(tmp / "s.html"), *WORK]),
        Case(["stats", shards, "--plot", str(tmp / "s.png"), *WORK], "log"),
        Case([*TRAIN, "--shards", shards, "--out", str(tmp / "run")]),
        Case([*TRAIN, "--shards", "https://127.0.0.1:9/a", "--out", str(tmp / "run2")], "remote"),
        Case([*TRAIN, "--shards", "gs://bucket/a", "--out", str(tmp / "run3")], "gcs"),
        Case(["eval", "--checkpoint", weights, "--davis", davis, "--out", results, *WORK]),
        Case(["score", "--results", results, "--davis", davis, *WORK]),
        Case(["report", f"a={results}", "--davis", davis, "--out", str(tmp / "r.html")]),
        Case(["track", str(frames), "--mask", first, "--checkpoint", weights,
              "--out", str(tmp / "t"), "--overlay"]),
        Case(["track", str(tmp / "film.mp4"), "--mask", first, "--checkpoint", weights,
              "--out", str(tmp / "u")], "video"),
        Case(["weights", "info", weights]),
        Case(["weights", "convert", weights, str(tmp / "w.safetensors")]),
    ]  # fmt: skip


def _commands(group: Group, *before: str) -> set[str]:
    names: set[str] = set()
    for name, command in group.commands.items():
        inner = isinstance(command, Group)
        names |= _commands(command, *before, name) if inner else {" ".join([*before, name])}
    return names


def test_every_command_works_or_names_its_extra(cases: list[Case]) -> None:
    everything = _commands(get_command(cli.app))  # type: ignore[arg-type]
    tried = {" ".join(case.words[:n]) for case in cases for n in (1, 2)}
    assert everything <= tried, "a new command is tried here too"
    done = subprocess.run(
        [sys.executable, "-c", RUN], input=json.dumps([case.words for case in cases]),
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    for case, (code, output) in zip(cases, answers, strict=True):
        if case.words[:2] == ["shards", "index"]:  # an empty folder, but no module is missing
            assert "expected a folder of tars" in output
        elif case.extra is None:
            assert code == 0, (case.words, output)
        else:
            assert code == 2, (case.words, output)
            line = next(line for line in output.splitlines() if line.startswith("stm: "))
            assert f"pip install 'stm-vos[{case.extra}]'" in line, (case.words, output)


def test_every_extra_is_one_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "stm-vos"
    extras = project["optional-dependencies"]
    assert EXTRAS.keys() <= extras.keys()
    packages = {"av", "fsspec", "gcsfs", "msgspec", "pycocotools", "s3fs", "tensorboard"}
    for extra, modules in EXTRAS.items():
        for module in packages & set(modules):
            assert any(re.match(rf"{module}\b", text) for text in extras[extra]), module
