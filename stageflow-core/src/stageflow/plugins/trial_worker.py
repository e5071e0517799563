"""The program of a trial: imports one plugin, asks it for its hooks, and writes down what that did.

It is run by its path, and imports nothing of ours before it has begun to watch: what the plugin changes in the
core is told by comparing each module with what it was when its own code had run.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import importlib
import inspect
import json
import logging
import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__: list[str] = []

_CORE: Final = "stageflow"
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_HOOKS: Final = ("stageflow.plugins.contributions", "stageflow.plugins.context", "stageflow.plugins.markers")


class Original:
    """What the modules of the core held when their own code had run."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[object, dict[str, Any]]] = {}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find a module of the core as everybody does, and look at it once it has run."""
        if name.partition(".")[0] != _CORE:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                loader: Any = spec.loader
                if loader is not None:
                    loader.exec_module = functools.partial(self._run, loader.exec_module)
                return spec
        return None

    def _run(self, exec_module: Any, module: ModuleType) -> None:
        exec_module(module)
        name = module.__name__
        self.held[name] = module, dict(vars(module))
        for value in self.held[name][1].values():
            if isinstance(value, type) and value.__module__ == name:
                self.held[f"{name}.{value.__qualname__}"] = value, dict(vars(value))

    def changes(self) -> Iterator[str]:
        """Yield the names of what is another function, class or constant now."""
        for place, (owner, before) in self.held.items():
            now = vars(owner)
            for name, value in before.items():
                if _is_fixed(name, value) and now.get(name) is not value:
                    yield f"{place}.{name}"
            for name in now.keys() - before.keys():
                if _is_foreign(now[name]):
                    yield f"{place}.{name}"


def _is_fixed(name: str, value: object) -> bool:
    # What else a module holds is its own state, and changes as it likes.
    special = name.startswith("__") and name.endswith("__")
    return not special and (callable(value) or hasattr(type(value), "__get__") or name.isupper())


def _is_foreign(value: Any) -> bool:
    """Tell whether a function or a class is somebody else's; one that wraps another says it were that one."""
    if isinstance(value, type):
        module = value.__module__
    elif inspect.isfunction(value):
        # What a decorator of the standard library has made has that as its home.
        module = str(value.__globals__.get("__name__", _CORE))
    else:
        return False
    top = module.partition(".")[0]
    return top != _CORE and top not in sys.stdlib_module_names


class Surroundings:
    """What of the process a plugin could have changed."""

    def __init__(self) -> None:
        self.environ = dict(os.environ)
        self.folder = Path.cwd()
        self.path = [*sys.path]
        self.threads = set(threading.enumerate())
        self.handlers = [*logging.getLogger().handlers]
        self.level = logging.getLogger().level
        self.signals = [signal.getsignal(number) for number in _SIGNALS]
        self.streams = (sys.stdout, sys.stderr, sys.excepthook)

    def effects(self) -> Iterator[str]:
        """Yield what is different now."""
        now = Surroundings()
        for name in sorted({*self.environ, *now.environ}):
            if self.environ.get(name) != now.environ.get(name):
                yield f"changes the environment variable {name!r}"
        if now.folder != self.folder:
            yield "changes the working directory"
        if now.path != self.path:
            yield "changes sys.path"
        for thread in sorted(now.threads - self.threads, key=lambda one: one.name):
            yield f"starts the thread {thread.name!r}"
        if (now.handlers, now.level) != (self.handlers, self.level):
            yield "sets up logging"
        for number, before, after in zip(_SIGNALS, self.signals, now.signals, strict=True):
            if before is not after:
                yield f"handles {number.name}"
        if any(one is not other for one, other in zip(self.streams, now.streams, strict=True)):
            yield "replaces a standard stream or sys.excepthook"


def main(request: Mapping[str, Any]) -> None:
    """Do what the request says, and write the result into its folder."""
    folder = Path(request["folder"])
    sys.path[:] = request["path"]
    original = Original()
    sys.meta_path.insert(0, original)
    for name in _HOOKS:  # what every plugin imports, and no plugin pays for
        importlib.import_module(name)
    doing = _doing(folder, f"Importing {request['module']!r}")
    interrupted = ""
    failed = False
    surroundings, before = Surroundings(), set(sys.modules)
    with (folder / "frames").open("wb") as frames:
        # Also where the interpreter's lock is held; it writes down where, and ends the process.
        faulthandler.dump_traceback_later(request["limit"], exit=True, file=frames)
        began = time.perf_counter()
        module: Any = None
        try:
            module = importlib.import_module(request["module"])
        except KeyboardInterrupt:
            interrupted = doing
        except BaseException:  # noqa: BLE001 - the host will meet it too, and say what it is
            failed = True
        seconds = time.perf_counter() - began
        added = Counter(name.partition(".")[0] for name in sys.modules if name not in before)
        gone = sorted(before.difference(sys.modules))
        if isinstance(module, type(sys)):
            interrupted = _ask(folder, module, request["plugin"]) or interrupted
        faulthandler.cancel_dump_traceback_later()
    effects = [*surroundings.effects()]
    if gone:
        effects.append(f"takes {gone[0]!r} out of sys.modules")
    result = {
        "seconds": seconds,
        "modules": added,
        "effects": effects,
        "patches": sorted({*original.changes()}),
        "interrupted": interrupted,
        "failed": failed,
    }
    (folder / "unfinished").write_text(json.dumps(result), "utf-8")
    (folder / "unfinished").rename(folder / "result")


def _ask(folder: Path, module: ModuleType, plugin: str) -> str:
    """Call the hooks of a plugin, and say which one was interrupted; what else they do, the host will see."""
    from stageflow.plugins.api_version import HOOK_API
    from stageflow.plugins.context import PluginContext

    context = PluginContext(api_version=HOOK_API, plugin=plugin, core_version="")
    for name, value in [*vars(module).items()]:
        if inspect.isfunction(value) and hasattr(value, f"{_CORE}_impl"):
            doing = _doing(folder, f"Hook {name!r}")
            try:
                if not inspect.iscoroutinefunction(value):
                    answer: Any = value(**dict.fromkeys(inspect.signature(value).parameters, context))
                    # Records are few; whoever returns more of them than that has no end.
                    with contextlib.suppress(TypeError):
                        for _ in answer:
                            pass
            except KeyboardInterrupt:
                return doing
            except BaseException:  # noqa: BLE001, S110 - see above
                pass
    return ""


def _doing(folder: Path, what: str) -> str:
    (folder / "doing").write_text(what, "utf-8")
    return what


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    # Not the interpreter's own end, which waits for threads that the plugin has started.
    os._exit(0)
