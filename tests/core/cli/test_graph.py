"""``stageflow graph``, and the pictures behind it."""

import shutil
import subprocess
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stageflow import Pipeline, StageKind
from stageflow.cli.pictures import dot, graph_svg, mermaid, stage_tree
from stageflow.cli.pictures.layers import depths, lay_out

NASTY = ['<b>&"', "naïve — 日本", "a" * 200, "x --> y", "#quot;", "back\\slash", "`code`", "};"]


async def body(ctx): ...


def pipeline_of(edges: dict[str, list[str]]) -> Pipeline:
    pipeline = Pipeline("picture")
    for name, needs in edges.items():
        pipeline = pipeline.with_stage(name, body, StageKind.WORK, needs)
    return pipeline


@st.composite
def dags(draw: st.DrawFn) -> dict[str, list[str]]:
    names = [f"s{number}" for number in range(draw(st.integers(1, 25)))]
    return {
        name: draw(st.lists(st.sampled_from(names[:index]), unique=True, max_size=4)) if index else []
        for index, name in enumerate(names)
    }


@given(dags())
def test_every_edge_goes_forward_and_no_two_boxes_of_a_layer_touch(edges) -> None:
    layout = lay_out(edges, size=10, thread=3)
    assert layout.layer == depths(edges)
    assert all(layout.layer[need] < layout.layer[name] for name, needs in edges.items() for need in needs)
    assert len(layout.edges) == sum(map(len, edges.values()))
    for layer in range(layout.layers):
        places = sorted(layout.place[name] for name in edges if layout.layer[name] == layer)
        assert all(after - before > 9.99 for before, after in pairwise(places))
    for edge in layout.edges:
        assert len(edge.waypoints) == layout.layer[edge.target] - layout.layer[edge.source] - 1


@given(dags())
def test_the_tree_shows_every_stage_once_and_every_edge(edges) -> None:
    lines = stage_tree(pipeline_of(edges).specs).splitlines()[1:]
    shown = [line.lstrip("│├└─ ").partition(" (")[0] for line in lines]
    assert sorted(shown) == sorted(edges)


def test_a_chain_longer_than_pythons_recursion_limit() -> None:
    edges = {f"s{number}": [f"s{number - 1}"] if number else [] for number in range(3000)}
    specs = pipeline_of(edges).specs
    assert len(stage_tree(specs).splitlines()) == 3001
    assert graph_svg(specs).count("<rect") == 3002


def test_a_join_stands_below_the_last_stage_that_it_waits_for() -> None:
    edges = {
        "split": [],
        **{f"p{number}": ["split"] for number in range(9)},
        "join": [f"p{n}" for n in range(9)],
    }
    lines = stage_tree(pipeline_of(edges).specs, title="fan").splitlines()
    assert lines[0] == "fan: 11 stages"
    assert lines[-2:] == ["└─ p8 (work)", "   └─ join (work; also after p0, p1, p2, p3, p4, p5, 2 more)"]


def nasty_specs():
    return pipeline_of({name: NASTY[:index] for index, name in enumerate(NASTY)}).specs


def test_names_are_escaped_in_svg() -> None:
    svg = graph_svg(nasty_specs(), title='<"&>')
    root = ET.fromstring(svg)  # noqa: S314 - ours
    titles = [element.text for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles[0] == '<"&>: 8 stages'
    assert titles[1:] == [f"{name} (work)" for name in NASTY]


def test_names_are_escaped_in_mermaid() -> None:
    text = mermaid(nasty_specs(), title='say "hi"')
    assert 'title: "say \\"hi\\""' in text
    boxes = [line for line in text.splitlines() if '["' in line]
    assert len(boxes) == len(NASTY)
    for box in boxes:
        assert box.count('"') == 2
        assert "`" not in box
    assert text.count("-->") == sum(range(len(NASTY)))


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
def test_graphviz_reads_what_dot_writes() -> None:
    plain = subprocess.run(
        ["dot", "-Tplain"],  # noqa: S607 - wherever it is
        input=dot(nasty_specs(), title='"'),
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout
    assert sum(line.startswith("edge ") for line in plain.splitlines()) == sum(range(len(NASTY)))


def test_dot_quotes_names() -> None:
    text = dot(nasty_specs())
    assert '"<b>&\\""' in text
    assert '"back\\\\slash"' in text


@pytest.mark.parametrize(
    ("form", "begins"),
    [("text", "greeting: 2 stages\n"), ("mermaid", "---\n"), ("dot", "digraph"), ("svg", "<svg ")],
)
def test_formats_on_standard_output(call, greeting, form: str, begins: str) -> None:
    code, out, err = call("graph", greeting, "--format", form)
    assert (code, err) == (0, "")
    assert out.startswith(begins)
    assert call("graph", greeting, "--format", form, "-o", "-")[1] == out


@pytest.mark.parametrize(
    ("name", "begins"),
    [("g.svg", "<svg "), ("g.dot", "digraph"), ("g.mmd", "---\n"), ("g.txt", "greeting: ")],
)
def test_the_name_of_the_file_says_the_format(call, greeting, tmp_path, name: str, begins: str) -> None:
    code, out, _ = call("graph", greeting, "-o", name)
    assert (code, out) == (0, "")
    assert (tmp_path / name).read_text("utf-8").startswith(begins)


def test_an_unwritable_file_leaves_nothing_behind(call, greeting, tmp_path) -> None:
    (tmp_path / "folder.svg").mkdir()
    for path in ("folder.svg", "nothere/g.svg", "greeting.py/g.svg"):
        code, out, err = call("graph", greeting, "-o", path)
        assert (code, out) == (1, "")
        assert err.startswith(f"[SF-CLI-OUTPUT] Cannot write '{path}'")
    assert sorted(one.name for one in tmp_path.rglob("*")) == ["folder.svg", "greeting.py"]


def test_a_pipeline_that_does_not_build_is_not_drawn(call, write) -> None:
    write(
        "circle.py",
        """
        from stageflow import Pipeline, StageKind

        async def body(ctx): ...

        pipeline = Pipeline().with_stage("a", body, StageKind.WORK, ["b"]).with_stage("b", body, StageKind.WORK, ["a"])
        """,
    )
    code, out, err = call("graph", "circle.py")
    assert (code, out) == (1, "")
    assert "SF-BUILD-CYCLE" in err


def test_ascii_where_the_stream_knows_nothing_else(stageflow, greeting) -> None:
    done = stageflow("graph", greeting, PYTHONIOENCODING="ascii")
    assert "`- greet (transform)" in done.stdout
