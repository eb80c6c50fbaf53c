"""What ``mkdocs build`` adds to the pages of ``docs/``.

Pages outside ``docs/`` become pages of the site, links between files become links between
pages, and the page of commands gets the options of every command, read from the program itself.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from stmdata.commands.main import app

ROOT = Path(__file__).resolve().parent.parent
# Markdown outside docs/, by its path in the repository: its page.
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "benchmarks/README.md": "benchmark-programs.md",
}
REFERENCE = "<!-- the options of every command are inserted here -->"
_LINK = re.compile(r"\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")

_ROLE = re.compile(r":\w+:<code>~?(?:[\w.]+\.)?(\w+)</code>")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside ``docs/``."""
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Insert the reference of the commands, and point links to pages of the site.

    A link to a file that is no page, such as one of the code, becomes its text.
    """
    uri = page.file.src_uri
    sources = {there: source for source, there in OUTSIDE.items()}
    folder = posixpath.dirname(sources.get(uri, f"docs/{uri}"))

    def on_site(link: re.Match[str]) -> str:
        text, target, anchor = link.groups(default="")
        path = posixpath.normpath(posixpath.join(folder, target))
        there = OUTSIDE.get(path, path.removeprefix("docs/"))
        if files.get_file_from_path(there) is None:
            return text
        return f"[{text}]({posixpath.relpath(there, posixpath.dirname(uri) or '.')}{anchor})"

    if REFERENCE in markdown:
        markdown = markdown.replace(REFERENCE, "\n".join(command_reference()))
    return _LINK.sub(on_site, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Show the cross-references of docstrings as names: ``:class:`~a.b.C``` becomes C."""
    return _ROLE.sub(r"<code>\1</code>", html)


def command_reference() -> list[str]:
    """Return the lines of a page about every command: its usage, options and defaults."""
    return _describe(typer.main.get_command(app), "stm")


def _describe(command: Any, name: str) -> list[str]:
    context = command.context_class(command, info_name=name)
    if hasattr(command, "commands"):
        names = command.list_commands(context)
        return [line for n in names for line in _describe(command.commands[n], f"{name} {n}")]
    usage = command.get_usage(context).removeprefix("Usage: ")
    lines = ["", f"## {name}", "", _cell(command.help or ""), "", "```text", usage, "```", ""]
    panels: dict[str, list[str]] = {}
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None:
            panel = getattr(parameter, "rich_help_panel", None) or "Options"
            panels.setdefault(panel, []).append(f"| `{record[0]}` | {_cell(record[1])} |")
    for panel, rows in panels.items():
        lines += [f"| {panel} | |", "|---|---|", *rows, ""]
    return lines


def _cell(text: str) -> str:
    """Return text as Markdown that shows it unchanged."""
    return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", " ".join(text.split()))
