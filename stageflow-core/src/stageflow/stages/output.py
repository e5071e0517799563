"""``StageOutput``: how a stage ended, and what it hands over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, final

from stageflow.context.checks import check_type, wrong_type, wrong_value
from stageflow.context.record import Record
from stageflow.stages.stage import StageStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

__all__ = [
    "NO_VALUE",
    "PLAIN",
    "Form",
    "StageArtifact",
    "StageEvent",
    "StageOutput",
    "form_of_value",
    "output_of",
]


@final
class _NoValue:
    """The type of ``NO_VALUE``; there is one instance, also after pickling."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "NO_VALUE"

    def __reduce__(self) -> str:
        return "NO_VALUE"


NO_VALUE: Final[Any] = _NoValue()
"""Stands for "this output was not made from one typed value"."""

_OK, _SKIP, _CANCEL, _FAIL, _RETRY = (
    StageStatus.OK,
    StageStatus.SKIP,
    StageStatus.CANCEL,
    StageStatus.FAIL,
    StageStatus.RETRY,
)


@final
class StageArtifact(Record):
    """Something a stage produced beside its data, such as a file or an image.

    Args:
        type: What it is.
        payload: The thing, or where it is.
        timestamp: When it was made; now, in UTC, by default.

    ```python
    from stageflow import StageArtifact, StageOutput

    output = StageOutput.ok().__replace__(artifacts=(StageArtifact("chart", "sales.svg"),))
    print(output.artifacts[0].type, output.artifacts[0].payload)
    #> chart sales.svg
    ```
    """

    __slots__ = ("payload", "timestamp", "type")
    __match_args__ = ("type", "payload", "timestamp")
    type: str
    payload: Any
    timestamp: datetime

    def __init__(self, type: str, payload: Any, timestamp: datetime | None = None) -> None:  # noqa: A002 - published
        object.__setattr__(self, "type", type)
        object.__setattr__(self, "payload", payload)
        object.__setattr__(self, "timestamp", timestamp or datetime.now(UTC))


@final
class StageEvent(Record):
    """An event that a stage hands over with its output; the run emits it when the stage ends.

    Args:
        type: The event type.
        data: Its payload.
        timestamp: When it happened; now, in UTC, by default.

    ```python
    import asyncio

    from stageflow import Pipeline, StageEvent, StageKind, StageOutput, StageStatus
    from stageflow.events import ObservableEventSink


    async def grade(ctx):
        return StageOutput(StageStatus.OK, events=[StageEvent("essay.graded", {"mark": 7})])


    sink = ObservableEventSink()
    asyncio.run(Pipeline().with_stage("grade", grade, StageKind.WORK).run(sink=sink))
    print([event["data"]["mark"] for event in sink.events if event["type"] == "essay.graded"])
    #> [7]
    ```
    """

    __slots__ = ("data", "timestamp", "type")
    __match_args__ = ("type", "data", "timestamp")
    type: str
    data: Mapping[str, Any]
    timestamp: datetime

    def __init__(self, type: str, data: Mapping[str, Any], timestamp: datetime | None = None) -> None:  # noqa: A002
        check_type("StageEvent", "type", type, str, "a str")
        check_type("StageEvent", "data", data, Mapping, "a mapping of names to values")
        object.__setattr__(self, "type", type)
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "timestamp", timestamp or datetime.now(UTC))


@final
class Form:
    """What an output has beside its data and its duration. Those of most untyped stages share ``PLAIN``.

    Attributes:
        simple: Whether it is OK and brings nothing that the run has to hand on.
    """

    __slots__ = ("artifacts", "error", "events", "simple", "status", "value", "version")

    def __init__(
        self,
        status: StageStatus,
        artifacts: Sequence[StageArtifact] = (),
        events: Sequence[StageEvent] = (),
        error: str | None = None,
        version: str | None = None,
        value: Any = NO_VALUE,
    ) -> None:
        self.status = status
        self.artifacts = artifacts
        self.events = events
        self.error = error
        self.version = version
        self.value = value
        self.simple = status is _OK and not artifacts and not events


def form_of_value(value: Any) -> Form:
    """Return the form of an output that is OK and was made from one typed value.

    For each typed stage of each run there is one; in Python 3.11, a constructor would take twice as long.
    """
    form: Any = _new_form(Form)
    form.status = _OK
    form.artifacts = form.events = ()
    form.error = form.version = None
    form.value = value
    form.simple = True
    made: Form = form
    return made


_new_form = object.__new__
PLAIN: Final = Form(_OK)
"""The form of an output that is OK and has nothing but data."""


class _Fields(Record):
    """The fields of an output, open to be written: an output is made once or twice for every stage of every run.

    ``StageOutput`` has the same layout, so ``__class__`` turns one of these into one of those: quicker than the slots'
    own ``__set__``.
    """

    __slots__ = ("data", "duration_ms", "form")
    if not TYPE_CHECKING:
        __setattr__ = object.__setattr__
        __delattr__ = object.__delattr__  # one slot of the type holds both


@final
class StageOutput(Record):
    """How a stage ended, and what it hands over. Immutable; use the factories.

    Attributes:
        status: OK, SKIP, CANCEL, FAIL or RETRY.
        data: What dependants read. The run replaces it by a read-only copy when the stage ends.
        artifacts: What the stage produced beside its data.
        events: Events to emit when the stage ends.
        error: Why it failed or wants another attempt.
        duration_ms: How long the stage took, in milliseconds; the run fills it in.
        version: A version of the output's schema or content, as the author likes.
        value: The typed value that ``data`` was made from, for stages written as typed functions.
        form: All of it but ``data`` and ``duration_ms``.

    ```python
    from stageflow import StageOutput

    output = StageOutput.ok({"text": "hi"}, version="1", length=2)
    print(output.status, output.data)
    #> ok {'text': 'hi', 'length': 2}
    ```
    """

    __slots__ = ("data", "duration_ms", "form")
    __match_args__ = ("status", "data", "artifacts", "events", "error", "duration_ms", "version", "value")
    data: Mapping[str, Any]
    duration_ms: float | None
    form: Form
    if TYPE_CHECKING:
        status: StageStatus
        artifacts: Sequence[StageArtifact]
        events: Sequence[StageEvent]
        error: str | None
        version: str | None
        value: Any
    else:
        status = property(attrgetter("form.status"))
        artifacts = property(attrgetter("form.artifacts"))
        events = property(attrgetter("form.events"))
        error = property(attrgetter("form.error"))
        version = property(attrgetter("form.version"))
        value = property(attrgetter("form.value"))

    def __new__(
        cls,
        status: StageStatus,
        data: Mapping[str, Any] | None = None,
        artifacts: Sequence[StageArtifact] = (),
        events: Sequence[StageEvent] = (),
        error: str | None = None,
        duration_ms: float | None = None,
        version: str | None = None,
        value: Any = NO_VALUE,
    ) -> StageOutput:
        """Check the fields and keep them."""
        if status.__class__ is not StageStatus:
            status = _status(status)
        if artifacts != ():
            artifacts = _items("artifacts", artifacts, StageArtifact)
        if events != ():
            events = _items("events", events, StageEvent)
        if data is None:
            data = {}
        elif data.__class__ is not dict and not isinstance(data, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise wrong_type("StageOutput", "data", "a mapping of names to values", data)
        return output_of(Form(status, artifacts, events, error, version, value), data, duration_ms)

    @classmethod
    def ok(
        cls, data: Mapping[str, Any] | None = None, *, version: str | None = None, **more: Any
    ) -> StageOutput:
        """The stage did its work; *data* and the keywords together are what it hands over."""
        if data is None:
            data = more
        elif more:
            data = {**_mapping("ok", data), **more}
        elif data.__class__ is not dict:
            data = _mapping("ok", data)
        return output_of(PLAIN if version is None else Form(_OK, version=version), data)

    @classmethod
    def skip(
        cls, reason: str = "", data: Mapping[str, Any] | None = None, *, version: str | None = None
    ) -> StageOutput:
        """The stage had nothing to do. Dependants still run and find *reason* under ``"reason"``."""
        return cls(_SKIP, {"reason": reason, **_mapping("skip", data)}, version=version)

    @classmethod
    def cancel(
        cls, reason: str = "", data: Mapping[str, Any] | None = None, *, version: str | None = None
    ) -> StageOutput:
        """End the whole run, gracefully, for *reason*."""
        return cls(_CANCEL, {"cancel_reason": reason, **_mapping("cancel", data)}, version=version)

    @classmethod
    def fail(
        cls,
        error: str | None = None,
        data: Mapping[str, Any] | None = None,
        *,
        response: str | None = None,
        version: str | None = None,
    ) -> StageOutput:
        """The stage failed. *response* is another name for *error*."""
        return cls(_FAIL, data, error=error or response or "Unknown error", version=version)

    @classmethod
    def retry(
        cls,
        error: str,
        data: Mapping[str, Any] | None = None,
        *,
        version: str | None = None,
        retry_after: float | None = None,
    ) -> StageOutput:
        """Ask for another attempt, and say thereby that to repeat the stage is safe.

        Args:
            error: Why this attempt was not enough.
            data: What to remember of it.
            version: See the class.
            retry_after: The shortest wait before the next attempt, in seconds.
        """
        if retry_after is not None:
            data = {**_mapping("retry", data), "retry_after": retry_after}
        return cls(_RETRY, data, error=error, version=version)

    def with_duration(self, duration_ms: float) -> StageOutput:
        """Return a copy that took *duration_ms* milliseconds."""
        return self.settled(self.data, duration_ms)

    def with_version(self, version: str) -> StageOutput:
        """Return a copy with another *version*."""
        return self.__replace__(version=version)

    def settled(self, data: Mapping[str, Any], duration_ms: float | None) -> StageOutput:
        """Return a copy with other *data* and duration: what a run keeps when the stage has ended."""
        return output_of(self.form, data, duration_ms)


def output_of(form: Form, data: Mapping[str, Any], duration_ms: float | None = None) -> StageOutput:
    """Put an output together, unchecked."""
    fields: Any = _Fields()
    fields.form = form
    fields.data = data
    fields.duration_ms = duration_ms
    fields.__class__ = StageOutput
    output: StageOutput = fields
    return output


def _mapping(factory: str, data: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if data is None:
        return {}
    check_type(f"StageOutput.{factory}", "data", data, Mapping, "a mapping of names to values")
    return data


def _status(status: object) -> StageStatus:
    try:
        return StageStatus(cast("str", status))  # what is no status raises
    except (ValueError, RecursionError):  # the latter: Python shows the value, however deep it is
        raise wrong_value("StageOutput", "status", "is no StageStatus", status) from None


def _items(name: str, items: Any, kind: type[T]) -> tuple[T, ...]:
    whole: Any = items  # not narrowed: what it holds is checked one by one
    if items is None:
        return ()
    if not isinstance(items, Iterable) or isinstance(items, (str, bytes, Mapping)):
        raise wrong_type("StageOutput", name, f"a sequence of {kind.__name__}", whole)
    members: tuple[T, ...] = tuple(whole)
    for member in members:
        check_type("StageOutput", name, member, kind, f"a sequence of {kind.__name__}")
    return members
