"""What imports what: the command line stays light, the offline side stays free of torch."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

HEAVY = {"torch", "torchvision", "cv2", "pycocotools", "imgaug", "webdataset", "numpy", "PIL"}


def _loaded(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running ``code``."""
    script = f"{code}\nimport sys\nprint('\\n'.join(m.partition('.')[0] for m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return set(done.stdout.split())


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import cli\nfrom typer.testing import CliRunner\n"
        "assert CliRunner().invoke(cli.app, ['--help']).exit_code == 0"
    )
    assert not _loaded(code) & HEAVY


def test_the_offline_side_loads_no_torch() -> None:
    files = [path.relative_to(ROOT) for path in (ROOT / "stmdata").rglob("[a-z]*.py")]
    modules = [".".join(path.with_suffix("").parts) for path in files]
    assert len(modules) > 10
    assert not _loaded("import " + ", ".join(modules)) & {"torch", "torchvision", "webdataset"}


def test_imgaug_is_loaded_by_one_module_only() -> None:
    importers = [
        path.name
        for folder in ("stmdata", "stmtrain")
        for path in (ROOT / folder).rglob("*.py")
        if "imgaug" in _imports(path)
    ]
    assert importers == ["appearance.py"]


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("stm*/**/*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_every_module_says_what_it_holds(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


_OPENERS = {"read_text", "read_bytes"}
_OF_MODULES = {
    *(("os", "open"), ("io", "open"), ("tarfile", "open"), ("av", "open"), ("json", "load")),
    *(("np", "load"), ("np", "fromfile"), ("np", "memmap")),
}
_MODE = re.compile("[rwax]b?[+]?b?")
_OPENS_ITSELF = {
    "stmtrain/files.py",
    "stmdata/drawn/demo.py",  # what the demo has just written
    "stmtrain/extras.py",  # the version in pyproject.toml
    "stmtrain/images/mp4.py",  # a file that is written
    "stmtrain/images/video_file.py",  # FFmpeg takes a path, which was opened before
    "stmtrain/processes.py",  # limits of the container
    "stmtrain/report/html.py",  # parts of pages, which are installed with the package
    "stmtrain/shards/cache.py",  # files of the cache, with locks
    "stmtrain/shards/remote_store.py",  # a descriptor
    "stmtrain/shards/store.py",  # a descriptor
    "stmtrain/training/boards.py",  # what this run has written
    "stmtrain/training/records.py",  # what this run has written
}


def _opens(call: ast.Call) -> bool:
    """Return whether a call may open a file: a pipe of the user's would make it wait for ever."""
    function = call.func
    if isinstance(function, ast.Name):
        return function.id == "open"
    if not isinstance(function, ast.Attribute):
        return False
    owner = function.value.id if isinstance(function.value, ast.Name) else ""
    first = call.args[0] if call.args else None
    mode = isinstance(first, ast.Constant) and isinstance(first.value, str)
    if owner == "Image" and function.attr == "open":
        return "BytesIO" not in ast.dump(first) if first is not None else True
    return (
        function.attr in _OPENERS
        or (owner, function.attr) in _OF_MODULES
        or (function.attr == "open" and mode and bool(_MODE.fullmatch(first.value)))  # type: ignore[union-attr,arg-type]
    )


def test_inputs_are_opened_by_one_module() -> None:
    """A pipe or device is refused in ``files.py``; what opens files itself is listed here."""
    found = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.glob("stm*/**/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and _opens(node)
    }
    assert found == _OPENS_ITSELF
