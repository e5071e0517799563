"""Pictures of pipelines and runs: pure functions from stages and events to text.

```python
from stageflow import Pipeline, stage, use
from stageflow.cli.pictures import stage_tree


@stage
async def greet() -> str: ...


@stage
async def shout(greeting: str = use(greet)) -> str: ...


print(stage_tree(Pipeline.from_stages(greet, shout).specs, title="greeting"))
#> greeting: 2 stages
#> greet (transform)
#> └─ shout (transform)
```

``stage_tree``, ``mermaid``, ``dot`` and ``graph_svg`` draw the stages of a pipeline, which must build (a circle of
stages has no layers); ``graph_record`` is the same as data. ``timeline_lines`` and ``timeline_svg`` draw the ``Chart``
of a run.
"""

from stageflow.cli.pictures.bars import timeline_lines
from stageflow.cli.pictures.chart import Chart
from stageflow.cli.pictures.dot import dot
from stageflow.cli.pictures.graph_record import graph_record
from stageflow.cli.pictures.graph_svg import graph_svg
from stageflow.cli.pictures.mermaid import mermaid
from stageflow.cli.pictures.timeline_svg import timeline_svg
from stageflow.cli.pictures.tree import stage_tree

__all__ = [
    "Chart",
    "dot",
    "graph_record",
    "graph_svg",
    "mermaid",
    "stage_tree",
    "timeline_lines",
    "timeline_svg",
]
