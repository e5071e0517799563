"""The order of interceptors: what always holds, and the messages when it cannot."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stageflow.errors import ContributionConflictError
from stageflow.plugins import Entry, InterceptorContribution, Provenance, order_interceptors

PLUGINS = ("acme", "beta", "core")


def entry(name: str, priority: int = 100, **wishes: tuple[str, ...]) -> Entry[InterceptorContribution]:
    plugin = name.partition(".")[0]
    provenance = Provenance(plugin=plugin, distribution=f"dist-{plugin}", version="1", module="m")
    return Entry(InterceptorContribution(name=name, target="m:I", priority=priority, **wishes), provenance)


def names(*entries: Entry[InterceptorContribution]) -> list[str]:
    return [each.contribution.name for each in order_interceptors(entries)]


@st.composite
def acyclic(draw: st.DrawFn) -> list[Entry[InterceptorContribution]]:
    """Interceptors whose wishes all point one way along a hidden order, so that they can be met."""
    things = draw(st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1))
    hidden = [f"{draw(st.sampled_from(PLUGINS))}.{thing}" for thing in things]
    return [
        entry(
            name,
            draw(st.integers(0, 3)),
            before=tuple(draw(st.lists(st.sampled_from(hidden[at + 1 :]), unique=True)))
            if hidden[at + 1 :]
            else (),
            after=tuple(draw(st.lists(st.sampled_from(hidden[:at]), unique=True))) if at else (),
        )
        for at, name in enumerate(hidden)
    ]


@given(acyclic(), st.randoms(use_true_random=False))
def test_wishes_hold_and_the_order_of_installation_does_not_matter(entries, rng: random.Random):
    ordered = names(*entries)
    assert sorted(ordered) == sorted(each.contribution.name for each in entries)
    for contribution, _ in entries:
        at = ordered.index(contribution.name)
        assert all(at < ordered.index(other) for other in contribution.before)
        assert all(at > ordered.index(other) for other in contribution.after)
    shuffled = list(entries)
    rng.shuffle(shuffled)
    assert names(*shuffled) == ordered


@given(st.lists(st.tuples(st.integers(-5, 5), st.sampled_from("abcdefgh")), unique_by=lambda pair: pair[1]))
def test_without_wishes_the_order_is_priority_then_name(pairs):
    entries = [entry(f"acme.{thing}", priority) for priority, thing in pairs]
    assert names(*entries) == [f"acme.{thing}" for _, thing in sorted(pairs)]


def test_ties_are_broken_by_distribution_then_plugin_then_name():
    assert names(entry("beta.a"), entry("acme.z"), entry("acme.b")) == ["acme.b", "acme.z", "beta.a"]


def test_the_one_who_wishes_moves():
    chain = (entry("core.timeout", 5), entry("core.logging", 50))
    assert names(*chain, entry("acme.a", before=("core.timeout",))) == [
        "acme.a",
        "core.timeout",
        "core.logging",
    ]
    assert names(*chain, entry("acme.a", 1, after=("core.logging",))) == [
        "core.timeout",
        "core.logging",
        "acme.a",
    ]


def test_a_wish_reaches_through_others():
    chain = (entry("core.timeout", 5), entry("core.logging", 50), entry("acme.a", before=("acme.b",)))
    assert names(*chain, entry("acme.b", before=("core.timeout",)))[:2] == ["acme.a", "acme.b"]


def test_a_wish_about_somebody_who_is_not_in_the_chain_has_no_effect():
    assert names(entry("acme.a", before=("otel.trace",)), entry("acme.b", 1)) == ["acme.b", "acme.a"]


def test_a_circle_names_everybody_on_it_and_nobody_else():
    circle = (
        entry("acme.a", before=("beta.b",)),
        entry("beta.b", before=("acme.c",)),
        entry("acme.c", before=("acme.a", "core.behind")),
        entry("core.behind"),
        entry("core.free"),
    )
    with pytest.raises(ContributionConflictError) as caught:
        order_interceptors(circle)
    assert str(caught.value) == (
        "[SF-PLUGIN-CONFLICT] The order of interceptors is a circle: 'acme.a' before 'beta.b' before 'acme.c' "
        "before 'acme.a' (interceptor 'acme.a' of plugin 'acme' (dist-acme 1); interceptor 'beta.b' of plugin "
        "'beta' (dist-beta 1); interceptor 'acme.c' of plugin 'acme' (dist-acme 1)). What to do: List them all in "
        "interceptors.order, in the order that you want, or disable one of their plugins with "
        "STAGEFLOW_DISABLED_PLUGINS. "
        "Docs: docs/reference/errors/SF-PLUGIN-CONFLICT.md"
    )


def test_two_who_both_want_to_be_outside_are_a_circle():
    with pytest.raises(ContributionConflictError, match=r"'acme\.a' before 'beta\.b' before 'acme\.a'"):
        order_interceptors([entry("acme.a", before=("beta.b",)), entry("beta.b", before=("acme.a",))])


# --- the configuration --------------------------------------------------------------------------------------------


@st.composite
def with_order(draw: st.DrawFn) -> tuple[list[Entry[InterceptorContribution]], list[str]]:
    """Interceptors with wishes of any kind, and a list of all of them: nothing can be a circle any more."""
    known = [f"acme.{thing}" for thing in draw(st.lists(st.sampled_from("abcdef"), unique=True, min_size=1))]
    others = {
        name: st.lists(st.sampled_from([one for one in known if one != name] or ["x.y"])) for name in known
    }
    entries = [
        entry(
            name, draw(st.integers(0, 3)), before=tuple(draw(others[name])), after=tuple(draw(others[name]))
        )
        for name in known
    ]
    return entries, draw(st.permutations(known))


@given(with_order())
def test_a_list_of_everybody_is_the_order_whatever_anybody_wishes(case) -> None:
    entries, order = case
    assert [each.contribution.name for each in order_interceptors(entries, order)] == order


@given(acyclic(), st.data())
def test_what_is_listed_stands_in_that_order_and_the_other_wishes_hold(entries, data) -> None:
    known = [each.contribution.name for each in entries]
    order = data.draw(st.lists(st.sampled_from([*known, "no.body"]), unique=True))
    listed = [name for name in order if name in known]
    try:
        ordered = [each.contribution.name for each in order_interceptors(entries, order)]
    except ContributionConflictError as error:
        assert "interceptors.order" in error.what  # noqa: PT017 - only the list can make a circle here
        return
    assert [name for name in ordered if name in listed] == listed
    for contribution, _ in entries:
        at = ordered.index(contribution.name)
        for other in contribution.before:
            assert at < ordered.index(other) or {contribution.name, other} <= set(listed)
        for other in contribution.after:
            assert at > ordered.index(other) or {contribution.name, other} <= set(listed)


def test_who_is_listed_first_is_drawn_out_to_where_the_next_one_stands() -> None:
    chain = [entry("core.a", 1), entry("core.b", 2), entry("core.c", 3), entry("core.d", 4)]
    assert [one.contribution.name for one in order_interceptors(chain, ["core.d", "core.b"])] == [
        "core.a",
        "core.d",
        "core.b",
        "core.c",
    ]


def test_a_circle_through_the_list_names_where_the_list_stands() -> None:
    circle = (entry("acme.a"), entry("acme.b"), entry("beta.x", after=("acme.b",), before=("acme.a",)))
    with pytest.raises(ContributionConflictError) as caught:
        order_interceptors(circle, ["acme.a", "acme.b"], order_in="interceptors.order (stageflow.toml:3)")
    assert caught.value.what.endswith(
        "'acme.a' before 'acme.b' before 'beta.x' before 'acme.a' (interceptor 'acme.a' of plugin "
        "'acme' (dist-acme 1); "
        "interceptor 'acme.b' of plugin 'acme' (dist-acme 1); interceptor 'beta.x' of plugin 'beta' (dist-beta 1); "
        "interceptors.order (stageflow.toml:3))"
    )
