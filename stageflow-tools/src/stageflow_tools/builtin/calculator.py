"""``calculator``: arithmetic, read by Python's parser and evaluated by nobody but this module."""

from __future__ import annotations

import ast
import math
import operator
from typing import TYPE_CHECKING, Any, Final

from stageflow import Effect

from stageflow_tools.function_tool import tool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["calculator", "evaluate"]

_LONGEST: Final = 1_000
"""How long an expression may be, in characters: what Python's parser takes without trouble."""

_MOST_BITS: Final = 4_096
"""How large an integer may get: a power of powers would take all memory there is."""

_BINARY: Final[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: operator.mod,
}
_UNARY: Final[Mapping[type[ast.unaryop], Callable[[Any], Any]]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
_NAMES: Final[Mapping[str, float]] = {"pi": math.pi, "e": math.e, "tau": math.tau}
_FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "abs": abs,
    "ceil": math.ceil,
    "cos": math.cos,
    "exp": math.exp,
    "floor": math.floor,
    "hypot": math.hypot,
    "log": math.log,
    "log10": math.log10,
    "log2": math.log2,
    "max": max,
    "min": min,
    "round": round,
    "sin": math.sin,
    "sqrt": math.sqrt,
    "tan": math.tan,
}


@tool(effect=Effect.NONE)
async def calculator(expression: str) -> int | float:
    """Evaluate an arithmetic expression: numbers, + - * / // % **, parentheses, pi, e, sqrt, sin, log, min, max, round.

    Args:
        expression: The expression, such as "sqrt(2) * (3 + 4)".
    """
    return evaluate(expression)


def evaluate(expression: str) -> int | float:
    """Return what an arithmetic expression comes to.

    Raises:
        ValueError: It is no arithmetic, too long, or its result is no finite number of reasonable size.

    ```python
    from stageflow_tools.builtin.calculator import evaluate

    print(evaluate("2 ** 10 - 24"), evaluate("max(1, sqrt(16))"))
    #> 1000 4.0
    try:
        evaluate("__import__('os')")
    except ValueError as error:
        print(error)
    #> '__import__' is no function of the calculator
    ```
    """
    if len(expression) > _LONGEST:
        msg = f"The expression has {len(expression):,} characters, and may have {_LONGEST:,}"
        raise ValueError(msg)
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        result: int | float = _limited(_value(tree.body))
    except SyntaxError as exc:
        msg = f"That is no arithmetic: {exc.msg}"
        raise ValueError(msg) from exc
    except (ArithmeticError, TypeError) as exc:
        msg = str(exc)
        raise ValueError(msg) from exc
    except (RecursionError, MemoryError) as exc:
        msg = "The expression is nested too deeply"
        raise ValueError(msg) from exc
    return result


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _limited(number)
        case ast.BinOp(left, ast.Pow(), right):
            return _power(_value(left), _value(right))
        case ast.BinOp(left, op, right) if type(op) in _BINARY:
            return _limited(_BINARY[type(op)](_value(left), _value(right)))
        case ast.UnaryOp(op, operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(operand))
        case ast.Name(id=name):
            if name not in _NAMES:
                msg = f"{name!r} is no number of the calculator: there are {', '.join(_NAMES)}"
                raise ValueError(msg)
            return _NAMES[name]
        case ast.Call(ast.Name(id=name), arguments, []):
            if name not in _FUNCTIONS:
                msg = f"{name!r} is no function of the calculator"
                raise ValueError(msg)
            return _limited(_FUNCTIONS[name](*map(_value, arguments)))
        case _:
            msg = f"That is no arithmetic: {ast.unparse(node)}"
            raise ValueError(msg)


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > _MOST_BITS:
        msg = f"{base} ** {exponent} is too large"
        raise ValueError(msg)
    result = base**exponent
    if isinstance(result, complex):
        msg = f"{base} ** {exponent} is no real number"
        raise ValueError(msg)  # noqa: TRY004 - it has the right type and no sense
    return _limited(result)


def _limited(number: Any) -> Any:
    if isinstance(number, int):
        if number.bit_length() > _MOST_BITS:
            msg = "The result is too large"
            raise ValueError(msg)
    elif not math.isfinite(number):
        msg = "The result is no finite number"
        raise ValueError(msg)
    return number
