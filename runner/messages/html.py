"""Tables in HTML, which notebooks show; every text is escaped."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

LONGEST = 60


def shown(value: Any) -> str:
    """Return a value in a cell: numbers with six digits, a long text cut."""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = "" if value is None else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def table_html(title: str, rows: Sequence[Mapping[str, Any]], note: str = "") -> str:
    """Return a title, a table with a row for each mapping and a column for each of their keys, and a note below."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = _row("th", map(shown, columns))
    body = "".join(_row("td", (shown(row.get(key)) for key in columns)) for row in rows)
    table = f"<table><thead>{head}</thead><tbody>{body}</tbody></table>" if rows else ""
    below = f"<p><small>{escape(note)}</small></p>" if note else ""
    return f"<div><p><strong>{escape(title)}</strong></p>{table}{below}</div>"


def pairs_html(title: str, values: Mapping[str, Any]) -> str:
    """Return a title, and a table with a row for each name and value."""
    body = "".join(
        f"<tr><th style='text-align:left'>{escape(shown(name))}</th><td>{escape(shown(value))}</td></tr>"
        for name, value in values.items()
    )
    return f"<div><p><strong>{escape(title)}</strong></p><table><tbody>{body}</tbody></table></div>"


def _row(cell: str, texts: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{cell}>{escape(text)}</{cell}>' for text in texts)}</tr>"
