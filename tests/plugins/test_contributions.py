"""Records check themselves, and say what is wrong with them."""

import dataclasses
import pickle

import pytest
from stageflow import plugins
from stageflow.errors import ContributionInvalidError
from stageflow.plugins import (
    CheckContribution,
    CommandContribution,
    Contribution,
    InterceptorContribution,
    RunStoreContribution,
    SettingsContribution,
    SinkContribution,
    StageContribution,
)
from stageflow.plugins.hookspecs import HOOKS

RECORDS = sorted(
    {record for records in HOOKS.values() for record in records}, key=lambda record: record.__name__
)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_records_are_frozen_keyword_only_and_public(record):
    assert record.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(record))
    assert issubclass(record, Contribution)
    assert getattr(plugins, record.__name__) is record


@pytest.mark.parametrize(
    ("make", "what", "fix"),
    [
        (
            lambda: SinkContribution(name="a.b.c", target="m:x"),
            "'a.b.c' is not a name for a sink",
            "Write 'owner.thing', both of lower-case letters, digits, '-' and '_', starting with a letter",
        ),
        (
            lambda: SinkContribution(name="a.b", target="m.x"),
            "The target 'm.x' of sink 'a.b' does not have the form 'module:attribute'",
            "Write the import string as 'package.module:attribute'",
        ),
        (
            lambda: SinkContribution(name="a.b", target=7),
            "The target of sink 'a.b' is 7, neither an import string nor callable",
            "Give an import string, 'package.module:attribute', or the callable itself",
        ),
        (
            lambda: StageContribution(name="a.b", target="m:x", kind="wrok"),
            "stage 'a.b' has the unknown kind 'wrok'",
            "Did you mean 'work'?",
        ),
        (
            lambda: InterceptorContribution(name="a.b", target="m:x", priority="1"),
            "interceptor 'a.b' has the priority '1'",
            "Give a whole number",
        ),
        (
            lambda: InterceptorContribution(name="a.b", target="m:x", before="timeout"),
            "before='timeout' of interceptor 'a.b' is not a tuple",
            "Write before=('name',), with the comma",
        ),
        (
            lambda: InterceptorContribution(name="a.b", target="m:x", after=("a.b",)),
            "after=('a.b',) of interceptor 'a.b' names itself",
            "Take 'a.b' out",
        ),
        (
            lambda: RunStoreContribution(scheme="db://", target="m:x"),
            "'db://' is not a URL scheme",
            "Write what stands in front of '://', in lower case",
        ),
        (
            lambda: SettingsContribution(section="My", model="m:x"),
            "'My' is not a name for a settings section",
            (
                "Write the plugin's name, or 'owner.thing', both of lower-case letters, digits, '-' and '_', "
                "starting with a letter"
            ),
        ),
        (
            lambda: CommandContribution(name="a.b", target="m:x", summary="two\nlines"),
            "command 'a.b' has the summary 'two\\nlines'",
            "Give one line of text",
        ),
        (
            lambda: CheckContribution(name="a.b", target="m:x", summary=" "),
            "check 'a.b' has the summary ' '",
            "Give one line of text",
        ),
    ],
    ids=[
        "name",
        "string",
        "object",
        "kind",
        "priority",
        "tuple",
        "itself",
        "scheme",
        "section",
        "lines",
        "blank",
    ],
)
def test_a_record_refuses_fields_that_break_its_contract(make, what, fix):
    with pytest.raises(ContributionInvalidError) as caught:
        make()
    assert (caught.value.what, caught.value.fix) == (what, fix)


@pytest.mark.parametrize(
    ("name", "plugin", "problem"),
    [
        ("acme.x", "acme", None),
        ("timeout", "core", None),
        (
            "core.x",
            "core",
            ("sink 'core.x' is of the core, whose names are bare", "Leave out the part before the dot"),
        ),
        ("x", "acme", ("sink 'x' has a bare name, which only the core may use", "Name it 'acme.x'")),
        ("b.x", "acme", ("sink 'b.x' belongs to plugin 'b', not to 'acme'", "Name it 'acme.x'")),
    ],
)
def test_names_belong_to_their_owner(name, plugin, problem):
    assert SinkContribution(name=name, target="m:x").ownership_problem(plugin) == problem


@pytest.mark.parametrize(
    ("section", "owned"), [("acme", True), ("acme.more", True), ("b", False), ("b.acme", False)]
)
def test_a_section_is_its_plugins_name_or_below_it(section, owned):
    assert (SettingsContribution(section=section, model=dict).ownership_problem("acme") is None) is owned


def test_a_target_resolves_from_a_string_or_is_the_callable_itself():
    assert SinkContribution(name="a.b", target="math:sqrt").resolve("a test")(4.0) == 2.0
    assert SinkContribution(name="a.b", target=len).resolve("a test") is len


def test_records_pickle_and_compare():
    record = StageContribution(name="a.b", target="m:x", kind="work", summary="x")
    assert pickle.loads(pickle.dumps(record)) == record


def test_kinds_are_those_of_stages():
    from stageflow.plugins.contributions import _KINDS
    from stageflow.stages.stage import StageKind

    assert sorted(kind.value for kind in StageKind) == list(_KINDS)
    assert StageContribution(name="a.b", target="m:x", kind=StageKind.WORK).kind == "work"
