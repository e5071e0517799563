"""``PluginName``: which names a new plugin may have, and what is made of them."""

import importlib
import keyword
import re
import sys

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from stageflow.cli.scaffold.naming import LONGEST, PluginName
from stageflow.plugins import RunStoreContribution, SettingsContribution, ToolContribution
from stageflow.plugins.names import is_bare

WORDS = st.from_regex(r"[a-z][a-z0-9]{0,9}(?:[-_.]{1,2}[a-z0-9]{1,9}){0,2}", fullmatch=True)


@pytest.mark.parametrize(
    ("typed", "distribution", "package", "plugin", "prefix"),
    [
        ("demo", "stageflow-demo", "stageflow_demo", "demo", "Demo"),
        ("stageflow-demo", "stageflow-demo", "stageflow_demo", "demo", "Demo"),
        ("stageflow_demo", "stageflow-demo", "stageflow_demo", "demo", "Demo"),
        ("Demo_X", "stageflow-demo-x", "stageflow_demo_x", "demo_x", "DemoX"),
        ("Stageflow.Demo--X2", "stageflow-demo-x2", "stageflow_demo_x2", "demo_x2", "DemoX2"),
        (" demo ", "stageflow-demo", "stageflow_demo", "demo", "Demo"),
    ],
)
def test_everything_is_called_after_one_word(typed, distribution, package, plugin, prefix):
    name = PluginName.parse(typed)
    assert (name.distribution, name.package, name.plugin, name.prefix) == (
        distribution,
        package,
        plugin,
        prefix,
    )


@pytest.mark.parametrize(
    ("typed", "why", "fix"),
    [
        ("core", "the name of the core", "'stageflow-acme'"),
        ("Stageflow-Core", "the name of the core", "'stageflow-acme'"),
        ("tools", "stageflow-tools is a part of Stageflow", "'stageflow-acme'"),
        ("stageflow-voice", "stageflow-voice is a part of Stageflow", "'stageflow-acme'"),
        ("events", "[events] is a section", "'stageflow-acme'"),
        ("class", "a keyword of Python", "'stageflow-acme'"),
        ("stageflow", "put before it anyway", "'stageflow-acme'"),
        ("stageflow-stageflow-demo", "put before it anyway", "'stageflow-acme'"),
        ("", "begins with a letter", "'acme'"),
        ("stageflow-", "begins with a letter", "'acme'"),
        ("文字", "letters a to z", "'acme'"),
        ("2fast", "begins with a letter", "Did you mean 'fast'?"),
        ("my plugin!", "letters a to z", "Did you mean 'my_plugin'?"),
        ("Café", "letters a to z", "Did you mean 'cafe'?"),
        ("-demo", "begins with a letter", "Did you mean 'demo'?"),
        ("demo/../x", "letters a to z", "Did you mean 'demo_x'?"),
        ("core!", "letters a to z", "'acme'"),
        ("a" * 40, "it has 40 characters, and 32 are the most", f"as '{'a' * LONGEST}'"),
    ],
)
def test_a_name_is_refused_with_the_reason_and_a_way_out(typed, why, fix):
    with pytest.raises(click.BadParameter) as caught:
        PluginName.parse(typed)
    assert repr(typed) in caught.value.message
    assert why in caught.value.message
    assert fix in caught.value.message


@given(
    typed=st.one_of(
        WORDS, WORDS.map(lambda word: f"stageflow-{word}"), WORDS.map(str.upper), st.text(max_size=50)
    )
)
def test_what_is_accepted_is_good_for_everything(typed):
    try:
        name = PluginName.parse(typed)
    except click.BadParameter:
        return
    assert is_bare(name.plugin)
    assert len(name.plugin) <= LONGEST
    assert not keyword.iskeyword(name.plugin)
    assert name.package.isidentifier()
    assert name.prefix.isidentifier()
    assert name.prefix.isascii()
    assert (
        Requirement(f"{name.distribution}>=1").name
        == canonicalize_name(name.distribution)
        == name.distribution
    )
    assert name.distribution.replace("-", "_") == name.package
    for spelling in (name.plugin, name.distribution, name.package, name.plugin.upper()):
        assert PluginName.parse(spelling) == name
    ToolContribution(name=f"{name.plugin}.thing", target="m:a")
    SettingsContribution(section=name.plugin, model="m:a")
    RunStoreContribution(scheme=name.scheme, target="m:a")


@given(word=WORDS)
def test_what_is_accepted_can_be_imported(word, tmp_path_factory):
    try:
        name = PluginName.parse(word)
    except click.BadParameter:
        return
    folder = tmp_path_factory.mktemp("package")
    (folder / name.package).mkdir()
    (folder / name.package / "__init__.py").write_text(f"NAME = {name.plugin!r}\n", "utf-8")
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        assert name.plugin == importlib.import_module(name.package).NAME
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop(name.package, None)


def test_the_nearest_name_is_one():
    for typed in ("2fast", "My Plugin", "x" * 99, "-a-b-"):
        with pytest.raises(click.BadParameter) as caught:
            PluginName.parse(typed)
        *_, proposed = re.findall(r"'([a-z0-9_-]+)'", caught.value.message)
        PluginName.parse(proposed)
