"""What a trial tells of an import: what it costs, what it changes, and how it can go wrong."""

from __future__ import annotations

import asyncio
from textwrap import dedent

import pytest
from stageflow.plugins.trial import Trial, try_imports

pytestmark = pytest.mark.timeout(60)

LIMIT = 30.0


HEAD = "from stageflow.plugins import hookimpl\nstageflow_api_version = 1\n"  # as light as authors write it


def tried(site, source: str, *, limit: float = LIMIT) -> Trial:
    site.install("tried", None)
    (site.folder / "dist_tried_plugin.py").write_text(HEAD + dedent(source), "utf-8")
    (trial,) = asyncio.run(try_imports(site.candidates(), limit=limit))
    return trial


def test_a_light_module_costs_itself_and_changes_nothing(site):
    trial = tried(site, "@hookimpl\ndef stageflow_sinks(context):\n    return []")
    assert (trial.fatal, trial.effects, trial.patches) == (None, (), ())
    assert trial.modules == {"dist_tried_plugin": 1}
    assert trial.seconds is not None


def test_modules_are_counted_by_package_most_first(site):
    package = site.folder / "dist_large"
    package.mkdir()
    (package / "__init__.py").write_text("from . import a, b, c\n", "utf-8")
    for name in "abc":
        (package / f"{name}.py").touch()
    assert list(tried(site, "import dist_large").modules.items()) == [
        ("dist_large", 4),
        ("dist_tried_plugin", 1),
    ]


def test_all_of_them_are_tried_however_few_at_once(site):
    for number in range(5):
        site.install(f"tried{number}")
    trials = asyncio.run(try_imports(site.candidates(), limit=LIMIT, parallel=2))
    assert [trial.candidate for trial in trials] == site.candidates()
    assert {trial.fatal for trial in trials} == {None}


BUILDER = "stageflow.pipeline.builder"


@pytest.mark.parametrize(
    ("source", "patch"),
    [
        (f"import {BUILDER} as b\nb.Pipeline.build = lambda self: None", f"{BUILDER}.Pipeline.build"),
        (f"import {BUILDER} as b\nb.Pipeline = object", f"{BUILDER}.Pipeline"),
        (f"import {BUILDER} as b\ndel b.Pipeline.build", f"{BUILDER}.Pipeline.build"),
        (f"import {BUILDER} as b\ndef more(self): ...\nb.Pipeline.more = more", f"{BUILDER}.Pipeline.more"),
        (
            (
                f"import functools, {BUILDER} as b\n"
                "old = b.Pipeline.build\n"
                "b.Pipeline.build = functools.wraps(old)(lambda *a, **k: old(*a, **k))"
            ),
            f"{BUILDER}.Pipeline.build",
        ),
        (
            f"import {BUILDER} as b\nb.Pipeline.name = property(lambda self: 'x')",
            f"{BUILDER}.Pipeline.name",
        ),
        ("import stageflow.plugins.names as n\nn.CORE = 'acme'", "stageflow.plugins.names.CORE"),
        ("import stageflow.errors as e\ne.shown = repr", "stageflow.errors.shown"),
    ],
    ids=["method", "class", "removed", "added", "wrapped", "property", "constant", "function"],
)
def test_what_is_changed_in_the_core_is_named(site, source, patch):
    assert tried(site, source).patches == (patch,)


def test_the_core_itself_changes_nothing_of_itself(site):
    # Whatever of it is imported first by a plugin: caches, lazy exports and registries are no patches.
    source = """
    import importlib, pkgutil, stageflow
    for found in pkgutil.walk_packages(stageflow.__path__, "stageflow."):
        if not found.name.startswith(("stageflow.testing", "stageflow.core")) and "__main__" not in found.name:
            module = importlib.import_module(found.name)
            for name in getattr(module, "__all__", ()):
                getattr(module, name)
    """
    trial = tried(site, source)
    assert trial.fatal is None
    assert trial.patches == ()
    assert trial.modules["stageflow"] > 100


@pytest.mark.parametrize(
    ("source", "effect"),
    [
        ("print('hello')", "prints 'hello'"),
        ("import sys; sys.stderr.write('x' * 1000)", f"prints '{'x' * 200}'..."),
        ("import os; os.system('echo from a shell')", "prints 'from a shell'"),
        ("import os; os.environ['ACME'] = '1'", "changes the environment variable 'ACME'"),
        ("import os; os.environ.pop('HOME', None)", "changes the environment variable 'HOME'"),
        ("import os; os.chdir('/')", "changes the working directory"),
        ("import sys; sys.path.append('/acme')", "changes sys.path"),
        ("import logging; logging.basicConfig()", "sets up logging"),
        ("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)", "handles SIGINT"),
        ("import sys; sys.excepthook = print", "replaces a standard stream or sys.excepthook"),
        ("import sys; del sys.modules['json']", "takes 'json' out of sys.modules"),
        (
            "import threading; threading.Thread(target=threading.Event().wait, name='poll').start()",
            "starts the thread 'poll'",
        ),
    ],
    ids=lambda value: value[:30],
)
def test_what_it_does_besides_is_told(site, source, effect):
    trial = tried(site, source)
    assert trial.fatal is None
    assert trial.effects == (effect,)


def test_an_import_that_holds_the_interpreter_is_ended(site):
    # No other thread runs meanwhile, and no signal is looked at: only a watchdog outside of Python helps.
    source = "import ctypes\nctypes.PyDLL(None).pause()"
    trial = tried(site, source, limit=1.0)
    assert trial.fatal.what == (
        "Importing 'dist_tried_plugin' did not end within 1 s; it waits in dist_tried_plugin.py:4"
    )


def test_an_exception_is_left_for_the_host_to_tell(site):
    trial = tried(site, "raise ValueError('bad')")
    assert (trial.fatal, trial.effects) == (None, ())


@pytest.mark.parametrize(
    ("hook", "what"),
    [
        ("raise KeyboardInterrupt", "Hook 'stageflow_sinks' raised KeyboardInterrupt"),
        (
            "import os; os._exit(7)",
            "Hook 'stageflow_sinks' ended the process with exit code 7, without a word",
        ),
        ("yield from iter(int, 1)", "Hook 'stageflow_sinks' did not end within 1 s; it waits in "),
    ],
    ids=["interrupts", "exits", "no-end"],
)
def test_hooks_are_tried_too(site, hook, what):
    trial = tried(site, f"@hookimpl\ndef stageflow_sinks(context):\n    {hook}", limit=1.0)
    assert trial.fatal.what.startswith(what)
    assert trial.fatal.plugin == "tried"
    assert trial.fatal.distribution == "dist-tried 1.0"
