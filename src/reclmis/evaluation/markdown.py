"""Tables of words as Markdown."""

from .report_tables import Table


def markdown_table(table: Table, level: int = 2) -> str:
    """The table under its title; without one, the table alone.

    Args:
        table: of words, which may hold anything.
        level: of the heading.
    """
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    rows = ["| " + " | ".join(plain(cell) if cell != "---" else cell for cell in line) + " |" for line in lines]
    return "\n".join([*([f"{'#' * level} {plain(table.title)}", ""] if table.title else []), *rows])


def plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    escaped = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for sign in "\\|`*_[]":
        escaped = escaped.replace(sign, f"\\{sign}")
    return escaped


__all__ = ["markdown_table", "plain"]
