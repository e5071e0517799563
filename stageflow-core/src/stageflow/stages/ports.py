"""Ports: what a run injects into its stages, such as database handles, providers and ways to send.

Anything may be passed as ``run(ports=...)``. These are ports with names that applications agree on: ``CorePorts``,
``LLMPorts`` and ``AudioPorts`` have a part each, and ``StagePorts`` is all three of them.

```python
import asyncio

from stageflow import Pipeline, StageContext, stage
from stageflow.stages.ports import create_stage_ports


@stage
async def answer(ctx: StageContext) -> str:
    ports = ctx.inputs.ports
    return f"{ports.require('llm_provider')} greets {ports.db['user']}"


ports = create_stage_ports(db={"user": "Ada"}, llm_provider="acme")
print(asyncio.run(Pipeline.from_stages(answer).run(ports=ports)).value(answer))
#> acme greets Ada
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, dataclass_transform, final

from stageflow.context.checks import ArgumentTypeError, check_type, shown, wrong_type
from stageflow.context.record import Record
from stageflow.errors import ConfigurationError, close_matches

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self

__all__ = [
    "AudioPorts",
    "CorePorts",
    "LLMPorts",
    "StagePorts",
    "create_audio_ports",
    "create_core_ports",
    "create_llm_ports",
    "create_stage_ports",
]

P = ParamSpec("P")
T = TypeVar("T")

_CALLED: Final = ("send_status", "send_token", "send_audio_chunk", "send_transcript", "retry_fn")


@dataclass_transform(kw_only_default=True, frozen_default=True)
class _Ports(Record):
    """What all ports have in common: each is an annotated attribute, and None unless it was given."""

    def __init_subclass__(cls) -> None:
        bases = [base for base in cls.__mro__ if issubclass(base, _Ports) and base is not _Ports]
        names = tuple(name for base in bases for name in base.__annotations__)
        cls.__match_args__ = names  # type: ignore[misc]  # mypy believes that it makes them itself
        cls.__dataclass_fields__ = vars(Record)["__dataclass_fields__"]  # not those of the base

    if not TYPE_CHECKING:  # the checkers make the constructor of each class from its attributes

        def __init__(self, *in_order: Any, **given: Any) -> None:
            # Positions are for programs that were written for 0.9; the checkers want keywords.
            for name, port in zip(self.__match_args__, in_order, strict=False):
                if name in given:
                    raise self._wrong(name, "is given twice")
                given[name] = port
            if len(in_order) > len(self.__match_args__):
                raise self._wrong("*", f"takes {len(self.__match_args__)} ports, not {len(in_order)}")
            for name in given:
                self._check(name)
            for name in _CALLED:
                if given.get(name) is not None and not callable(given[name]):
                    raise wrong_type(type(self).__name__, name, "a callable or None", given[name])
            self.__dict__.update(given)

    def require(self, port: str) -> Any:
        """Return a port that a stage cannot do without.

        Raises:
            ArgumentTypeError: There is no such port.
            ConfigurationError: The run was started without it.
        """
        self._check(port)
        value = getattr(self, port)
        if value is None:
            msg = f"A stage needs the port {shown(port)}, and the run was started without it"
            raise ConfigurationError(msg, fix=f"Pass it: run(ports={type(self).__name__}({port}=...))")
        return value

    def _check(self, port: str) -> None:
        check_type(f"{type(self).__name__}.require", "port", port, str, "a str")
        if port not in self.__match_args__:
            raise self._wrong(port, "is not known")

    def _wrong(self, port: str, problem: str) -> ArgumentTypeError:
        known = self.__match_args__
        fix = f"{close_matches(port, known)} There are {', '.join(known)}"
        return ArgumentTypeError(type(self).__name__, port, problem, fix=fix.strip())

    def __replace__(self, **changes: Any) -> Self:
        return type(self)(**{**self.__dict__, **changes})

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.__dict__)

    def __repr__(self) -> str:
        # Which ports there are, and not what they are: a handle may show its password.
        given = [name for name in self.__match_args__ if getattr(self, name) is not None]
        return f"<{type(self).__name__}: {', '.join(given) or 'none'}>"


class CorePorts(_Ports):
    """The ports that any stage may want. Read-only.

    Attributes:
        db: A database session.
        db_lock: The lock around it, where stages that run side by side share it.
        call_logger_db: A session of their own for the loggers of provider calls.
        send_status: Tells the client how far a stage is: ``await send_status(stage, state, data)``.
        call_logger: The logger of provider calls.
        retry_fn: Repeats a call that failed.

    Raises:
        ArgumentTypeError: There is no such port, or what is to be called is no callable.

    ```python
    from stageflow.stages.ports import CorePorts

    ports = CorePorts(db="a session")
    print(ports.db, ports.call_logger, ports)
    #> a session None <CorePorts: db>
    ```
    """

    db: Any = None
    db_lock: Any = None
    call_logger_db: Any = None
    send_status: Callable[..., Awaitable[None]] | None = None
    call_logger: Any = None
    retry_fn: Callable[..., Any] | None = None


class LLMPorts(_Ports):
    """The ports of stages that ask a language model. Read-only.

    Attributes:
        llm_provider: The client of the model.
        chat_service: The application's own service around it.
        llm_chunk_queue: Where the pieces of an answer go as they come.
        send_token: Sends one piece to the client: ``await send_token(text)``.

    Raises:
        ArgumentTypeError: There is no such port, or what is to be called is no callable.

    ```python
    from stageflow.stages.ports import LLMPorts

    print(LLMPorts(llm_provider="acme").require("llm_provider"))
    #> acme
    ```
    """

    llm_provider: Any = None
    chat_service: Any = None
    llm_chunk_queue: Any = None
    send_token: Callable[..., Awaitable[None]] | None = None


class AudioPorts(_Ports):
    """The ports of stages that listen and speak. Read-only.

    Attributes:
        tts_provider: Turns text into speech.
        stt_provider: Turns speech into text.
        send_audio_chunk: Sends speech to the client: ``await send_audio_chunk(chunk, format, index, final)``.
        send_transcript: Sends what was said: ``await send_transcript(id, text, confidence, duration_ms)``.
        audio_data: What was recorded, in bytes.
        audio_format: Its format.
        tts_text_queue: Text that waits to be spoken.
        recording: The recording, as the application keeps it.

    Raises:
        ArgumentTypeError: There is no such port, or what is to be called is no callable.

    ```python
    from stageflow.stages.ports import AudioPorts

    print(AudioPorts(audio_data=b"RIFF", audio_format="wav"))
    #> <AudioPorts: audio_data, audio_format>
    ```
    """

    tts_provider: Any = None
    stt_provider: Any = None
    send_audio_chunk: Callable[..., Awaitable[None]] | None = None
    send_transcript: Callable[..., Awaitable[None]] | None = None
    audio_data: bytes | None = None
    audio_format: str | None = None
    tts_text_queue: Any = None
    recording: Any = None


@final
class StagePorts(CorePorts, LLMPorts, AudioPorts):
    """All ports at once, so that every stage of a run finds what it needs. Read-only.

    It is a ``CorePorts``, an ``LLMPorts`` and an ``AudioPorts``, which say what each port is for.

    Raises:
        ArgumentTypeError: There is no such port, or what is to be called is no callable.

    ```python
    from stageflow import LLMPorts, StagePorts

    ports = StagePorts(db="a session", llm_provider="acme")
    print(ports.db, ports.llm_provider, isinstance(ports, LLMPorts))
    #> a session acme True
    ```
    """

    @classmethod
    def of(cls, *parts: CorePorts | LLMPorts | AudioPorts) -> StagePorts:
        """Return the ports of all *parts* together.

        Raises:
            ArgumentTypeError: A part is none, or two parts have the same port.

        ```python
        from stageflow import StagePorts, create_core_ports, create_llm_ports

        print(StagePorts.of(create_core_ports(db="a session"), create_llm_ports(llm_provider="acme")))
        #> <StagePorts: db, llm_provider>
        ```
        """
        owner = "StagePorts.of"
        together: dict[str, Any] = {}
        for part in parts:
            check_type(owner, "parts", part, _Ports, "CorePorts, LLMPorts and AudioPorts")
            given = {name: port for name, port in vars(part).items() if port is not None}
            for name in together.keys() & given:
                raise ArgumentTypeError(
                    owner, name, "comes twice", fix=f"Leave {name} out of one of the parts"
                )
            together |= given
        return cls(**together)


def _again(cls: type[_Ports], given: dict[str, Any]) -> _Ports:
    return cls(**given)


def _takes_what(_cls: Callable[P, T]) -> Callable[[Callable[..., T]], Callable[P, T]]:
    """Let the checkers know that a factory takes what the class takes."""
    return lambda factory: factory


@_takes_what(CorePorts)
def create_core_ports(**ports: Any) -> CorePorts:
    """Make ``CorePorts``; see the class.

    ```python
    from stageflow import create_core_ports

    print(create_core_ports(db="a session").db)
    #> a session
    ```
    """
    return CorePorts(**ports)


@_takes_what(LLMPorts)
def create_llm_ports(**ports: Any) -> LLMPorts:
    """Make ``LLMPorts``; see the class.

    ```python
    from stageflow import create_llm_ports

    print(create_llm_ports(llm_provider="acme").llm_provider)
    #> acme
    ```
    """
    return LLMPorts(**ports)


@_takes_what(AudioPorts)
def create_audio_ports(**ports: Any) -> AudioPorts:
    """Make ``AudioPorts``; see the class.

    ```python
    from stageflow import create_audio_ports

    print(create_audio_ports(audio_format="wav").audio_format)
    #> wav
    ```
    """
    return AudioPorts(**ports)


@_takes_what(StagePorts)
def create_stage_ports(**ports: Any) -> StagePorts:
    """Make ``StagePorts``; see the class.

    ```python
    from stageflow import create_stage_ports
    from stageflow.context import ArgumentTypeError

    print(create_stage_ports(db="a session", audio_format="wav"))
    #> <StagePorts: db, audio_format>
    try:
        create_stage_ports(recordings=[])
    except ArgumentTypeError as error:
        print(error.fix.partition(" There")[0])
        #> Did you mean 'recording'?
    ```
    """
    return StagePorts(**ports)
