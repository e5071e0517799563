"""Work with an idempotency key is done once: its duplicates get the result of the first."""

from __future__ import annotations

from threading import Lock
from time import time
from typing import TYPE_CHECKING, Any, Final, final

from stageflow.context.frozen import freeze
from stageflow.errors import RunError, shown
from stageflow.interceptors.base import BaseInterceptor
from stageflow.stages.output import StageOutput
from stageflow.stages.stage import StageKind, StageStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from stageflow.interceptors.base import InterceptorContext
    from stageflow.interceptors.idempotency_claim import ClaimHold
    from stageflow.interceptors.idempotency_store import IdempotencyStore, ResultStore
    from stageflow.stages.context import RunScope

__all__ = ["REPLAYED", "IdempotencyInterceptor", "IdempotencyParamMismatch", "params_hash", "scoped_key"]

REPLAYED: Final = "idempotency.replayed"
"""The event that says that a stage was given the result of an earlier or concurrent one."""

_making = Lock()


class IdempotencyParamMismatch(RunError):  # noqa: N818 - the published name
    """An idempotency key came a second time, with other parameters than the first.

    Args:
        key: The idempotency key.
        expected: The hash of the parameters that the work was done with; None if there were none.
        actual: The hash of those that came now.

    ```python
    from stageflow.interceptors.idempotency import IdempotencyParamMismatch

    print(IdempotencyParamMismatch("order-7", "aa", "bb").what)
    #> Idempotency key 'order-7' was used before, with other parameters
    ```
    """

    code = "SF-RUN-IDEMPOTENCY-MISMATCH"

    def __init__(self, key: str, expected: str | None, actual: str | None, *, stage: str = "") -> None:
        self.key = key
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"Idempotency key {shown(key)} was used before, with other parameters",
            where=f"stage {stage!r}" if stage else "",
            fix="Use a new key for new work, or repeat the work with the parameters of the first time",
        )


@final
class IdempotencyInterceptor(BaseInterceptor):
    """Runs a WORK stage once for each idempotency key, and gives its result to every duplicate.

    The key is the caller's: ``run(data={"idempotency_key": "order-7", "idempotency_params": {...}})``. It counts
    within its tenant (``org_id``), pipeline and stage. A run without a key, and stages of other kinds, pass through.

    - Only what the stage itself has done is kept: an OK output. Failures, denials, skips and cancellations are not.
    - Duplicates that come while the first is at work wait for it and share its result; if it fails or is cancelled,
      one of them takes over. Their own time limits run meanwhile.
    - The result holds the data, the value and the artifacts. The events of the output are not emitted again, as they
      say what happened once; an ``idempotency.replayed`` event is.
    - A holder that died leaves a claim that expires; one that is alive renews it.

    Args:
        store: Where results are kept: an ``IdempotencyStore``, or a store of 0.9, which gets claims within this
            process. None makes a store of the interceptor's own, in memory: graphs that are to collapse each other's
            duplicates must share one.
        key_extractor: Returns the key from the interceptor's context, in place of ``ctx.data["idempotency_key"]``.
        params_extractor: Returns the parameters, in place of ``ctx.data["idempotency_params"]``.
        ttl_seconds: How long a result is kept.
        validate_params: Whether the same key with other parameters is an error.
        claim_ttl_seconds: How long a claim outlasts a holder that died.

    Raises:
        ArgumentTypeError: An argument has another type.
        ArgumentValueError: A duration is not a positive number.

    ```python
    import asyncio

    from stageflow import Pipeline, StageKind, StageOutput
    from stageflow.interceptors.idempotency import IdempotencyInterceptor

    charged = []


    async def charge(ctx):
        charged.append(ctx.input_text)
        return StageOutput.ok(receipt=len(charged))


    pipeline = Pipeline("checkout").with_stage("charge", charge, StageKind.WORK)
    graph = pipeline.build(interceptors=[IdempotencyInterceptor()])


    async def main():
        order = {"idempotency_key": "order-7"}
        both = await asyncio.gather(graph.run(data=order), graph.run(data=order))
        print([results["charge"].data for results in both], len(charged))
        #> [{'receipt': 1}, {'receipt': 1}] 1


    asyncio.run(main())
    ```
    """

    name = "idempotency"
    priority = 4

    def __init__(
        self,
        *,
        store: IdempotencyStore | ResultStore | None = None,
        key_extractor: Callable[[InterceptorContext], object] | None = None,
        params_extractor: Callable[[InterceptorContext], object] | None = None,
        ttl_seconds: float = 86_400,
        validate_params: bool = True,
        claim_ttl_seconds: float = 60,
    ) -> None:
        self._store: IdempotencyStore | None = None
        if store is not None:
            from stageflow.interceptors.idempotency_store import as_idempotency_store

            self._store = as_idempotency_store(store)
        self.ttl_seconds = _duration("ttl_seconds", ttl_seconds)
        self.claim_ttl_seconds = _duration("claim_ttl_seconds", claim_ttl_seconds)
        self.validate_params = validate_params
        self._key_of = _callable("key_extractor", key_extractor) or _key_in_data
        self._params_of = _callable("params_extractor", params_extractor) or _params_in_data

    @property
    def store(self) -> IdempotencyStore:
        """Where results are kept. A store of the interceptor's own is made when the first key comes."""
        if self._store is None:
            from stageflow.interceptors.idempotency_store import InMemoryIdempotencyStore

            with _making:  # runs on several threads share one
                if self._store is None:
                    self._store = InMemoryIdempotencyStore()
        return self._store

    @property
    def finds_keys(self) -> bool:
        """Whether runs may have keys that are not in their data: then stages whose effect is final may be repeated."""
        return self._key_of is not _key_in_data

    def attach(self, run: RunScope, outer: Sequence[BaseInterceptor]) -> bool:
        """Take part where there is a key, or somebody further out may come up with one."""
        return bool(outer) or "idempotency_key" in run.data or self.finds_keys

    async def around(
        self, stage_name: str, call: Callable[[], Awaitable[StageOutput]], ctx: InterceptorContext
    ) -> StageOutput:
        """Do the work, or return what it has given before."""
        if ctx.kind is not StageKind.WORK:
            return await call()
        key = _checked_key(self._key_of(ctx))
        if key is None:
            return await call()
        from stageflow.interceptors.idempotency_claim import ClaimHold
        from stageflow.interceptors.idempotency_store import CachedStageResult

        hashed = params_hash(self._params_of(ctx)) if self.validate_params else None
        scope = scoped_key(org_id=ctx.org_id, pipeline=ctx.pipeline, stage=stage_name, key=key)
        async with ClaimHold(self.store, scope, ttl_seconds=self.claim_ttl_seconds) as hold:
            if hold.result is not None:
                if self.validate_params and hold.result.params_hash != hashed:
                    raise IdempotencyParamMismatch(key, hold.result.params_hash, hashed, stage=stage_name)
                return _replayed(hold, ctx)
            output = await call()
            if output.status is StageStatus.OK and _by_the_stage(ctx):
                # Frozen here and not only when the stage ends: another run may have it before that.
                output = output.settled(freeze(output.data), output.duration_ms)
                entry = CachedStageResult(output, hashed, time() + self.ttl_seconds)
                await hold.complete(entry, ttl_seconds=self.ttl_seconds)
            return output


def scoped_key(*, org_id: object, pipeline: str, stage: str, key: str) -> str:
    """Return the key under which a store keeps the result: 64 hexadecimal digits, for any length of *key*.

    ```python
    from stageflow.interceptors.idempotency import scoped_key

    print(scoped_key(org_id=None, pipeline="checkout", stage="charge", key="order-7")[:16])
    #> e4c47383e02dbce5
    ```
    """
    import json

    tenant = None if org_id is None else str(org_id)
    return _sha256(json.dumps([tenant, pipeline, stage, key]))


def params_hash(params: object) -> str | None:
    """Return the hash of parameters, which does not depend on the order of keys; None for None.

    Raises:
        ArgumentTypeError: They hold something that is not plain data.

    ```python
    from stageflow.interceptors.idempotency import params_hash

    print(params_hash({"a": 1, "b": 2}) == params_hash({"b": 2, "a": 1}))
    #> True
    ```
    """
    import json

    if params is None:
        return None
    try:
        return _sha256(json.dumps(params, sort_keys=True, allow_nan=False, default=_plain))
    except (TypeError, ValueError, RecursionError) as exc:
        from stageflow.context.checks import ArgumentTypeError

        raise ArgumentTypeError(
            "IdempotencyInterceptor",
            "idempotency_params",
            f"are no plain data: {exc}",
            fix="Pass what JSON can say, UUIDs, times and decimals, or a params_extractor that makes such of them",
        ) from exc


def _sha256(text: str) -> str:
    from hashlib import sha256

    return sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    """Return what stands for *value* in the hash; only types whose text says all there is of them."""
    from datetime import date, time
    from decimal import Decimal
    from enum import Enum
    from uuid import UUID

    if isinstance(value, (date, time)):  # a datetime is a date
        return [type(value).__name__, value.isoformat()]
    if isinstance(value, (UUID, Decimal)):
        return [type(value).__name__, str(value)]
    if isinstance(value, Enum):
        return [type(value).__name__, value.name]
    if isinstance(value, bytes):
        return ["bytes", value.hex()]
    msg = f"{type(value).__name__} has no stable text"
    raise TypeError(msg)


def _key_in_data(ctx: InterceptorContext) -> object:
    return ctx.data.get("idempotency_key")


def _params_in_data(ctx: InterceptorContext) -> object:
    return ctx.data.get("idempotency_params")


def _checked_key(value: object) -> str | None:
    """Return a key as text. An empty one is refused: whoever sent it believes to be protected."""
    if value is None:
        return None
    if isinstance(value, (str, int)) or type(value).__name__ == "UUID":
        key = str(value)
        if key and not isinstance(value, bool):
            return key
    from stageflow.context.checks import wrong_type, wrong_value

    owner, argument = "IdempotencyInterceptor", "idempotency_key"
    if value == "":
        raise wrong_value(owner, argument, "must not be empty", value)
    raise wrong_type(owner, argument, "a str, an int or a UUID", value)


def _by_the_stage(ctx: InterceptorContext) -> bool:
    """Return whether the stage itself has come to an OK end: a fallback or a short-circuit is not its work."""
    body = ctx.body_output
    return body is not None and body.status is StageStatus.OK


def _replayed(hold: ClaimHold, ctx: InterceptorContext) -> StageOutput:
    from stageflow.interceptors.chain import as_output

    assert hold.result is not None  # noqa: S101 - it was asked before
    output = as_output(ctx.stage.stage_name, hold.result.result)
    ctx.add_observation("replayed", value=True)
    ctx.try_emit_event(REPLAYED, {"waited": hold.waited})
    return StageOutput(
        output.status,
        output.data,
        output.artifacts,
        (),
        output.error,
        output.duration_ms,
        output.version,
        output.value,
    )


def _callable(argument: str, value: Callable[[InterceptorContext], object] | None) -> Any:
    if value is not None and not callable(value):
        from stageflow.context.checks import wrong_type

        raise wrong_type("IdempotencyInterceptor", argument, "a callable or None", value)
    return value


def _duration(argument: str, value: object) -> float:
    from stageflow.context.checks import number_of

    return number_of(
        "IdempotencyInterceptor",
        argument,
        value,
        expects="seconds as a number",
        problem="must be more than zero seconds",
        positive=True,
    )
