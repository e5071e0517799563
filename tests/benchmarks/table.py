"""Prints a report as Markdown tables: the number, its quartiles, its bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cells import Cell, Section
    from measure import Estimate
    from report import Report


def render(sections: Iterable[Section], report: Report) -> str:
    """Return the tables of all sections of which something is in the report, and what was left out."""
    found = report.estimates()
    parts: list[str] = []
    for section in sections:
        if section.name in report.skipped:
            parts.append(f"**{section.title}**: left out, {report.skipped[section.name]}")
        elif any(cell.name in found for cell in section.cells):
            parts.append(_section(section, found))
    return "\n\n".join(parts)


def render_rows(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, of which the first is the head, as one Markdown table."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    head, *body = (
        " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows
    )
    rule = "|".join("-" * (width + 2) for width in widths)
    return "\n".join([f"| {head} |", f"|{rule}|", *(f"| {line} |" for line in body)])


def summary(sections: Iterable[Section], report: Report) -> str:
    """Count the bounds that are kept, and name the others."""
    found = report.estimates()
    bounded = [cell for section in sections for cell in section.cells if cell.bound is not None]
    measured = [cell for cell in bounded if cell.name in found]
    missed = [cell for cell in measured if not cell.keeps(found[cell.name].value, cell.bound)]
    reached = sum(
        cell.keeps(found[cell.name].value, cell.moonshot) for cell in measured if cell.moonshot is not None
    )
    moonshots = sum(cell.moonshot is not None for cell in measured)
    kept = f"{len(measured) - len(missed)} of {len(measured)} bounds are kept"
    lines = [f"{kept}, {reached} of {moonshots} moonshots (*) reached."]
    lines += [
        f"- missed: {cell.name} is {number(found[cell.name].value)}, the bound {cell.limit()}"
        for cell in missed
    ]
    return "\n".join(lines)


def number(value: float) -> str:
    """Return a number with three significant digits, or as many as it has before the point."""
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.1 else f"{value:.3f}"


def _section(section: Section, found: dict[str, Estimate]) -> str:
    columns = [name for name in section.columns if any(name in row for row in section.rows.values())]
    rows = [["", *(section.columns[name] for name in columns)]]
    rows += [
        [name, *(_cell(row[column], found) if column in row else "" for column in columns)]
        for name, row in section.rows.items()
    ]
    return f"**{section.title}** ({section.unit})\n\n{render_rows(rows)}"


def _cell(cell: Cell, found: dict[str, Estimate]) -> str:
    one = found.get(cell.name)
    if one is None:
        return "" if cell.context else f"not measured {cell.limit()}".rstrip()
    star = "*" if cell.moonshot is not None and cell.keeps(one.value, cell.moonshot) else ""
    spread = f" ({number(one.low)} to {number(one.high)})" if one.low != one.high else ""
    text = f"{number(one.value)}{star}{spread}"
    if not cell.keeps(one.value, cell.bound):
        return f"**{text}**, missed {cell.limit()}"
    return f"{text} {cell.limit()}".rstrip()
