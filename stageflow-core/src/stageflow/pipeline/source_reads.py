"""Which dependencies the source code of a stage reads by name."""

from __future__ import annotations

import ast
import inspect
import linecache
from functools import partial
from textwrap import dedent
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from stageflow.context.checks import check_type
from stageflow.stages.typed import StageDef

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

__all__ = ["Read", "SourceReads", "analyze_stage_source"]

_METHODS: Final = frozenset({"get_from", "require_from", "get_output", "has_output"})
_INPUTS: Final = "inputs"
_Function = ast.FunctionDef | ast.AsyncFunctionDef


class Read(NamedTuple):
    """A place where a stage reads a dependency.

    Attributes:
        stage: The dependency.
        line: The line, from 1.
        file: The file.
    """

    stage: str
    line: int
    file: str


def analyze_stage_source(source: str) -> list[tuple[str, int]]:
    """Return the stages that *source* reads by name from its inputs, each with the line.

    What counts is ``get_from``, ``require_from``, ``get_output`` and ``has_output`` with the name written out, called
    on ``ctx.inputs``, on ``inputs``, or on a variable that was assigned from such. What is no Python reads nothing.

    Raises:
        ArgumentTypeError: *source* is no text.

    ```python
    from stageflow.pipeline.source_reads import analyze_stage_source

    source = '''
    async def shout(ctx):
        return ctx.inputs.require_from("greet", "text").upper()
    '''
    print(analyze_stage_source(source))
    #> [('greet', 3)]
    ```
    """
    check_type("analyze_stage_source", "source", source, str, "a str")
    try:
        try:
            tree = ast.parse(source)
        except IndentationError:  # the source of a method, or of a nested function
            tree = ast.parse(dedent(source))
    except (SyntaxError, ValueError, RecursionError):
        return []
    return _reads(tree)


@final
class SourceReads:
    """Finds what runners read. Each file is parsed once, so that many stages of one file cost no more than it does."""

    __slots__ = ("_files", "_found")

    def __init__(self) -> None:
        self._files: dict[str, dict[int, list[_Function]]] = {}
        self._found: dict[
            int, tuple[object, list[Read]]
        ] = {}  # the runner is kept, so that its id stays its own

    def of(self, runner: object) -> list[Read]:
        """Return what a runner reads, in the order of the lines; nothing if its source is not to be had."""
        key: object = runner if isinstance(runner, type) or inspect.isroutine(runner) else _definition(runner)
        known = self._found.get(id(key))
        if known is None:
            reads = sorted(
                {read for code in _codes(key) for read in self._reads(code)}, key=lambda one: one[1:]
            )
            known = self._found[id(key)] = (key, reads)
        return known[1]

    def _reads(self, code: CodeType) -> Iterator[Read]:
        functions = self._functions(code.co_filename).get(code.co_firstlineno, ())
        for function in functions:
            if function.name == code.co_name:
                for stage, line in _reads(function):
                    yield Read(stage, line, code.co_filename)

    def _functions(self, file: str) -> dict[int, list[_Function]]:
        """Return the functions of a file by the line where they begin, decorators included."""
        known = self._files.get(file)
        if known is None:
            known = self._files[file] = {}
            linecache.checkcache(file)  # it may have been changed since somebody read it
            try:
                tree = ast.parse("".join(linecache.getlines(file)))
            except (SyntaxError, ValueError, RecursionError):
                return known
            for node in ast.walk(tree):
                if isinstance(node, _Function):
                    first = min((one.lineno for one in node.decorator_list), default=node.lineno)
                    known.setdefault(first, []).append(node)
        return known


def _definition(runner: object) -> object:
    """Return the function or the class that says what a runner does."""
    while isinstance(runner, partial):
        runner = runner.func
    if isinstance(runner, StageDef):
        return runner.function
    cls: type[object] = type(runner)
    return runner if inspect.isroutine(runner) else cls


def _codes(definition: Any) -> Iterator[CodeType]:
    if isinstance(definition, type):
        for base in definition.__mro__:
            for member in vars(base).values():
                function: Any = getattr(member, "__func__", member)
                if inspect.isfunction(function):
                    yield function.__code__
        return
    code: Any = getattr(inspect.unwrap(getattr(definition, "__func__", definition)), "__code__", None)
    if code is not None:
        yield code


def _reads(tree: ast.AST) -> list[tuple[str, int]]:
    aliases = {_INPUTS}
    calls: list[ast.Call] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            calls.append(node)
        elif isinstance(node, (ast.Assign, ast.NamedExpr, ast.AnnAssign)):
            value, targets = node.value, node.targets if isinstance(node, ast.Assign) else [node.target]
            if isinstance(value, ast.Attribute) and value.attr == _INPUTS:
                aliases.update(target.id for target in targets if isinstance(target, ast.Name))
    found = [(stage, call.lineno) for call in calls if (stage := _read_by(call, aliases)) is not None]
    return sorted(found, key=lambda one: one[1])


def _read_by(call: ast.Call, aliases: set[str]) -> str | None:
    method = call.func
    if not isinstance(method, ast.Attribute) or method.attr not in _METHODS:
        return None
    on = method.value
    if not (isinstance(on, ast.Attribute) and on.attr == _INPUTS) and not (
        isinstance(on, ast.Name) and on.id in aliases
    ):
        return None
    named = [one.value for one in call.keywords if one.arg == "stage_name"]
    first = [*call.args, *named][:1]
    if first and isinstance(first[0], ast.Constant) and isinstance(first[0].value, str):
        return first[0].value
    return None
