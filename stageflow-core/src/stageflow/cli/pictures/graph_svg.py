"""A pipeline as an SVG picture: boxes in layers, coloured by kind, with arrows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from stageflow.cli.pictures.layers import lay_out
from stageflow.cli.pictures.lettering import escape, shorten, text_width
from stageflow.cli.pictures.links import Bond, Link, held_by, links_of
from stageflow.cli.pictures.marks import executor_of, is_conditional, kind_said
from stageflow.cli.pictures.palette import GREY, HOLD, LINE, PAPER, STREAM, hue_of
from stageflow.cli.pictures.svg import (
    BOLD,
    document,
    heading,
    heading_width,
    kind_legend,
    legend_width,
    moved,
    number,
    sample_rows,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stageflow.cli.pictures.layers import Edge, Layout
    from stageflow.stages.spec import StageSpec

__all__ = ["graph_svg"]

_NAME_SIZE: Final = 13
_KIND_SIZE: Final = 10
_LONGEST: Final = 28
_LONGEST_TITLE: Final = 60
_HEIGHT: Final = 44.0
_PADDING: Final = 16.0
_NARROWEST: Final = 84.0
_BETWEEN_LAYERS: Final = 58.0
_BETWEEN_BOXES: Final = 18.0
_THREAD: Final = 16.0
_MARGIN: Final = 24.0
_HEADER: Final = 46.0
_FOOTER: Final = 34.0
_LEGEND_LINE: Final = 20.0
_LABEL_SIZE: Final = 10
_LONGEST_LABEL: Final = 24
_LABEL_ROOM: Final = 34.0
_BADGE_SIZE: Final = 9
_BADGE: Final = 14.0
_CUT: Final = 9.0
_WIDEST_PAGE: Final = 1900.0
_NARROWEST_PAGE: Final = 200.0
_ASIDE: Final = 11.0  # how far beside the others the edges of gates end


_MARKERS: Final = (
    '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
    f'orient="auto"><path d="M0 0.5 L10 5 L0 9.5 z" fill="{LINE}"/></marker>'
    '<marker id="stream" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="11" markerHeight="11" '
    f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 L10 5 L0 10 z" fill="{STREAM}"/></marker>'
    '<marker id="stop" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="11" markerHeight="11" '
    f'markerUnits="userSpaceOnUse" orient="auto"><path d="M7 0V10" stroke="{HOLD}" stroke-width="2.5"/></marker></defs>'
)


class _Box(NamedTuple):
    x: float
    y: float
    width: float


def graph_svg(specs: Sequence[StageSpec], *, title: str = "pipeline") -> str:
    """Return the picture. It runs from left to right, or down where that would be too wide to read.

    Args:
        specs: The stages, which depend on each other without circles.
        title: The pipeline's name.
    """
    links = links_of(specs)
    sources: dict[str, list[str]] = {spec.name: [] for spec in specs}
    for link in links:
        sources[link.target].append(link.source)
    widths = {spec.name: _width(spec) for spec in specs}
    across = lay_out(sources, size=_HEIGHT + _BETWEEN_BOXES, thread=_THREAD)
    columns = _steps(across, widths, _rooms(across, links))
    if columns[-1][1] <= _WIDEST_PAGE:
        return _draw(specs, links, across, columns, widths, title=title, down=False)
    widest = max(widths.values(), default=_NARROWEST)
    below = lay_out(sources, size=widest + _BETWEEN_BOXES, thread=_THREAD)
    if below.extent + widest >= columns[-1][1]:  # wide either way: the reading direction decides
        return _draw(specs, links, across, columns, widths, title=title, down=False)
    rows = _steps(below, dict.fromkeys(widths, _HEIGHT), {})
    return _draw(specs, links, below, rows, widths, title=title, down=True)


def _width(spec: StageSpec) -> float:
    name = text_width(shorten(spec.name, _LONGEST), _NAME_SIZE) * BOLD
    kind = text_width(kind_said(spec), _KIND_SIZE)
    return max(_NARROWEST, max(name, kind) + 2 * _PADDING, _badge_width(spec) + 2 * _PADDING)


def _badge_width(spec: StageSpec) -> float:
    name = executor_of(spec)
    return text_width(shorten(name, _LONGEST), _BADGE_SIZE) + 12 if name else 0.0


def _label(link: Link) -> str:
    said = f"stream {link.label}" if link.bond is Bond.STREAM and link.label else link.label
    return shorten(said, _LONGEST_LABEL)


def _label_width(link: Link) -> float:
    label = _label(link)
    return text_width(label, _LABEL_SIZE) + _LABEL_ROOM if label else 0.0


def _rooms(layout: Layout, links: Sequence[Link]) -> dict[int, float]:
    """Return how much room labels need before each layer."""
    rooms: dict[int, float] = {}
    for link in links:
        layer = layout.layer[link.target]
        rooms[layer] = max(rooms.get(layer, 0.0), _label_width(link))
    return rooms


def _steps(
    layout: Layout, depth: Mapping[str, float], rooms: Mapping[int, float]
) -> list[tuple[float, float]]:
    """Return where each layer begins and ends, along the direction of the arrows."""
    deepest = [0.0] * layout.layers
    for name, layer in layout.layer.items():
        deepest[layer] = max(deepest[layer], depth[name])
    steps: list[tuple[float, float]] = []
    at = 0.0
    for layer, size in enumerate(deepest, 1):
        steps.append((at, at + size))
        at += size + max(_BETWEEN_LAYERS, rooms.get(layer, 0.0))
    return steps or [(0.0, 0.0)]


def _draw(
    specs: Sequence[StageSpec],
    links: Sequence[Link],
    layout: Layout,
    steps: Sequence[tuple[float, float]],
    widths: Mapping[str, float],
    *,
    title: str,
    down: bool,
) -> str:
    widest = max(widths.values(), default=_NARROWEST)
    along = steps[-1][1]
    across = layout.extent + (widest if down else _HEIGHT)
    kinds = list(dict.fromkeys(spec.kind.value for spec in specs))
    count = "1 stage" if len(specs) == 1 else f"{len(specs)} stages"
    name = shorten(title, _LONGEST_TITLE)
    conditional = {spec.name for spec in specs if is_conditional(spec)}
    needed = max(legend_width(kinds), heading_width(name, count), _NARROWEST_PAGE)
    width = max((across if down else along), needed) + 2 * _MARGIN
    samples = sample_rows(_samples(links, bool(conditional)), width - 2 * _MARGIN)
    footer = _FOOTER + _LEGEND_LINE * len(samples)
    height = (along if down else across) + _HEADER + footer + _MARGIN
    # A picture that is narrower than its legend stands in the middle of the page.
    shift = (width - (across if down else along)) / 2
    boxes: dict[str, _Box] = {}
    for spec in specs:
        start, end = steps[layout.layer[spec.name]]
        place = layout.place[spec.name]
        if down:
            boxes[spec.name] = _Box(
                shift + place + (widest - widths[spec.name]) / 2, _HEADER + start, widths[spec.name]
            )
        else:
            boxes[spec.name] = _Box(shift + start, _HEADER + place, end - start)
    course = _Course(layout, steps, half=widest / 2 if down else _HEIGHT / 2, shift=shift, down=down)
    body = [_MARKERS, heading(_MARGIN, 28, name, count)]
    link_of = {(link.source, link.target): link for link in links}
    drawn = [(link_of[edge.source, edge.target], edge) for edge in layout.edges]
    for link, edge in drawn:
        aside = _ASIDE if link.bond is Bond.HOLD else 0.0
        body += _arrow(link, course.path(edge, aside), dashed=edge.target in conditional)
    held = held_by(specs)
    for spec in specs:
        body += _box(spec, boxes[spec.name], held.get(spec.name, ()), dashed=spec.name in conditional)
    body += [course.caption(edge, _label(link), link.bond) for link, edge in drawn if _label(link)]
    body += kind_legend(_MARGIN, height - footer + _FOOTER / 2, kinds)
    for index, row in enumerate(samples, 1):
        body.append(moved(_MARGIN, height - footer + _FOOTER / 2 + index * _LEGEND_LINE, row))
    summary = "; ".join(_summary(spec, held.get(spec.name, ())) for spec in specs)
    return document(width, height, title=f"{title}: {count}", summary=summary, body=body)


def _summary(spec: StageSpec, gates: Sequence[str]) -> str:
    said = f"{spec.name} ({kind_said(spec)}) after {', '.join(spec.dependencies) or 'nothing'}"
    if spec.streams:
        said += f", streams {', '.join(edge.producer for edge in spec.streams)}"
    if gates:
        said += f", held by {', '.join(gates)}"
    return said


def _box(spec: StageSpec, box: _Box, gates: Sequence[str], *, dashed: bool) -> list[str]:
    hue = hue_of(spec.kind.value)
    outline = ' stroke-dasharray="5 3"' if dashed else ""
    middle = box.x + box.width / 2
    said = kind_said(spec) + (", conditional" if dashed else "")
    said += f", held by {', '.join(gates)}" if gates else ""
    look = (
        f'fill="{hue.fill}" stroke="{hue.solid}" stroke-width="{2.4 if spec.gates_effects else 1.4}"{outline}'
    )
    parts = [
        f"<g><title>{escape(spec.name)} ({escape(said)})</title>",
        _outline(box, is_gate=spec.gates_effects, look=look),
        text(
            middle,
            box.y + 20,
            shorten(spec.name, _LONGEST),
            size=_NAME_SIZE,
            fill=hue.text,
            anchor="middle",
            weight="600",
        ),
        text(middle, box.y + 34, kind_said(spec), size=_KIND_SIZE, fill=hue.text, anchor="middle"),
    ]
    if executor := executor_of(spec):
        width = _badge_width(spec)
        x, y = box.x + box.width - width - 8, box.y + _HEIGHT - 6
        size = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(_BADGE)}"'
        parts.append(f'<rect {size} rx="7" fill="{hue.solid}"/>')
        name = shorten(executor, _LONGEST)
        parts.append(text(x + width / 2, y + 10, name, size=_BADGE_SIZE, fill=PAPER, anchor="middle"))
    return [*parts, "</g>"]


def _outline(box: _Box, *, is_gate: bool, look: str) -> str:
    """Return the outline of a box; that of a gate has its corners cut off."""
    if not is_gate:
        size = (
            f'x="{number(box.x)}" y="{number(box.y)}" width="{number(box.width)}" height="{number(_HEIGHT)}"'
        )
        return f'<rect {size} rx="8" {look}/>'
    cut, right, bottom = _CUT, number(box.width - 2 * _CUT), number(_HEIGHT - 2 * _CUT)
    corner = number(cut)
    path = (
        f"M{number(box.x + cut)} {number(box.y)}h{right}l{corner} {corner}v{bottom}l-{corner} {corner}"
        f"h-{right}l-{corner} -{corner}v-{bottom}z"
    )
    return f'<path d="{path}" {look}/>'


def _arrow(link: Link, path: str, *, dashed: bool) -> list[str]:
    """Return an edge as its bond looks: an arrow, a pipe, or what keeps something back."""
    line = f'<path d="{path}" fill="none"'
    if link.bond is Bond.STREAM:
        return [
            f'{line} stroke="{STREAM}" stroke-width="4.6"/>',
            f'{line} stroke="{PAPER}" stroke-width="1.8"/>',
            f'{line} stroke="none" marker-end="url(#stream)"/>',
        ]
    if link.bond is Bond.HOLD:
        look = f'stroke="{HOLD}" stroke-width="1.5" stroke-dasharray="1.5 3.5"'
        return [f'{line} {look} marker-end="url(#stop)"/>']
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return [f'{line} stroke="{LINE}" stroke-width="1.4"{dashes} marker-end="url(#arrow)"/>']


def _samples(links: Sequence[Link], conditional: bool) -> list[tuple[str, list[str]]]:  # noqa: FBT001 - of a legend
    """Return the legend of everything but plain arrows, each as its word and a line of 22 pixels from 0, 0."""
    bonds = {link.bond for link in links}
    samples: list[tuple[str, list[str]]] = []
    if Bond.STREAM in bonds:
        samples.append(("stream", _arrow(Link("", "", Bond.STREAM), "M0 0h26", dashed=False)))
    if Bond.HOLD in bonds:
        samples.append(("gate holds effect back", _arrow(Link("", "", Bond.HOLD), "M0 0h26", dashed=False)))
    if conditional:
        samples.append(("conditional", _arrow(Link("", "", Bond.DEPENDENCY), "M0 0h26", dashed=True)))
    return samples


class _Course(NamedTuple):
    """How edges run: in curves from layer to layer, and straight on through the layers that they pass."""

    layout: Layout
    steps: Sequence[tuple[float, float]]
    half: float
    shift: float
    down: bool

    def path(self, edge: Edge, aside: float = 0.0) -> str:
        """Return the way of an edge, which ends a little beside the middle of its target."""
        layer, place = self.layout.layer, self.layout.place
        along, across = self.steps[layer[edge.source]][1], place[edge.source] + self.half
        path = f"M{self._point(along, across)}"
        stops = [*edge.waypoints, place[edge.target]]
        before = edge.waypoints[-1] if edge.waypoints else place[edge.source]
        stops[-1] += aside if before > stops[-1] else -aside
        for at, stop in enumerate(stops, layer[edge.source] + 1):
            start, end = self.steps[at]
            middle = (along + start) / 2
            points = [(middle, across), (middle, stop + self.half), (start, stop + self.half)]
            path += "C" + " ".join(self._point(*point) for point in points)
            along, across = start, stop + self.half
            if at != layer[edge.target]:
                path += f"L{self._point(end, across)}"
                along = end
        return path

    def caption(self, edge: Edge, label: str, bond: Bond) -> str:
        """Return an edge's label: beside its end, on the side that the edge leaves free."""
        layer, layout = self.layout.layer[edge.target], self.layout
        before = edge.waypoints[-1] if edge.waypoints else layout.place[edge.source]
        start, across = self.steps[layer][0], layout.place[edge.target]
        colour = STREAM if bond is Bond.STREAM else GREY
        if self.down:
            middle = self._place((self.steps[layer - 1][1] + start) / 2, (before + across) / 2 + self.half)
            return text(
                middle[0], middle[1] + 3.5, label, size=_LABEL_SIZE, fill=colour, anchor="middle", halo=True
            )
        x, y = self._place(start, across + self.half)
        y += 13 if before < across else -6
        return text(x - 12, y, label, size=_LABEL_SIZE, fill=colour, anchor="end", halo=True)

    def _point(self, along: float, across: float) -> str:
        return " ".join(number(value) for value in self._place(along, across))

    def _place(self, along: float, across: float) -> tuple[float, float]:
        x, y = (across, along) if self.down else (along, across)
        return x + self.shift, y + _HEADER
