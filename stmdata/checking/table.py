"""Tables about shard sets, for the terminal."""

from rich.table import Table

from stmtrain.shards.manifest import Manifest


def manifest_table(name: str, manifest: Manifest) -> Table:
    """Show what a set contains, how it was made, and what was skipped and why."""
    table = Table("what", "value", title=name, title_justify="left")
    table.add_row("shards", str(len(manifest.shards)))
    table.add_row("samples", str(sum(shard.samples for shard in manifest.shards)))
    table.add_row("size", _bytes(sum(shard.bytes for shard in manifest.shards)))
    for name, value in sorted(manifest.totals.items()):
        if name != "samples":
            table.add_row(name.replace("_", " "), _bytes(value) if "bytes" in name else str(value))
    table.add_section()
    for name, value in manifest.config.items():
        table.add_row(name.replace("_", " "), _short(value))
    if manifest.skipped:
        table.add_section()
        for reason, count in sorted(manifest.skipped.items()):
            table.add_row(f"skipped: {reason}", str(count))
    return table


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _short(value: object) -> str:
    """Show plain values completely and a recipe by its name."""
    if isinstance(value, dict):
        return str(value.get("name", f"{len(value)} fields"))
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
