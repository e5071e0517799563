"""Distributions with one planted defect each, as files below a folder; and one that is as it should be.

They lie there as pip would have put them: a package, and its metadata beside it.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

PLUGIN = '''
"""What {name} contributes."""

from stageflow.plugins import CheckContribution, CommandContribution, StageContribution, hookimpl

stageflow_api_version = 1


@hookimpl
def stageflow_stages():
    return [
        StageContribution(name="{name}.greet", target="{package}.stages:Greet", kind="transform", summary="Greet.")
    ]


@hookimpl
def stageflow_commands():
    return [
        CommandContribution(name="{name}.greet", target="{package}.cli:greet", summary="Greet from a shell."),
        CheckContribution(name="{name}.ready", target="{package}.cli:ready", summary="Is it ready?"),
    ]
'''
STAGES = """
from stageflow import StageKind, StageOutput


class Greet:
    kind = StageKind.TRANSFORM

    async def execute(self, ctx):
        return StageOutput.ok(text=f"Hello, {ctx.input_text}")
"""
CLI = '''
import click


@click.command()
def greet():
    """Greet."""
    click.echo("Hello")


def ready():
    return None
'''
METADATA = """
Metadata-Version: 2.1
Name: {distribution}
Version: 1.0
Summary: Greets.
Requires-Python: >=3.11
Requires-Dist: stageflow-core<3,>=2.0.0a1
Requires-Dist: click>=8
"""


class Site(NamedTuple):
    """One defect: what is changed in which file, and the test that must notice it."""

    defect: str
    test: str
    says: str
    file: str
    old: str
    new: str


IMPORTS = "stageflow_api_version = 1\n"
REQUIRES = "Requires-Dist: stageflow-core<3,>=2.0.0a1"

SITES = {
    "unversioned": Site("It has no version.", "test_it_is_registered", "version", "METADATA", "Version: 1.0\n", ""),
    "misversioned": Site(
        "Its version is none.", "test_it_is_registered", "no version", "METADATA", "Version: 1.0", "Version: latest"
    ),
    "undescribed": Site(
        "It does not say what it is.",
        "test_its_metadata_is_complete",
        "description",
        "METADATA",
        "Summary: Greets.\n",
        "",
    ),
    "anypython": Site(
        "It does not say on which Python it runs.",
        "test_its_metadata_is_complete",
        "requires-python",
        "METADATA",
        "Requires-Python: >=3.11\n",
        "",
    ),
    "unbounded": Site(
        "It takes every core to come.",
        "test_it_requires_a_range_of_the_core",
        "no upper bound",
        "METADATA",
        REQUIRES,
        "Requires-Dist: stageflow-core>=2.0.0a1",
    ),
    "coreless": Site(
        "It does not require the core.",
        "test_it_requires_a_range_of_the_core",
        "does not require",
        "METADATA",
        f"{REQUIRES}\n",
        "",
    ),
    "undeclared": Site(
        "It imports what it does not require.",
        "test_it_requires_what_it_imports",
        "imports 'hypothesis', which is of hypothesis and not in Requires-Dist",
        "stages.py",
        "class Greet",
        "def later():\n    import hypothesis\n\n\nclass Greet",
    ),
    "untyped": Site("It has no py.typed.", "test_it_is_typed", "no py.typed", "py.typed", "", "gone"),
    "raising": Site(
        "Its import raises.", "test_its_import_goes_well", "RuntimeError: broken", "plugin.py", IMPORTS,
        f'raise RuntimeError("broken")\n{IMPORTS}',
    ),
    "exiting": Site(
        "Its import exits.", "test_its_import_goes_well", "SystemExit", "plugin.py", IMPORTS,
        f"import sys\n\nsys.exit(3)\n{IMPORTS}",
    ),
    "killing": Site(
        "Its import ends the interpreter.", "test_its_import_goes_well", "ended with 7", "plugin.py", IMPORTS,
        f"import os\n\nos._exit(7)\n{IMPORTS}",
    ),
    "heavy": Site(
        "It imports a library at the top.", "test_its_import_is_light", "imports .*pydantic", "plugin.py", IMPORTS,
        f"import pydantic\n{IMPORTS}",
    ),
    "numeric": Site(
        "It imports numpy at the top.", "test_its_import_is_light", "imports .*numpy", "plugin.py", IMPORTS,
        f"import numpy\n{IMPORTS}",
    ),
    "telemetric": Site(
        "It imports OpenTelemetry at the top.", "test_its_import_is_light", "imports .*opentelemetry", "plugin.py",
        IMPORTS, f"import opentelemetry.trace\n{IMPORTS}",
    ),
    "looping": Site(
        "It imports asyncio at the top.", "test_its_import_is_light", "imports asyncio", "plugin.py", IMPORTS,
        f"import asyncio\n{IMPORTS}",
    ),
    "wide": Site(
        "It imports much of Python.", "test_its_import_is_light", r"imports \d+ modules, more than 20", "plugin.py",
        IMPORTS, f"import email.mime.text, http.client, http.cookiejar, urllib.request\n{IMPORTS}",
    ),
    "threading": Site(
        "Its import starts a thread.", "test_its_import_has_no_effects", "started the thread 'poller'", "plugin.py",
        IMPORTS,
        f"import threading\n\nthreading.Thread(target=threading.Event().wait, daemon=True, name='poller').start()\n"
        f"{IMPORTS}",
    ),
    "environment": Site(
        "Its import changes the environment.", "test_its_import_has_no_effects",
        "changed the environment: ACME_MODE", "plugin.py", IMPORTS,
        f"import os\n\nos.environ['ACME_MODE'] = 'fast'\n{IMPORTS}",
    ),
    "patching": Site(
        "Its import patches the core.", "test_its_import_has_no_effects",
        r"replaced stageflow\.runtime\.graph\.StageGraph\.run", "plugin.py", IMPORTS,
        "from stageflow.runtime.graph import StageGraph\n\n"
        f"StageGraph.run = lambda self, *args, **more: None\n{IMPORTS}",
    ),
    "replacing": Site(
        "Its import puts its own class in the place of one of the core's.", "test_its_import_has_no_effects",
        r"replaced stageflow\.events\.sink\.LoggingEventSink", "plugin.py", IMPORTS,
        "import stageflow.events.sink\n\n"
        f"stageflow.events.sink.LoggingEventSink = type('LoggingEventSink', (), {{}})\n{IMPORTS}",
    ),
    "builtin": Site(
        "Its import patches Python.", "test_its_import_has_no_effects", r"replaced builtins\.print", "plugin.py",
        IMPORTS, f"import builtins\n\nbuiltins.print = lambda *args, **more: None\n{IMPORTS}",
    ),
    "sleepless": Site(
        "Its import patches the standard library.", "test_its_import_has_no_effects", r"replaced time\.sleep",
        "plugin.py", IMPORTS, f"import time\n\ntime.sleep = lambda seconds: None\n{IMPORTS}",
    ),
    "writing": Site(
        "Its import writes a file.", "test_its_import_has_no_effects", "for writing", "plugin.py", IMPORTS,
        f"import tempfile\n\ntempfile.TemporaryFile()\n{IMPORTS}",
    ),
    "connecting": Site(
        "Its import opens a socket.", "test_its_import_has_no_effects", "opened a socket", "plugin.py", IMPORTS,
        f"import socket\n\nconnection = socket.socket()\n{IMPORTS}",
    ),
    "signalling": Site(
        "Its import takes a signal.", "test_its_import_has_no_effects", "changed the handler of SIGTERM", "plugin.py",
        IMPORTS, f"import signal\n\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{IMPORTS}",
    ),
    "logging": Site(
        "Its import sets up logging.", "test_its_import_has_no_effects", "changed the root logger", "plugin.py",
        IMPORTS, f"import logging\n\nlogging.basicConfig(level='DEBUG')\n{IMPORTS}",
    ),
    "printing": Site(
        "Its import prints.", "test_its_import_has_no_effects", "wrote to standard output", "plugin.py", IMPORTS,
        f"print('loaded')\n{IMPORTS}",
    ),
    "forking": Site(
        "Its import starts a process.", "test_its_import_has_no_effects", "started a process", "plugin.py", IMPORTS,
        f"import subprocess, sys\n\nsubprocess.run([sys.executable, '-c', ''], check=True)\n{IMPORTS}",
    ),
    "hooking": Site(
        "A hook starts a thread.", "test_its_import_has_no_effects", "started the thread 'hook'", "plugin.py",
        "def stageflow_stages():\n",
        "def stageflow_stages():\n    import threading\n\n"
        "    threading.Thread(target=threading.Event().wait, daemon=True, name='hook').start()\n",
    ),
    "latepatching": Site(
        "The module of a stage patches the core.", "test_its_targets_have_no_effects",
        r"replaced stageflow\.runtime\.graph\.StageGraph\.run",
        "stages.py", "class Greet",
        "from stageflow.runtime.graph import StageGraph\n\nStageGraph.run = None\n\n\nclass Greet",
    ),
    "ageless": Site(
        "It does not say for which hooks it was written.", "test_it_states_its_hook_api",
        "write stageflow_api_version = 1", "plugin.py", IMPORTS, "",
    ),
    "futuristic": Site(
        "It was written for hooks to come.", "test_it_states_its_hook_api", "hook API 99", "plugin.py", IMPORTS,
        "stageflow_api_version = 99\n",
    ),
    "misspelt": Site(
        "A hook is misspelt.", "test_its_hooks_are_well_formed", "stageflow_stagse", "plugin.py",
        "def stageflow_stages", "def stageflow_stagse",
    ),
    "fickle": Site(
        "A hook says something else each time.", "test_its_hooks_are_declarative", "something else each time",
        "plugin.py", 'kind="transform"', 'kind=["transform", "work"][calls.append(1) or len(calls) % 2]',
    ),
    "silent": Site(
        "A stage has no summary.", "test_everything_has_a_summary", "silent.greet", "plugin.py",
        ', summary="Greet."', "",
    ),
    "dangling": Site(
        "A target is not there.", "test_every_target_is_there", "Greeting", "plugin.py", "stages:Greet",
        "stages:Greeting",
    ),
    "miskind": Site(
        "A stage is of another kind than it is contributed as.", "test_targets_are_what_they_are_contributed_as",
        "is of kind", "plugin.py", 'kind="transform"', 'kind="work"',
    ),
    "unchecked": Site(
        "A check raises.", "test_its_checks_answer", "no network", "cli.py", "return None",
        'raise OSError("no network")',
    ),
}  # fmt: skip


def write(folder: Path, name: str, site: Site | None = None) -> None:
    """Write a distribution, with its defect if it is to have one."""
    package = f"acme_{name}"
    files = {
        "plugin.py": PLUGIN,
        "stages.py": STAGES,
        "cli.py": CLI,
        "METADATA": METADATA,
        "py.typed": "",
        "__init__.py": "",
    }
    said = {
        "{name}": name,
        "{package}": package,
        "{distribution}": f"acme-{name}",
    }
    for file, text in files.items():
        if file != "stages.py":
            for key, value in said.items():
                text = text.replace(key, value)  # noqa: PLW2901 - step by step
        if site is not None and file == site.file:
            assert site.old in text, site
            text = text.replace(site.old, site.new, 1)  # noqa: PLW2901
        if file == "plugin.py" and "calls." in text:
            text = text.replace(IMPORTS, f"calls = []\n{IMPORTS}")  # noqa: PLW2901
        if file == "py.typed" and text:
            continue
        where = folder / (f"{package}-1.0.dist-info" if file == "METADATA" else package) / file
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(textwrap.dedent(text).lstrip("\n"), "utf-8")
    (folder / f"{package}-1.0.dist-info" / "entry_points.txt").write_text(
        f"[stageflow]\n{name} = {package}.plugin\n", "utf-8"
    )
    record = f"{package}/__init__.py,,\n{package}/plugin.py,,\n{package}-1.0.dist-info/METADATA,,\n"
    (folder / f"{package}-1.0.dist-info" / "RECORD").write_text(record, "utf-8")
