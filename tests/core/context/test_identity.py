"""``RunIdentity``: whose run it is."""

import copy
import dataclasses
import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stageflow.context import ArgumentTypeError, ArgumentValueError, ReadOnlyFieldError, RunIdentity
from stageflow.errors import ReadOnlyDataError

FIELDS = ("pipeline_run_id", "request_id", "session_id", "user_id", "org_id", "interaction_id", "created_at")
# Offsets, as ISO 8601 has them: in a named zone's repeated hour, Python holds no two times equal.
ZONES = st.none() | st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
IDENTITIES = st.builds(RunIdentity, *[st.none() | st.uuids()] * 6, st.datetimes(timezones=ZONES))


def test_all_ids_default_to_none_and_the_time_to_now() -> None:
    before = datetime.now(UTC)
    ids = RunIdentity()
    assert [getattr(ids, name) for name in FIELDS[:-1]] == [None] * 6
    assert before <= ids.created_at <= datetime.now(UTC)
    assert ids.created_at.tzinfo is UTC


def test_the_order_of_the_arguments_is_the_published_one() -> None:
    values = [UUID(int=number) for number in range(6)]
    created_at = datetime(2020, 1, 1, tzinfo=UTC)
    ids = RunIdentity(*values, created_at)
    assert [getattr(ids, name) for name in FIELDS] == [*values, created_at]


@given(IDENTITIES)
def test_round_trips(ids: RunIdentity) -> None:
    assert RunIdentity.from_dict(ids.to_dict()) == ids
    assert pickle.loads(pickle.dumps(ids)) == ids
    assert copy.copy(ids) == copy.deepcopy(ids) == ids
    assert hash(copy.copy(ids)) == hash(ids)
    assert all(value is None or isinstance(value, str) for value in ids.to_dict().values())


def test_from_dict_takes_uuids_and_ignores_other_keys() -> None:
    user = uuid4()
    assert RunIdentity.from_dict({"user_id": user, "color": "red"}).user_id == user


@pytest.mark.parametrize("name", FIELDS)
def test_it_is_read_only(name: str) -> None:
    ids = RunIdentity()
    with pytest.raises(ReadOnlyFieldError, match=f"RunIdentity is read-only; its {name}") as caught:
        setattr(ids, name, None)
    assert isinstance(caught.value, AttributeError)
    assert isinstance(caught.value, ReadOnlyDataError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    with pytest.raises(ReadOnlyFieldError):
        delattr(ids, name)
    with pytest.raises(ReadOnlyFieldError):
        ids.extra = 1


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", ["x", 7, b"", object(), float("nan")])
def test_wrong_types_are_named(name: str, value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=rf"RunIdentity\({name}=\.\.\.\) takes") as caught:
        RunIdentity(**{name: value})
    assert isinstance(caught.value, TypeError)
    assert (caught.value.owner, caught.value.argument) == ("RunIdentity", name)


@pytest.mark.parametrize("data", [{"user_id": "ada"}, {"org_id": "x" * 1_000_000}, {"created_at": "soon"}])
def test_text_that_does_not_parse_is_named(data: dict[str, Any]) -> None:
    with pytest.raises(ArgumentValueError, match=next(iter(data))) as caught:
        RunIdentity.from_dict(data)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("data", [None, "x", 7, ["user_id"], {"user_id": 7}, {"created_at": 7}])
def test_from_dict_names_wrong_types(data: Any) -> None:
    with pytest.raises(ArgumentTypeError):
        RunIdentity.from_dict(data)


def test_with_pipeline_run_id_keeps_the_rest() -> None:
    ids = RunIdentity(user_id=uuid4(), created_at=datetime.now(UTC) - timedelta(days=1))
    run = uuid4()
    changed = ids.with_pipeline_run_id(run)
    assert changed == dataclasses.replace(ids, pipeline_run_id=run)
    assert changed.pipeline_run_id == run
    assert ids.pipeline_run_id is None
    assert changed.created_at == ids.created_at


def test_equality_is_by_value_and_class() -> None:
    created_at = datetime.now(UTC)
    assert RunIdentity(created_at=created_at) == RunIdentity(created_at=created_at)
    assert RunIdentity(created_at=created_at) != RunIdentity(user_id=uuid4(), created_at=created_at)
    assert RunIdentity() != 7


def test_the_functions_of_dataclasses_know_it() -> None:
    """In 0.9 it was a dataclass, and users call ``dataclasses.replace``."""
    assert dataclasses.is_dataclass(RunIdentity)
    assert tuple(field.name for field in dataclasses.fields(RunIdentity())) == FIELDS
    assert tuple(dataclasses.asdict(RunIdentity())) == FIELDS
    match RunIdentity(UUID(int=3)):
        case RunIdentity(UUID(int=number)):
            assert number == 3
