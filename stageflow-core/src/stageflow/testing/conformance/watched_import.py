"""``watched_import``: imports a module in a new interpreter, and tells what that costs and what else it did.

What runs there is ``_PROGRAM``: the interpreter that asks stays as it was, whatever the module does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["WatchedImport", "watched_import"]


@final
class WatchedImport(NamedTuple):
    """What an import did.

    Attributes:
        error: What it raised, or how it ended the interpreter; empty if it went well.
        modules: The modules that it imported and that were not there before.
        effects: What it did beside, in words, as ``"started the thread 'poll'"``.
    """

    error: str
    modules: tuple[str, ...]
    effects: tuple[str, ...]


def watched_import(
    *modules: str, before: Sequence[str] = (), calls: Sequence[str] = (), limit: float = 30.0
) -> WatchedImport:
    """Import modules in a new interpreter, and watch.

    Args:
        *modules: The modules.
        before: Modules to import first; what they import and do does not count.
        calls: Hooks of the last module to call then, as far as it has them.
        limit: How long it may take, in seconds.

    Returns:
        What it did; a module that hangs or ends the interpreter gives an ``error``.

    ```python
    from stageflow.testing.conformance.watched_import import watched_import

    print(watched_import("this").effects)
    #> ('wrote to standard output',)
    ```
    """
    task = json.dumps({"modules": modules, "before": list(before), "calls": list(calls), "path": sys.path})
    command = [sys.executable, "-c", _PROGRAM, task]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter, our own program
            command,
            capture_output=True,
            env=_ENVIRONMENT,
            timeout=limit,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return WatchedImport(f"it has not ended after {limit:g} s", (), ())
    marker = done.stderr.rfind(_MARK)
    if marker < 0:
        tail = done.stderr.decode("utf-8", "replace").strip()[-500:]
        return WatchedImport(f"the interpreter ended with {done.returncode}. {tail}".rstrip(), (), ())
    told: dict[str, Any] = json.loads(done.stderr[marker + len(_MARK) :].partition(b"\n")[0])
    return WatchedImport(told["error"], tuple(told["modules"]), tuple(told["effects"]))


_ENVIRONMENT: Final = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
"""The environment as it was before this process has imported any of the modules that are to be watched."""

_MARK: Final = b"\x02stageflow-watched-import\x03"

_PROGRAM: Final = r"""
import sys, json
task = json.loads(sys.argv[1])
sys.path[:] = task["path"]
import builtins, gc, importlib, locale, logging, os, signal, threading, time, warnings
import io, random, socket, ssl, subprocess, types
for name in task["before"]:
    importlib.import_module(name)
mark = "\x02stageflow-watched-import\x03"
effects = []
watching = False

def say(text):
    if text not in effects:
        effects.append(text)

def audit(event, args):
    if not watching:
        return
    if event == "open" and isinstance(args[0], (str, bytes)):
        path = os.fsdecode(args[0])
        mode = args[1] or ""
        flags = args[2] or 0
        writes = any(one in mode for one in "wax+") or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and "__pycache__" not in path:
            say(f"opened {path!r} for writing")
    elif event in ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.chmod", "os.symlink", "os.link"):
        if "__pycache__" not in str(args[0]):
            say(f"called {event}({str(args[0])!r})")
    elif event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto"):
        say(f"used the network: {event}")
    elif event == "socket.__new__":
        say("opened a socket")
    elif event in ("subprocess.Popen", "os.system", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec"):
        say(f"started a process: {event}")
    elif event == "urllib.Request":
        say(f"asked {args[0]!r}")
    elif event == "sqlite3.connect":
        say("opened a database")
    elif event == "os.chdir":
        say("changed the working directory")

class Counting:
    def __init__(self, stream, name):
        self._stream, self._name = stream, name
    def write(self, text):
        if watching and text:
            say(f"wrote to standard {self._name}")
        return self._stream.write(text)
    def __getattr__(self, attribute):
        return getattr(self._stream, attribute)

kinds = (types.FunctionType, types.BuiltinFunctionType, type, types.MethodType, classmethod, staticmethod, property)
watched = ("builtins", "os", "socket", "ssl", "subprocess", "threading", "time", "logging", "json", "random", "signal",
           "warnings", "io", "asyncio", "contextlib", "functools", "inspect", "importlib", "pathlib")

def surface(everything=False):
    seen = {}
    for name, module in list(sys.modules.items()):
        if not isinstance(module, types.ModuleType):
            continue
        root = name.partition(".")[0]
        if root not in watched and root != "stageflow":
            continue
        for key, value in list(vars(module).items()):
            if everything or isinstance(value, kinds) or (name == "builtins" and not key.startswith("_")):
                seen[f"{name}.{key}"] = value
            if isinstance(value, type) and getattr(value, "__module__", None) == name and root == "stageflow":
                for attribute, member in list(vars(value).items()):
                    if everything or not attribute.startswith("__") or isinstance(member, kinds):
                        seen[f"{name}.{key}.{attribute}"] = member
    return seen

def state():
    root = logging.getLogger()
    found = {
        "the environment": dict(os.environ),
        "the working directory": os.getcwd(),
        "sys.path": [entry for entry in sys.path],
        "sys.meta_path": [id(one) for one in sys.meta_path],
        "sys.path_hooks": [id(one) for one in sys.path_hooks],
        "sys.excepthook": id(sys.excepthook),
        "sys.unraisablehook": id(sys.unraisablehook),
        "threading.excepthook": id(threading.excepthook),
        "sys.displayhook": id(sys.displayhook),
        "sys.stdout": id(sys.stdout),
        "sys.stderr": id(sys.stderr),
        "sys.argv": list(sys.argv),
        "the recursion limit": sys.getrecursionlimit(),
        "the switch interval": sys.getswitchinterval(),
        "the trace or profile function": (id(sys.gettrace()), id(sys.getprofile())),
        "the locale": locale.setlocale(locale.LC_ALL),
        "the root logger": ([id(one) for one in root.handlers], root.level),
        "the warnings filters": list(map(str, warnings.filters)),
        "the state of random": hash(random.getstate()),
        "the default time-out of sockets": socket.getdefaulttimeout(),
        "the thresholds of the garbage collector": (gc.isenabled(), gc.get_threshold()),
        "the event loop policy": id(getattr(sys.modules.get("asyncio.events"), "_event_loop_policy", None)),
    }
    for number in signal.valid_signals():
        try:
            found[f"the handler of {signal.Signals(number).name}"] = repr(signal.getsignal(number))
        except ValueError:
            continue
    return found

for number in signal.valid_signals():
    # Whoever started us may ignore signals, and that is inherited.
    if number not in (getattr(signal, "SIGPIPE", 0), getattr(signal, "SIGXFSZ", 0)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
sys.addaudithook(audit)
real = sys.stderr
sys.stdout, sys.stderr = Counting(sys.stdout, "output"), Counting(sys.stderr, "error")
before = set(sys.modules)
threads = set(threading.enumerate())
earlier, patched = state(), surface()
error = ""
watching = True
try:
    module = [importlib.import_module(name) for name in task["modules"]][-1]
    for name in task["calls"]:
        function = getattr(module, name, None)
        if function is None:
            continue
        takes = function.__code__.co_argcount if hasattr(function, "__code__") else 0
        list(function(*[types.SimpleNamespace(api_version=1, plugin="plugin", core_version="0")] * takes))
except BaseException as exc:
    error = f"{type(exc).__name__}: {exc}"
watching = False
modules = sorted(set(sys.modules) - before)
for one in set(threading.enumerate()) - threads:
    say(f"started the thread {one.name!r}")
for what, value in state().items():
    if what == "the event loop policy" and not earlier.get(what):
        continue
    if earlier.get(what) != value:
        if what == "the environment":
            changed = sorted(k for k in {**earlier[what], **value} if earlier[what].get(k) != value.get(k))
            say(f"changed the environment: {', '.join(changed)}")
        else:
            say(f"changed {what}")
after = surface(everything=True)
for name, value in patched.items():
    if name not in after:
        say(f"removed {name}")
    elif after[name] is not value:
        say(f"replaced {name}")
for name in surface():
    owner = name.rpartition(".")[0]
    if name not in patched and (name.startswith("builtins.") or isinstance(patched.get(owner), type)):
        say(f"added {name}")
real.write(mark + json.dumps({"error": error, "modules": modules, "effects": effects}) + "\n")
real.flush()
os._exit(0)
"""
"""Runs alone; everything that it uses is imported before it begins to watch."""
