"""A pipeline as an SVG picture: boxes in layers, coloured by kind, with arrows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from stageflow.cli.pictures.layers import lay_out
from stageflow.cli.pictures.lettering import escape, shorten, text_width
from stageflow.cli.pictures.palette import LINE, hue_of
from stageflow.cli.pictures.svg import (
    BOLD,
    document,
    heading,
    heading_width,
    kind_legend,
    legend_width,
    number,
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
_WIDEST_PAGE: Final = 1900.0


_ARROW_HEAD: Final = (
    '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
    f'orient="auto"><path d="M0 0.5 L10 5 L0 9.5 z" fill="{LINE}"/></marker></defs>'
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
    dependencies = {spec.name: spec.dependencies for spec in specs}
    widths = {spec.name: _width(spec) for spec in specs}
    across = lay_out(dependencies, size=_HEIGHT + _BETWEEN_BOXES, thread=_THREAD)
    columns = _steps(across, widths)
    if columns[-1][1] <= _WIDEST_PAGE:
        return _draw(specs, across, columns, widths, title=title, down=False)
    widest = max(widths.values(), default=_NARROWEST)
    below = lay_out(dependencies, size=widest + _BETWEEN_BOXES, thread=_THREAD)
    if below.extent + widest >= columns[-1][1]:  # wide either way: the reading direction decides
        return _draw(specs, across, columns, widths, title=title, down=False)
    rows = _steps(below, dict.fromkeys(widths, _HEIGHT))
    return _draw(specs, below, rows, widths, title=title, down=True)


def _width(spec: StageSpec) -> float:
    name = text_width(shorten(spec.name, _LONGEST), _NAME_SIZE)
    return max(_NARROWEST, name * BOLD + 2 * _PADDING)


def _steps(layout: Layout, depth: Mapping[str, float]) -> list[tuple[float, float]]:
    """Return where each layer begins and ends, along the direction of the arrows."""
    deepest = [0.0] * layout.layers
    for name, layer in layout.layer.items():
        deepest[layer] = max(deepest[layer], depth[name])
    steps: list[tuple[float, float]] = []
    at = 0.0
    for size in deepest:
        steps.append((at, at + size))
        at += size + _BETWEEN_LAYERS
    return steps or [(0.0, 0.0)]


def _draw(
    specs: Sequence[StageSpec],
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
    needed = max(legend_width(kinds), heading_width(name, count))
    width = max((across if down else along), needed) + 2 * _MARGIN
    height = (along if down else across) + _HEADER + _FOOTER + _MARGIN
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
    half = widest / 2 if down else _HEIGHT / 2
    conditional = {spec.name for spec in specs if spec.conditional or spec.when is not None}
    body = [
        _ARROW_HEAD,
        heading(_MARGIN, 28, name, count),
    ]
    body += [
        _arrow(edge, layout, steps, half=half, shift=shift, down=down, dashed=edge.target in conditional)
        for edge in layout.edges
    ]
    for spec in specs:
        body += _box(spec, boxes[spec.name], dashed=spec.name in conditional)
    body += kind_legend(_MARGIN, height - _FOOTER / 2, kinds)
    summary = "; ".join(
        f"{spec.name} ({spec.kind.value}) after {', '.join(spec.dependencies) or 'nothing'}" for spec in specs
    )
    return document(width, height, title=f"{title}: {count}", summary=summary, body=body)


def _box(spec: StageSpec, box: _Box, *, dashed: bool) -> list[str]:
    hue = hue_of(spec.kind.value)
    outline = ' stroke-dasharray="5 3"' if dashed else ""
    middle = box.x + box.width / 2
    kind = spec.kind.value + (", conditional" if dashed else "")
    size = f'x="{number(box.x)}" y="{number(box.y)}" width="{number(box.width)}" height="{number(_HEIGHT)}"'
    return [
        f"<g><title>{escape(spec.name)} ({kind})</title>",
        f'<rect {size} rx="8" fill="{hue.fill}" stroke="{hue.solid}" stroke-width="1.4"{outline}/>',
        text(
            middle,
            box.y + 20,
            shorten(spec.name, _LONGEST),
            size=_NAME_SIZE,
            fill=hue.text,
            anchor="middle",
            weight="600",
        ),
        text(middle, box.y + 34, spec.kind.value, size=_KIND_SIZE, fill=hue.text, anchor="middle"),
        "</g>",
    ]


def _arrow(
    edge: Edge,
    layout: Layout,
    steps: Sequence[tuple[float, float]],
    *,
    half: float,
    shift: float,
    down: bool,
    dashed: bool,
) -> str:
    """Return an edge: curves from layer to layer, and straight on through the layers that it passes."""
    first, last = layout.layer[edge.source], layout.layer[edge.target]
    along, across = steps[first][1], layout.place[edge.source] + half
    path = f"M{_point(along, across, shift, down=down)}"
    stops = [*edge.waypoints, layout.place[edge.target]]
    for layer, place in enumerate(stops, first + 1):
        start, end = steps[layer]
        middle = (along + start) / 2
        points = [(middle, across), (middle, place + half), (start, place + half)]
        path += "C" + " ".join(_point(a, b, shift, down=down) for a, b in points)
        along, across = start, place + half
        if layer != last:
            path += f"L{_point(end, across, shift, down=down)}"
            along = end
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return (
        f'<path d="{path}" fill="none" stroke="{LINE}" stroke-width="1.4"{dashes} marker-end="url(#arrow)"/>'
    )


def _point(along: float, across: float, shift: float, *, down: bool) -> str:
    x, y = (across, along) if down else (along, across)
    return f"{number(x + shift)} {number(y + _HEADER)}"
