"""What kind of trouble an error is, and its summary."""

from __future__ import annotations

import errno
import pickle
import socket

import pytest
from stageflow import errors
from stageflow.errors import (
    CircuitBreakerOpenError,
    CriticalInterceptorError,
    ErrorClass,
    LogicError,
    PermanentError,
    PipelineCancelled,
    PolicyError,
    RateLimitError,
    RunError,
    RunTimeoutError,
    ServiceUnavailableError,
    StageExecutionError,
    StageflowError,
    StageTimeoutError,
    SystemicError,
    TransientError,
)
from stageflow.observability.error_summary import (
    error_summary_to_stages_patch,
    error_summary_to_string,
    summarize_pipeline_error,
)
from stageflow.observability.taxonomy import classify, is_retryable, recognise

TRANSIENT, PERMANENT, LOGIC, SYSTEMIC, POLICY = ErrorClass


class Answer:
    def __init__(self, status: object) -> None:
        self.status_code = status


class StatusError(Exception):
    def __init__(self, status: object) -> None:
        self.status_code = status


class ResponseError(Exception):
    def __init__(self, status: object) -> None:
        self.response = Answer(status)


class SayingError(Exception):
    def __init__(self, error_class: object) -> None:
        self.error_class = error_class


OURS = [
    (TransientError("x"), TRANSIENT, "SF-RUN-TRANSIENT"),
    (RateLimitError("x"), TRANSIENT, "SF-RUN-RATE-LIMIT"),
    (ServiceUnavailableError("x"), TRANSIENT, "SF-RUN-SERVICE-UNAVAILABLE"),
    (PermanentError("x"), PERMANENT, "SF-RUN-PERMANENT"),
    (LogicError("x"), LOGIC, "SF-RUN-LOGIC"),
    (SystemicError("x"), SYSTEMIC, "SF-RUN-SYSTEMIC"),
    (PolicyError("x"), POLICY, "SF-RUN-POLICY"),
    (CriticalInterceptorError("x", "auth"), PERMANENT, "SF-RUN-INTERCEPTOR"),
    (CircuitBreakerOpenError("x", "y"), SYSTEMIC, "SF-RUN-CIRCUIT-OPEN"),
]


@pytest.mark.parametrize(("error", "kind", "code"), OURS, ids=lambda value: type(value).__name__)
def test_ours(error: RunError, kind: ErrorClass, code: str):
    assert isinstance(error, RunError)
    assert (error.code, error.error_class, classify(error)) == (code, kind, kind)
    assert error.retryable is is_retryable(error) is (kind is TRANSIENT)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_every_class_of_ours_has_a_kind():
    for name in errors.__all__:
        cls = getattr(errors, name)
        if isinstance(cls, type) and issubclass(cls, StageflowError):
            assert isinstance(cls.error_class, ErrorClass), name


def test_rate_limit_knows_when():
    assert RateLimitError("429").retry_after is None
    assert RateLimitError("429", 2.5).retry_after == 2.5
    assert RateLimitError("429", retry_after=2.5, fix="Wait").fix == "Wait"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(), TRANSIENT),
        (ConnectionResetError(), TRANSIENT),
        (OSError(errno.EHOSTUNREACH, "no route"), TRANSIENT),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), TRANSIENT),
        (StatusError(429), TRANSIENT),
        (StatusError(503), TRANSIENT),
        (ResponseError(408), TRANSIENT),
        (StageTimeoutError("s", 1), TRANSIENT),
        (RunTimeoutError(1), TRANSIENT),
        (MemoryError(), SYSTEMIC),
        (ModuleNotFoundError(), SYSTEMIC),
        (OSError(errno.ENOSPC, "disk full"), SYSTEMIC),
        (errors.ConfigurationError("x"), SYSTEMIC),
        (PermissionError(), POLICY),
        (StatusError(401), POLICY),
        (ResponseError(403), POLICY),
        (TypeError(), LOGIC),
        (KeyError(), LOGIC),
        (RecursionError(), LOGIC),
        (NotImplementedError(), LOGIC),
        (errors.CycleDetectedError(["a", "a"]), LOGIC),
        (StatusError(422), PERMANENT),
        (ValueError(), PERMANENT),
        (FileNotFoundError(errno.ENOENT, "no such file"), PERMANENT),
        (RuntimeError(), PERMANENT),
        (PipelineCancelled("s", "why"), PERMANENT),
        (SayingError("policy"), POLICY),
        (SayingError(SYSTEMIC), SYSTEMIC),
        (SayingError("nonsense"), PERMANENT),
        (SayingError(7), PERMANENT),
        (StatusError("429"), PERMANENT),
        (StatusError(200), PERMANENT),
        (ExceptionGroup("g", [TimeoutError(), ConnectionError()]), TRANSIENT),
        (ExceptionGroup("g", [TimeoutError(), KeyError()]), LOGIC),
        (ExceptionGroup("g", [TimeoutError(), RuntimeError()]), PERMANENT),
        (StageExecutionError("s", ConnectionError()), TRANSIENT),
        (StageExecutionError("outer", StageExecutionError("inner", PolicyError("x"))), POLICY),
        (KeyboardInterrupt(), PERMANENT),
    ],
    ids=repr,
)
def test_classify(error: BaseException, kind: ErrorClass):
    assert classify(error) is kind
    assert is_retryable(error) is (kind is TRANSIENT)


def test_recognise_admits_not_to_know():
    assert recognise(RuntimeError()) is None
    assert recognise(OSError("no number")) is None


def test_a_stage_error_is_what_was_raised_in_the_stage():
    wrapped = StageExecutionError("s", RateLimitError("429"), recoverable=True)
    assert (wrapped.error_class, wrapped.retryable) == (TRANSIENT, True)
    assert StageExecutionError("s", ValueError()).retryable is False


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (TimeoutError("slow"), "TIMEOUT", True),
        (StageTimeoutError("s", 1), "TIMEOUT", True),
        (RunTimeoutError(1), "TIMEOUT", True),
        (CircuitBreakerOpenError("x", "y"), "CIRCUIT_OPEN", True),
        (RuntimeError("the Circuit Breaker of acme is open"), "CIRCUIT_OPEN", True),
        (ValueError("x"), "UNKNOWN", False),
        (RuntimeError("x"), "UNKNOWN", False),
        (ConnectionError("x"), "TRANSIENT", True),
        (KeyError("x"), "LOGIC", False),
        (MemoryError("x"), "SYSTEMIC", False),
        (PermissionError("x"), "POLICY", False),
        (RateLimitError("x"), "SF-RUN-RATE-LIMIT", True),
        (PolicyError("x"), "SF-RUN-POLICY", False),
        (PipelineCancelled("s", "why"), "SF-RUN-CANCELLED", False),
    ],
    ids=repr,
)
def test_summary(error: Exception, code: str, retryable: bool):  # noqa: FBT001 - the expected value
    summary = summarize_pipeline_error(error)
    assert list(summary) == ["code", "type", "message", "retryable"]
    assert (summary["code"], summary["retryable"]) == (code, retryable)
    assert summary["type"] == type(error).__name__
    assert summarize_pipeline_error(StageExecutionError("s", error)) == {**summary, "stage": "s"}


def test_summary_is_short():
    assert len(summarize_pipeline_error(ValueError("x" * 1_000_000))["message"]) == 500


def test_summary_of_a_nested_run_names_the_stage_of_this_run():
    nested = StageExecutionError("outer", StageExecutionError("inner", TimeoutError("slow")))
    assert summarize_pipeline_error(nested)["stage"] == "outer"
    assert summarize_pipeline_error(nested)["code"] == "TIMEOUT"


def test_summary_as_text_and_patch():
    summary = summarize_pipeline_error(TimeoutError("slow"))
    assert error_summary_to_string(summary) == "TIMEOUT: slow"
    assert error_summary_to_string({}) == "UNKNOWN:"
    assert error_summary_to_stages_patch(summary) == {"failure": {"error": summary}}
