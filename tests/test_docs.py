"""Every code block of the documentation runs on drawn data, or states what it needs."""

import shlex
import shutil
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import cli
from stmtrain import processes
from stmtrain.training.recipe import load_recipe
from tests.desk import draw_desk
from tests.pages import Block, blocks, page_name

ELSEWHERE = {
    "docs/python.md": "test_public.py, which also checks what the examples return",
    "docs/shard-format.md": "shards/test_format.py, beside the set that the page describes",
}
RUN = [
    block
    for block in blocks("sh", "python", "toml")
    if not block.needs and page_name(block.page) not in ELSEWHERE
]
PAGES = sorted({page_name(block.page) for block in RUN})


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_desk(tmp_path_factory.mktemp("docs"))


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run_one_after_the_other(
    page: str, desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_usable_cpus", lambda: 1)  # no process starts in a test
    shutil.copytree(desk, tmp_path / "desk")
    monkeypatch.chdir(tmp_path / "desk")
    for block in RUN:
        if page_name(block.page) == page:
            {"sh": run_commands, "python": run_python, "toml": check_toml}[block.language](block)


def run_commands(block: Block) -> None:
    for command in block.commands:
        words = shlex.split(command, comments=True)
        assert words[0] == "stm", f"{block.name}: state what it needs above the block: {command}"
        result = CliRunner().invoke(cli.app, words[1:])
        assert result.exit_code == 0, f"{block.name}: {command}\n{result.output}"


def run_python(block: Block) -> None:
    exec(compile(block.code, block.name, "exec"), {})


def check_toml(block: Block) -> None:
    """A recipe of training, kept under the name that its first line states."""
    name = block.code.splitlines()[0].removeprefix("# ")
    Path(name).write_text(block.code)
    if tomllib.loads(block.code).get("name") in ("pretrain", "main"):
        load_recipe(name)


@pytest.mark.parametrize("page", ELSEWHERE)
def test_pages_that_are_run_elsewhere_need_nothing(page: str) -> None:
    found = [block for block in blocks("python") if page_name(block.page) == page]
    assert found
    assert [block.name for block in found if block.needs] == []
