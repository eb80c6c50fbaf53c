"""Change one thing in a core module, run the tests of its room, and name what no test notices.

    python -m tests.mutants [--per-module 4] [--seed 0] [--jobs 2] [MODULE ...]

Mutations: a comparison or a sign swapped, a number one larger or smaller, ``and`` for ``or``,
``min`` for ``max``, a range that starts one later, a ``not`` dropped. They are applied to a copy of
the tree. Survivors that change no result are declared in ``mutants_equivalent.toml``, with the
reason; any other ends the run with exit code 1. The sample is the same in every run, and a change
of one line leaves the sampled mutations of all other lines as they are.
"""

import argparse
import ast
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.paths import REAL, ROOT

CORE = (
    "stmdata/packing/tar.py", "stmdata/packing/writer.py", "stmdata/stills/coco.py",
    "stmdata/stills/rle.py", "stmdata/synthesis/classic.py", "stmdata/synthesis/clip.py",
    "stmdata/synthesis/layers.py", "stmdata/synthesis/render.py", "stmdata/synthesis/smooth.py",
    "stmtrain/images/encode.py", "stmtrain/images/masks.py", "stmtrain/images/png.py",
    "stmtrain/model/memory.py", "stmtrain/model/objects.py", "stmtrain/scoring/metrics.py",
    "stmtrain/scoring/scores.py", "stmtrain/shards/index.py", "stmtrain/shards/manifest.py",
    "stmtrain/shards/reader.py", "stmtrain/shards/sample.py", "stmtrain/streaming/clips.py",
    "stmtrain/streaming/make_batch.py", "stmtrain/streaming/plan.py",
    "stmtrain/streaming/warps.py", "stmtrain/training/losses.py", "stmtrain/training/recipe.py",
)  # fmt: skip
EQUIVALENT = ROOT / "tests" / "mutants_equivalent.toml"
COPIED = ("cli.py", "pyproject.toml", "stmdata", "stmtrain", "tests", "docs", "benchmarks")

SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.Div, ast.And: ast.Or, ast.Or: ast.And, ast.USub: ast.UAdd,
}  # fmt: skip
RENAMED = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum"}


@dataclass(frozen=True)
class Mutant:
    """One mutation of a module: where it is, what it does, and the text of the mutated module."""

    module: str
    line: int
    source: str
    change: str
    text: str = field(repr=False)

    @property
    def key(self) -> tuple[str, str, str]:
        """Module, source line and change: what stays when other lines are added or removed."""
        return self.module, self.source, self.change

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.change}"


def mutants(module: str) -> Iterator[Mutant]:
    """Yield every mutation of a module, in the order of its syntax tree."""
    text = (ROOT / module).read_text()
    lines, tree = text.splitlines(), ast.parse(text)
    for node, shown in _places(tree, None):
        for name, value in _changes(node):
            before, old = ast.unparse(shown), getattr(node, name)
            setattr(node, name, value)
            after, mutated = ast.unparse(shown), ast.unparse(tree)
            setattr(node, name, old)
            source = lines[node.lineno - 1].strip()
            yield Mutant(module, node.lineno, source, f"{before} -> {after}", mutated)


def _places(node: ast.AST, parent: ast.expr | None) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yield the expressions that decide results, each with the one to show it in."""
    if isinstance(node, ast.Raise | ast.JoinedStr):
        return  # messages
    shown = None
    if isinstance(node, ast.expr):
        alone = parent is None or not isinstance(node, ast.Constant | ast.UnaryOp | ast.Name)
        shown = node if alone else parent  # an atom would not tell where in the line it is
        yield node, shown or node
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and name not in ("annotation", "returns"):
                yield from _places(child, shown)


def _changes(node: ast.expr) -> Iterator[tuple[str, object]]:
    """Yield the fields of an expression that a mutation changes, with their new values."""
    match node:
        case ast.Compare(ops=ops):
            for i, op in enumerate(ops):
                yield "ops", [*ops[:i], SWAPPED[type(op)](), *ops[i + 1 :]]
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.UnaryOp(op=op) if type(op) in SWAPPED:
            yield "op", SWAPPED[type(op)]()
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "operand", ast.UnaryOp(ast.Not(), operand)
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            yield "value", value + 1
            yield "value", value - 1
        case ast.Name(id=name) if name in RENAMED:
            yield "id", RENAMED[name]
        case ast.Attribute(attr=name) if name in RENAMED:
            yield "attr", RENAMED[name]
        case ast.Call(func=ast.Name(id="range"), args=[_] as args):
            yield "args", [ast.Constant(1), *args]


def sample(everything: Sequence[Mutant], count: int, seed: int) -> list[Mutant]:
    """Return ``count`` mutations, the same ones whatever happens to the other lines."""

    def order(mutant: Mutant) -> bytes:
        return hashlib.sha256(repr((seed, *mutant.key)).encode()).digest()

    return sorted(everything, key=order)[:count]


def copy_tree(folder: Path) -> Path:
    """Copy what the tests need, and return the copy; real data is linked to."""
    tree = folder / "tree"
    tree.mkdir(parents=True)
    for name in (*COPIED, *(path.name for path in ROOT.glob("*.md"))):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, tree / name)
    if REAL.exists():
        (folder / REAL.parent.name).symlink_to(REAL.parent.resolve())
    return tree


def run_tests(tree: Path, *places: Path, limit: float | None) -> bool:
    """Run tests, in this order; return whether all pass within ``limit`` seconds."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [*command, *map(str, places)],
            cwd=tree,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def survivors(room: str, chosen: Sequence[Mutant]) -> list[Mutant]:
    """Return the mutants of a room's modules with which all its tests pass.

    Raises:
        RuntimeError: The tests fail without any mutation.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree, found = copy_tree(Path(folder)), []
        texts = {mutant.module: (tree / mutant.module).read_text() for mutant in chosen}
        for module, text in texts.items():
            (tree / module).write_text(ast.unparse(ast.parse(text)))  # as mutants are written
        began = time.monotonic()
        if chosen and not run_tests(tree, Path("tests") / room, limit=None):
            raise RuntimeError(f"tests/{room}: they fail without a mutation")
        limit = 30 + 3 * (time.monotonic() - began)
        for mutant in chosen:
            (tree / mutant.module).write_text(mutant.text)
            own = Path("tests") / room / f"test_{Path(mutant.module).stem}.py"
            places = [own] if (tree / own).exists() else []
            survived = run_tests(tree, *places, Path("tests") / room, limit=limit)
            (tree / mutant.module).write_text(texts[mutant.module])
            print(f"{'survived' if survived else 'noticed '}  {mutant}", flush=True)
            if survived:
                found.append(mutant)
    return found


def declared() -> set[tuple[str, str, str]]:
    """Return the keys of the mutants that are declared to change no result."""
    entries = tomllib.loads(EQUIVALENT.read_text()).get("equivalent", [])
    assert all(entry["reason"] for entry in entries)
    return {(entry["module"], entry["line"], entry["mutation"]) for entry in entries}


def main() -> None:
    parser = argparse.ArgumentParser(description="Name the mutations that no test notices.")
    parser.add_argument(
        "modules", nargs="*", default=CORE, help="paths from the root; else the core"
    )
    parser.add_argument("--per-module", type=int, default=4, help="mutations of each module")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--jobs", type=int, default=2, help="rooms tested at the same time")
    arguments = parser.parse_args()
    equivalent = declared()
    work: dict[str, list[Mutant]] = {}
    stale: list[tuple[str, str, str]] = []
    for module in arguments.modules:
        everything = list(mutants(module))
        stale += {key for key in equivalent if key[0] == module} - {m.key for m in everything}
        chosen = sample(everything, arguments.per_module, arguments.seed)
        room = work.setdefault(Path(module).parent.name, [])
        room += [mutant for mutant in chosen if mutant.key not in equivalent]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        try:
            found = [m for each in pool.map(survivors, work, work.values()) for m in each]
        except RuntimeError as error:
            sys.exit(str(error))
    total = sum(map(len, work.values()))
    print(f"{total} mutants, {len(found)} survivors that are not declared in {EQUIVALENT.name}")
    for mutant in found:
        print(f"\n{mutant}\n    {mutant.source}")
    for key in stale:
        print(f"\n{EQUIVALENT.name}: {key[0]} has no such line or mutation any more; remove {key}")
    sys.exit(1 if found or stale else 0)


if __name__ == "__main__":
    main()
