"""All commands talk like one program: rules that every option and every help text follows."""

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from typer.main import get_command

import cli
from stmtrain.commands import video_options
from stmtrain.commands.options import BACKBONES, PRECISIONS
from stmtrain.datasets.dataset import DATASETS
from stmtrain.inference.options import Inference
from stmtrain.model import BACKBONES as MODELS
from tests.paths import ROOT

OTHER_WORDS = {
    "--count": "--limit",
    "--max-images": "--limit",
    "--first": "--limit",
    "--output": "--out",
    "--out-dir": "--out",
    "--to": "--out",
    "--jobs": "--workers",
    "--processes": "--workers",
    "--num-workers": "--workers",
    "--jpeg-quality": "--quality",
    "--force": "--overwrite",
    "--batch": "--batch-size",
    "--lr": "--learning-rate",
    "--gpu": "--device",
}
"""Names that another option has already: a user learns one name for one thing."""


def _walk(group: Any, *before: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _walk(command, *before, name)
        else:
            yield " ".join([*before, name]), command


COMMANDS = dict(_walk(get_command(cli.app)))
EVERY = pytest.mark.parametrize("name", COMMANDS)


def _options(name: str) -> list[Any]:
    return [
        option
        for option in COMMANDS[name].params
        if option.param_type_name == "option" and option.name != "help"
    ]


@EVERY
def test_help_is_sentences(name: str) -> None:
    """Of the command, its arguments and its options; no group lists a command without help."""
    command = COMMANDS[name]
    assert command.help.partition("\n")[0].rstrip().endswith(".")
    for parameter in command.params:
        if parameter.name not in ("help", "context"):
            assert parameter.help, parameter.name
            assert parameter.help.endswith("."), parameter.help


@EVERY
def test_options_are_words_joined_by_hyphens(name: str) -> None:
    for option in _options(name):
        for text in (*option.opts, *option.secondary_opts):
            assert text.startswith("--"), "one letter is not a word"
            assert text.removeprefix("--").replace("-", "").isalnum()
            assert text == text.lower()
            assert text not in OTHER_WORDS, f"{text}: use {OTHER_WORDS.get(text)}"


def test_an_option_takes_the_same_in_all_commands() -> None:
    """Seen as a user sees it: in the help text, behind the option."""
    taken = defaultdict(set)
    for name in COMMANDS:
        for option in _options(name):
            for text in option.opts:
                taken[text].add((str(option.type_descriptor.annotation), option.is_flag))
    several = {text: kinds for text, kinds in taken.items() if len(kinds) > 1}
    # train mixes several sets and takes --shards repeatedly; elsewhere it is one set.
    # --frames is a number in a sample of statistics, and which frames in packing.
    assert set(several) <= {"--shards", "--frames"}, several


def test_what_makes_json_does_it_with_one_option() -> None:
    names = [name for name in COMMANDS if any(o.opts == ["--json"] for o in _options(name))]
    assert {"doctor", "eval", "score", "shards info", "shards verify", "stats", "weights info"} <= (
        set(names)
    )
    for name in names:
        (option,) = (o for o in _options(name) if o.opts == ["--json"])
        assert option.metavar == "[FILE]"


def test_names_that_are_repeated_for_the_shell_are_those_of_the_program() -> None:
    assert set(BACKBONES) == set(MODELS)
    for precision in PRECISIONS:
        assert Inference(precision=precision).precision == precision  # type: ignore[arg-type]


@cache
def _completed(*words: str) -> list[str]:
    """Ask the program as bash does after TAB."""
    environment = {
        **os.environ,
        "_STM_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["stm", *words]),
        "COMP_CWORD": str(len(words)),
        "PYTHONPATH": str(ROOT),
    }
    run = "import sys; sys.argv[0] = 'stm'; from stmdata.commands.main import app; app()"
    done = subprocess.run(
        [sys.executable, "-c", run], env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (("train", "--recipe", ""), {"pretrain", "main"}),
        (("train", "--recipe", "m"), {"main"}),
        (("train", "--backbone", "res"), set(BACKBONES)),
        (("train", "--set", "learning"), {"learning_rate="}),
        (("prepare-coco", "--recipe", ""), {"default", "classic"}),
        (("prepare-masks", "--appearance", ""), {"none", "light", "strong"}),
        (("pack-videos", "--layout", ""), {"auto", *DATASETS}),
        (("score", "--layout", "you"), {name for name in DATASETS if name.startswith("you")}),
        (("eval", "--precision", ""), {"float32", "bfloat16"}),
        (("eval", "--device", "c"), {"cpu", "cuda"}),
        (("train", "--on-bad-sample", ""), {"raise", "skip"}),
    ],
)
def test_the_shell_completes_values(words: tuple[str, ...], values: set[str]) -> None:
    assert set(_completed(*words)) == values


@pytest.mark.parametrize(
    "option", ["--recipe", "--appearance", "--layout", "--split", "--backbone", "--precision",
               "--device", "--workers", "--protocol", "--year", "--backbone-weights"],
)  # fmt: skip
def test_what_is_offered_in_one_command_is_offered_in_all(option: str) -> None:
    offering = {
        name: bool(found.shell_complete(None, ""))
        for name in COMMANDS
        for found in _options(name)
        if option in found.opts
    }
    assert offering
    assert all(offering.values()), offering


def test_the_options_of_the_videos_are_repeated_as_they_were_given() -> None:
    given = {"davis": "a b", "year": 2016, "videos": None, "results": "r", "split": "val"}
    words = video_options.named_videos(given)
    assert words == ["--davis", "a b", "--year", "2016", "--split", "val"]
    assert video_options.named_videos({"videos": "v", "year": 2017}) == ["--videos", "v"]
