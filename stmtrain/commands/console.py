"""The console of all commands, which shows foreign text as it is and lets it control nothing."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from stmtrain.commands.command import safe_text


class SafeConsole(Console):
    """A console for names and texts from files, archives and servers.

    Brackets are not markup, ``:name:`` is no emoji, and whatever is printed, in tables and progress
    bars too, goes through :func:`~stmtrain.commands.command.safe_text`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a text safe before it is measured."""
        return super().render_str(safe_text(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render as rich does; only rich's own control codes are kept."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(safe_text(segment.text), segment.style)
