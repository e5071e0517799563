"""OpenTelemetry for Stageflow: a span per attempt of every stage.

```python
import asyncio

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from stageflow import Pipeline, stage
from stageflow_otel import OpenTelemetryInterceptor


@stage
async def answer() -> int:
    return 42


exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
graph = Pipeline.from_stages(answer).build(interceptors=[OpenTelemetryInterceptor(provider)])
asyncio.run(graph.run())
print([span.name for span in exporter.get_finished_spans()])
#> ['stage answer']
```

Names are imported when they are first used: ``import stageflow_otel`` alone costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stageflow_otel.interceptor import OpenTelemetryInterceptor

__all__ = [
    "OpenTelemetryInterceptor",
]

_HOMES = {
    "interceptor": ("OpenTelemetryInterceptor",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name from its home when it is first used (PEP 562)."""
    home = _HOME_OF.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
