"""``stageflow graph``, and the pictures behind it."""

import json
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stageflow import Pipeline, StageKind, StageSpec
from stageflow.cli.pictures import dot, graph_record, graph_svg, mermaid, stage_tree
from stageflow.cli.pictures.layers import depths, lay_out
from stageflow.cli.pictures.links import Bond, Link, held_by, links_of
from stageflow.stages import Effect, StreamEdge

DOCS = Path(__file__).resolve().parents[3] / "docs"
SVG = "{http://www.w3.org/2000/svg}"
NASTY = ['<b>&"', "naïve — 日本", "a" * 200, "x --> y", "#quot;", "back\\slash", "`code`", "};"]


async def body(ctx): ...


def pipeline_of(edges: dict[str, list[str]]) -> Pipeline:
    pipeline = Pipeline("picture")
    for name, needs in edges.items():
        pipeline = pipeline.with_stage(name, body, StageKind.TRANSFORM, needs)
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
    assert lines[-2:] == [
        "└─ p8 (transform)",
        "   └─ join (transform; also after p0, p1, p2, p3, p4, p5, 2 more)",
    ]


def nasty_specs():
    return pipeline_of({name: NASTY[:index] for index, name in enumerate(NASTY)}).specs


def test_names_are_escaped_in_svg() -> None:
    svg = graph_svg(nasty_specs(), title='<"&>')
    root = ET.fromstring(svg)  # noqa: S314 - ours
    titles = [element.text for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles[0] == '<"&>: 8 stages'
    assert titles[1:] == [f"{name} (transform)" for name in NASTY]


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


# --- gates, effects, streams, routes, executors -----------------------------------------------------------------------


TREE = """\
guarded: 10 stages
listen (transform; on thread)
├─ moderate (guard; gate)
└─ intent (route)
   ├─ llm (agent; route chat; on thread)
   │  ├─ captions (transform; streams llm (8, drop oldest))
   │  └─ speak (work; ! irreversible; streams llm; held by moderate)
   │     └─ save (work; = idempotent; also after lookup; held by moderate)
   │        └─ count (work; ! irreversible; ungated)
   └─ lookup (enrich; route order | intent:refund)
      └─ refund (work; ↺ reversible; conditional; held by moderate)"""


def test_the_tree_says_all_that_pictures_know(guarded_stream) -> None:
    assert stage_tree(guarded_stream, title="guarded") == TREE
    assert stage_tree(guarded_stream, unicode=False).isascii()


def test_gates_are_linked_to_the_first_effects_that_they_hold(guarded_stream) -> None:
    held = {"speak", "refund", "save"}
    assert held_by(guarded_stream) == {name: ["moderate"] for name in held}
    links = links_of(guarded_stream)
    assert [link.target for link in links if link.bond is Bond.HOLD] == [
        "speak",
        "refund",
    ]  # save is behind speak
    assert Link("llm", "captions", Bond.STREAM, "8, drop oldest") in links
    assert Link("intent", "lookup", Bond.DEPENDENCY, "order | refund") in links
    assert len({(link.source, link.target) for link in links}) == len(links) == 12


def test_a_gate_is_not_linked_to_what_comes_after_it_anyway() -> None:
    specs = [
        StageSpec("gate", body, StageKind.GUARD, gates_effects=True),
        StageSpec("other", body, StageKind.WORK, gates_effects=True),
        StageSpec("model", body, StageKind.AGENT, ["gate"]),
        StageSpec("send", body, StageKind.WORK, ["model"]),
        StageSpec("price", body, StageKind.TRANSFORM),
    ]
    assert held_by(specs) == {"send": ["gate", "other"]}
    assert [link[:2] for link in links_of(specs) if link.bond is Bond.HOLD] == [("other", "send")]


@given(dags(), st.data())
def test_streams_and_gates_are_edges_of_the_layout(edges, data) -> None:
    specs = []
    for name, needs in edges.items():
        streams = data.draw(st.lists(st.sampled_from(needs), unique=True)) if needs else []
        gate = not needs and data.draw(st.booleans())
        effect = data.draw(st.sampled_from(Effect))
        others = [one for one in needs if one not in streams]
        specs.append(
            StageSpec(name, body, dependencies=others, streams=streams, gates_effects=gate, effect=effect)
        )
    links = links_of(specs)
    sources = {spec.name: [link.source for link in links if link.target == spec.name] for spec in specs}
    layer = depths(sources)
    assert all(layer[link.source] < layer[link.target] for link in links)
    root = ET.fromstring(graph_svg(specs))  # noqa: S314 - ours
    lines = [path for path in root.iter(f"{SVG}path") if path.get("marker-end")]
    bonds = {link.bond for link in links}
    assert len(lines) == len(links) + (Bond.STREAM in bonds) + (Bond.HOLD in bonds)  # and in the legend
    assert len(stage_tree(specs).splitlines()) == len(specs) + 1


def test_a_gate_before_a_long_chain_of_effects_is_quickly_drawn() -> None:
    specs = [StageSpec("gate", body, StageKind.GUARD, gates_effects=True)]
    specs += [
        StageSpec(f"s{n}", body, StageKind.WORK, [f"s{n - 1}"] if n else [], gated=n > 0) for n in range(2000)
    ]
    assert [link[:2] for link in links_of(specs) if link.bond is Bond.HOLD] == [("gate", "s1")]


def test_the_svg_shows_gates_effects_streams_routes_and_executors(guarded_stream) -> None:
    root = ET.fromstring(graph_svg(guarded_stream, title="guarded"))  # noqa: S314 - ours
    said = [text.text for text in root.iter(f"{SVG}text")]
    for one in (
        *("guard · gate", "work · ! irreversible", "work · ↺ reversible", "work · = idempotent"),
        *("chat", "order | refund", "stream 8, drop oldest"),
        *("stream", "gate holds effect back", "conditional"),
    ):
        assert one in said
    assert said.count("thread") == 2
    assert "inline" not in said
    ends = [path.get("marker-end") for path in root.iter(f"{SVG}path")]
    assert (ends.count("url(#stream)"), ends.count("url(#stop)")) == (3, 3)  # each once in the legend
    tips = {
        (path.get("d").split("C")[-1].split(" ", 4)[4], path.get("marker-end"))
        for path in root.iter(f"{SVG}path")
        if path.get("marker-end") and "C" in path.get("d")
    }
    assert len({tip for tip, _ in tips}) == len(tips)  # no bar lies on the head of an arrow


def test_no_text_leaves_the_page_and_no_two_boxes_overlap(guarded_stream) -> None:
    root = ET.fromstring(graph_svg(guarded_stream, title="guarded"))  # noqa: S314 - ours
    width, height = (float(root.get(side)) for side in ("width", "height"))
    for text in root.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x")) <= width
        assert 0 <= float(text.get("y")) <= height


def test_mermaid_shows_them(guarded_stream) -> None:
    lines = [line.strip() for line in mermaid(guarded_stream).splitlines()]
    for line in (
        's1{{"moderate<br/><small>guard · gate</small>"}}:::guard',
        's0["listen<br/><small>transform<br/>on thread</small>"]:::transform',
        's3 ==>|"stream 8, drop oldest"| s5',
        's3 ==>|"stream"| s6',
        's1 -.-x|"holds back"| s6',
        's2 -->|"order #124; refund"| s4',
        "s4 -.-> s7",
    ):
        assert line in lines


def test_dot_shows_them(guarded_stream) -> None:
    text = dot(guarded_stream)
    assert 'label="moderate\\nguard · gate"' in text
    assert "shape=octagon" in text
    assert 'label="llm\\nagent\\non thread"' in text
    assert '"llm" -> "captions" [label="stream 8, drop oldest"' in text
    assert '"moderate" -> "speak" [label="holds back" style=dotted arrowhead=tee' in text
    assert '"intent" -> "llm" [label="chat"]' in text
    assert '"speak" -> "save"\n' in text


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
def test_graphviz_draws_them(guarded_stream) -> None:
    plain = subprocess.run(
        ["dot", "-Tplain"],  # noqa: S607 - wherever it is
        input=dot(guarded_stream),
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert plain.stderr == ""
    assert sum(line.startswith("edge ") for line in plain.stdout.splitlines()) == 12


def test_the_same_as_data(guarded_stream) -> None:
    record = graph_record(guarded_stream, title="guarded")
    assert list(record["stages"]) == [spec.name for spec in guarded_stream]
    assert record["pipeline"] == "guarded"
    assert record["stages"]["captions"] == {
        "kind": "transform",
        "dependencies": [],
        "streams": [{"producer": "llm", "size": 8, "overflow": "drop_oldest"}],
        "route": [],
        "conditional": False,
        "effect": "none",
        "gates_effects": False,
        "held_by": [],
        "executor": "inline",
    }
    assert record["stages"]["moderate"]["gates_effects"]
    assert record["stages"]["refund"]["held_by"] == ["moderate"]
    assert record["stages"]["refund"]["conditional"]
    assert record["stages"]["lookup"]["route"] == ["order", "intent:refund"]
    assert record["stages"]["llm"]["executor"] == "thread"


def test_a_stream_whose_bounds_are_the_usual_ones_has_no_label() -> None:
    specs = [
        StageSpec("a", body),
        StageSpec("b", body, streams=StreamEdge("a", size=3)),
        StageSpec("c", body, streams="a"),
    ]
    assert [link.label for link in links_of(specs)] == ["3", ""]


# --- the command ----------------------------------------------------------------------------------------------------


def test_json_on_standard_output(call, greeting) -> None:
    code, out, err = call("graph", greeting, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["pipeline"], list(found["stages"])) == ("greeting", ["check", "greet"])
    for more in (["--format", "svg"], ["-o", "g.svg"]):
        code, out, err = call("graph", greeting, "--json", *more)
        assert (code, out) == (2, "")
        assert "--json" in err


def test_the_pictures_of_the_docs_are_those_of_today(call) -> None:
    """`stageflow graph docs/examples/ask_manual.py -o docs/pictures/ask-manual-dag.svg` draws it anew."""
    code, out, _ = call("graph", str(DOCS / "examples" / "ask_manual.py"), "--format", "svg")
    assert code == 0
    assert out == (DOCS / "pictures" / "ask-manual-dag.svg").read_text("utf-8")


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
