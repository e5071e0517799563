"""What a report says survives being written; tables and ``make bench-check`` name what is worse and what is missed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cells import Cell, Section, cells_in, read_sections
from check import complaints
from program import read_raw, write_raw
from report import Reading, Report, Skip
from table import number, render, summary

HERE = Path(__file__).parent


def section(name: str = "part", **cells: Cell) -> Section:
    return Section(name, "A part", "x", {column: column for column in cells}, {"row": cells})


def report(**values: float) -> Report:
    found = Report()
    found.add(Reading(f"part.row.{column}", [value]) for column, value in values.items())
    return found


SPEED = Cell("part.row.speed", higher_is_better=True, bound=100)
COST = Cell("part.row.cost", bound=2.0, moonshot=1.0)
FREE = Cell("part.row.free", grain=0.05)
OTHERS = Cell("part.row.others", context=True)
PART = section(speed=SPEED, cost=COST, free=FREE, others=OTHERS)
FINE = report(speed=200, cost=1.0, free=0.1, others=1.0)


def test_bounds_are_read_from_the_one_table():
    cells = cells_in(read_sections())
    assert len(cells) == sum(len(one.cells) for one in read_sections())
    chain = cells["inline.chain-100.default"]
    assert (chain.bound, chain.moonshot, chain.limit()) == (1.0, 0.6, "<= 1")
    assert cells["suspending.fan-1000.lean"].bound == 1.7
    assert cells["inline.chain-100.taskgroup"].context
    assert cells["events.try-emit.ours"].limit() == ">= 200,000"
    assert cells["interceptor.chain-1000-inline.sink"].bound is None


def test_a_column_that_is_not_declared_is_an_error(tmp_path: Path):
    path = tmp_path / "bounds.toml"
    path.write_text('[a]\ntitle = ""\nunit = ""\ncolumns = { x = "" }\nrows.r = { y = [1] }\n', "utf-8")
    with pytest.raises(ValueError, match=r"\[a\] has no column y"):
        read_sections(path)


def test_nothing_is_wrong_with_a_report_that_keeps_its_bounds():
    assert list(complaints([PART], FINE)) == []
    assert list(complaints([PART], FINE, FINE)) == []


def test_missed_bounds_are_named():
    found = list(complaints([PART], report(speed=99, cost=2.5, free=0.1)))
    assert found == [
        "part.row.speed misses its bound: 99, must be >= 100",
        "part.row.cost misses its bound: 2.50, must be <= 2",
    ]


def test_what_is_worse_by_more_than_15_percent_is_named():
    just = report(speed=171, cost=1.15, free=0.149, others=9.0)
    assert list(complaints([PART], just, FINE)) == []
    worse = report(speed=169, cost=1.2, free=0.16)
    assert list(complaints([PART], worse, FINE)) == [
        "part.row.speed has become worse: 200 -> 169 (-16%)",
        "part.row.cost has become worse: 1 -> 1.20 (+20%)",
        "part.row.free has become worse: 0.10 -> 0.16 (+60%)",
    ]
    assert list(complaints([PART], FINE, worse)) == []  # better is not worse


def test_what_was_not_measured_is_named_unless_it_was_left_out_for_a_reason():
    nothing = Report()
    assert list(complaints([PART], nothing)) == [
        "part.row.speed was not measured",
        "part.row.cost was not measured",
    ]
    assert "part.row.free was not measured" in list(complaints([PART], nothing, FINE))
    nothing.add([Skip("part", "there is no valgrind here")])
    assert list(complaints([PART], nothing, FINE)) == []


def test_written_reports_are_read_again_with_every_sample(tmp_path: Path):
    found = Report(about={"python": "3.11"})
    found.add([Reading("a.b.c", [1.0, 2.0]), Skip("d", "why")])
    found.add([Reading("a.b.c", [3.0])])
    found.write(tmp_path / "report.json")
    again = Report.read(tmp_path / "report.json")
    assert again == found
    assert again.estimates()["a.b.c"].value == 2.0
    (tmp_path / "other.json").write_text('{"format": 99}', "utf-8")
    with pytest.raises(ValueError, match="has format 99"):
        Report.read(tmp_path / "other.json")


def test_what_a_process_found_is_handed_over(tmp_path: Path):
    found = [Reading("a.b.c", [1.0]), Skip("d", "why")]
    write_raw(tmp_path / "raw", found)
    assert read_raw(tmp_path / "raw") == found


def test_table_shows_value_spread_bound_and_what_is_missed():
    shown = Report()
    shown.add([Reading("part.row.cost", [0.5, 0.7, 0.9]), Reading("part.row.speed", [50])])
    text = render([PART, section("other", cost=COST)], shown)
    assert "0.70* (0.60 to 0.80) <= 2" in text
    assert "**50**, missed >= 100" in text
    assert "not measured" in text  # the one without a bound; nothing stands for what is not ours
    assert "0 of 1 moonshots" not in summary([PART], shown)
    assert "1 of 2 bounds are kept, 1 of 1 moonshots (*) reached." in summary([PART], shown)
    assert "- missed: part.row.speed is 50, the bound >= 100" in summary([PART], shown)


def test_a_section_that_was_left_out_says_why():
    shown = Report()
    shown.add([Skip("part", "there is no valgrind here")])
    assert render([PART], shown) == "**A part**: left out, there is no valgrind here"


def test_numbers_have_three_significant_digits():
    shown = [number(value) for value in (0, 0.01234, 0.1234, 1.234, 12.34, 123.4, 1_234_567.0, -0.5)]
    assert shown == ["0", "0.012", "0.12", "1.23", "12.3", "123", "1,234,567", "-0.50"]


def run_check(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HERE / "check.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_bench_check_ends_with_1_and_names_the_cases(tmp_path: Path):
    bounded = {cell.name: cell for cell in cells_in(read_sections()).values() if not cell.context}
    good, bad = Report(), Report()
    good.add(Reading(name, [cell.bound or 0.0]) for name, cell in bounded.items())
    bad.add(
        Reading(name, [cell.bound or 0.0] if "chain-100" not in name else [9.9])
        for name, cell in bounded.items()
    )
    old, new = str(tmp_path / "old.json"), str(tmp_path / "new.json")
    good.write(Path(old))
    bad.write(Path(new))
    done = run_check(old, old)
    assert (done.returncode, done.stdout) == (0, "every bound is kept, and nothing is more than 15 % worse\n")
    done = run_check(old, new)
    assert done.returncode == 1
    assert "inline.chain-100.default misses its bound: 9.90, must be <= 1" in done.stdout
    assert "inline.chain-100.default has become worse: 1 -> 9.90 (+890%)" in done.stdout
    assert run_check(old).returncode == 0
    assert "there is no" in run_check(str(tmp_path / "nowhere.json")).stderr


@pytest.mark.deep
def test_bench_measures_every_cell_of_the_table(tmp_path: Path):
    path = tmp_path / "report.json"
    parts = [
        "kernel",
        "growth",
        "memory",
        "fairness",
        "executors",
        "startup",
        "plugins",
        "tools",
        "events",
    ]  # instructions need valgrind
    command = [sys.executable, str(HERE / "bench.py"), "--quick", "--json", str(path), "--only", *parts]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = {name for name, cell in cells_in(read_sections()).items() if not cell.context}
    missing = expected - Report.read(path).values.keys()
    assert not {name for name in missing if not name.startswith("instructions.")}
    assert "QUICK" in done.stdout
