"""What imports what: the command line stays light, the offline side stays free of torch."""

import ast
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
