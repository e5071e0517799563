"""The table of everything that is measured, read from ``bounds.toml``, which says what is in it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOUNDS = Path(__file__).with_name("bounds.toml")


@dataclass(frozen=True, slots=True)
class Cell:
    """One number: what it is called, and what it may be."""

    name: str
    higher_is_better: bool = False
    grain: float = 0.0
    bound: float | None = None
    moonshot: float | None = None
    context: bool = False
    """Whether it is no number of ours, and only printed."""

    def keeps(self, value: float, limit: float | None) -> bool:
        """Say whether a value is on the right side of a limit, as far as there is one."""
        if limit is None:
            return True
        return value >= limit if self.higher_is_better else value <= limit

    def limit(self) -> str:
        """Return the bound as it is printed."""
        if self.bound is None:
            return ""
        return f"{'>=' if self.higher_is_better else '<='} {self.bound:,g}"

    def regression(self, old: float, new: float, share: float) -> bool:
        """Say whether *new* is worse than *old* by more than that share, and by more than the grain."""
        worse = old - new if self.higher_is_better else new - old
        return worse > self.grain and worse > share * abs(old)


@dataclass(frozen=True, slots=True)
class Section:
    """One table of the print-out."""

    name: str
    title: str
    unit: str
    columns: dict[str, str]
    rows: dict[str, dict[str, Cell]]

    @property
    def cells(self) -> list[Cell]:
        return [cell for row in self.rows.values() for cell in row.values()]


def read_sections(path: Path = BOUNDS) -> list[Section]:
    """Return the sections in the order of the file."""
    return [_section(name, table) for name, table in tomllib.loads(path.read_text("utf-8")).items()]


def cells_in(sections: list[Section]) -> dict[str, Cell]:
    """Return all cells by name."""
    return {cell.name: cell for section in sections for cell in section.cells}


def _section(name: str, table: dict[str, Any]) -> Section:
    columns: dict[str, str] = table["columns"]
    context = table.get("context", [])
    unknown = {*context, *(column for row in table["rows"].values() for column in row)} - {*columns}
    if unknown:
        msg = f"[{name}] has no column {', '.join(sorted(unknown))}"
        raise ValueError(msg)

    def cell(row: str, column: str, limits: list[float]) -> Cell:
        bound, moonshot = [*limits, None, None][:2]
        return Cell(
            f"{name}.{row}.{column}",
            higher_is_better=table.get("better", "lower") == "higher",
            grain=table.get("grain", 0.0),
            bound=bound,
            moonshot=moonshot,
            context=column in context,
        )

    rows = {
        row: {
            column: cell(row, column, limits.get(column, []))
            for column in columns
            if column in limits or column in context
        }
        for row, limits in table["rows"].items()
    }
    return Section(name, table["title"], table["unit"], columns, rows)
