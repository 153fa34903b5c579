"""Rows of a table by an expression: a small language of comparisons, parsed by Python and evaluated here. Nothing in it is called.

    size < 1e9 and mix/code >= 0.1
    100M <= size <= 1B and run != 'broken-3' and not final
    loss/web / loss/code > 1.2 or size in (10M, 30M)

Columns are those that ``read_runs`` reads (``size``, ``size_total``, ``tokens``, ``run``, ``mix/<domain>``, ``loss/<set>``,
``acc/<task>``, ``supply/<domain>``), ``tokens_per_parameter`` and ``final`` (the last checkpoint of its run). Names with other
characters stand between backquotes, as in ```mix/c4 (en)` > 0.2``. Numbers may have the suffixes K, M, B and T.
"""

from __future__ import annotations

import ast
import difflib
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from camel_jax.tables.runs import Runs, final_rows
from camel_jax.tables.sheet import broken

MOST, DEEPEST = 2_000, 40  # characters of an expression, and brackets in brackets
_COUNT = re.compile(r"(?<![\w./])(\d+\.?\d*)([KMBT])(?!\w)")
_THOUSANDS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_COLUMN = re.compile(r"`([^`]+)`|\b((?:mix|loss|acc|supply)/[\w.+-]*\w)")
_TEXT = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"")
_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: np.true_divide,
}


def columns_of(runs: Runs) -> dict[str, np.ndarray]:
    """Columns of a table by the names that expressions use, each (R,)."""
    recipe, weights = runs.recipe, np.asarray(runs.recipe.weights, float)
    names = np.asarray(runs.run_names or [str(i) for i in range(int(np.max(runs.run, initial=-1)) + 1)], dtype=str)
    size, tokens = np.asarray(recipe.n_active, float), np.asarray(recipe.tokens, float)
    out = {"run": names[np.asarray(runs.run)], "size": size, "size_total": np.asarray(recipe.n_total, float)}
    out |= {"tokens": tokens, "tokens_per_parameter": tokens / size, "final": final_rows(runs)}
    out |= {f"mix/{name}": weights[:, k] for k, name in enumerate(runs.domains)}
    out |= {f"loss/{name}": np.asarray(runs.losses, float)[:, v] for v, name in enumerate(runs.sets)}
    out |= {f"acc/{name}": np.asarray(runs.accuracies, float)[:, t] for t, name in enumerate(runs.tasks)}
    if recipe.supply is not None:
        supply = np.broadcast_to(np.asarray(recipe.supply, float), weights.shape)
        out |= {f"supply/{name}": supply[:, k] for k, name in enumerate(runs.domains)}
    return out


def matching_rows(expression: str, runs: Runs) -> np.ndarray:
    """Which rows of a table an expression holds for, boolean (R,); what was not measured (NaN) compares as false.

    Args:
      expression: see the module. runs: the table.

    Raises:
      TableError: text that is no such expression, or a column that is not there; the message names the part.

    >>> import jax.numpy as jnp
    >>> from camel_jax.recipes.recipe import dense
    >>> recipe = dense(jnp.array([1e7, 1e9]), jnp.array([1e9, 1e9]), jnp.array([[1.0, 0.0], [0.5, 0.5]]))
    >>> two = Runs(recipe, np.ones((2, 1)), np.ones((2, 0)), np.arange(2), ("web", "code"), ("web",))
    >>> matching_rows("size <= 10M or mix/code > 0.6", two).tolist()
    [True, False]
    """
    if len(expression) > MOST:
        raise broken("select", f"an expression has at most {MOST} characters; this one has {len(expression)}")
    columns = columns_of(runs)
    text, stand_ins = _spelled(expression)
    try:
        with warnings.catch_warnings():  # Python warns of 1and2, which it reads as 1 and 2
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise broken("select", f"{expression!r} is not an expression such as 'size < 1e9 and mix/code > 0.1'") from None
    try:
        with np.errstate(all="ignore"):
            rows = np.asarray(_value(tree, columns, stand_ins, 0))
    except (np.exceptions.DTypePromotionError, TypeError, OverflowError) as error:
        raise broken("select", f"{expression!r} compares text with numbers ({error!s:.60})") from None
    if rows.dtype != bool:
        raise broken("select", f"{expression!r} is a number for each row, and no condition: compare it with something")
    return np.broadcast_to(rows, (len(runs),)).copy()


def _spelled(expression: str) -> tuple[str, dict[str, Any]]:
    """The expression with columns and counts replaced by names that Python can parse; texts between quotes stay."""
    stand_ins: dict[str, Any] = {}

    def keep(value: Any) -> str:
        name = f"_{len(stand_ins)}_"
        stand_ins[name] = value
        return name

    def outside(part: str) -> str:
        part = _COLUMN.sub(lambda m: f" {keep(('column', m[1] or m[2]))} ", part)
        return _COUNT.sub(lambda m: f" {keep(('count', float(m[1]) * _THOUSANDS[m[2]]))} ", part)

    parts, at = [], 0
    for match in _TEXT.finditer(expression):
        parts += [outside(expression[at : match.start()]), match[0]]
        at = match.end()
    return "".join([*parts, outside(expression[at:])]), stand_ins


def _value(node: ast.AST, columns: Mapping[str, Any], stand_ins: Mapping[str, Any], depth: int) -> Any:
    def of(child: ast.AST) -> Any:
        return _value(child, columns, stand_ins, depth + 1)

    if depth > DEEPEST:
        raise broken("select", "the expression has too many brackets in brackets")
    if isinstance(node, ast.BoolOp):
        both = operator.and_ if isinstance(node.op, ast.And) else operator.or_
        out = _condition(of(node.values[0]))
        for child in node.values[1:]:
            out = both(out, _condition(of(child)))
        return out
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return ~_condition(of(node.operand))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_number(of(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        return _ARITHMETIC[type(node.op)](_number(of(node.left)), _number(of(node.right)))
    if isinstance(node, ast.Compare):
        out, left = np.bool_(True), of(node.left)
        for op, side in zip(node.ops, node.comparators, strict=True):
            out, left = out & _compared(left, op, side, of), side
            left = of(side) if not isinstance(op, ast.In | ast.NotIn) else left
        return out
    if (
        isinstance(node, ast.Constant)
        and isinstance(node.value, int | float | str)
        and not isinstance(node.value, bool)
    ):
        return np.asarray(node.value)
    if isinstance(node, ast.Name):
        kind, value = stand_ins.get(node.id, ("column", node.id))
        return np.asarray(value) if kind == "count" else _column(value, columns)
    what = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
    for name, (_, value) in stand_ins.items():
        what = what.replace(name, str(value))
    raise broken("select", f"{what:.60} is none of: column, number, text, and, or, not, in, + - * / and comparisons")


def _compared(left: Any, op: ast.cmpop, side: ast.expr, of: Callable[[ast.AST], Any]) -> Any:
    if isinstance(op, ast.In | ast.NotIn):
        if not isinstance(side, ast.Tuple | ast.List):
            raise broken("select", "after 'in' stands a list, as in size in (10M, 30M)")
        there = np.zeros(np.shape(left), bool)
        for entry in side.elts:
            there = there | _same_kind(left, of(entry), operator.eq)
        return ~there if isinstance(op, ast.NotIn) else there
    if type(op) not in _COMPARE:
        raise broken("select", "conditions are <, <=, >, >=, ==, != and in")
    return _same_kind(left, of(side), _COMPARE[type(op)])


def _same_kind(a: Any, b: Any, compare: Callable[[Any, Any], Any]) -> Any:
    if (a.dtype.kind == "U") != (b.dtype.kind == "U"):
        raise TypeError("a name and a number")
    return compare(a, b)


def _condition(value: Any) -> Any:
    if value.dtype != bool:
        raise broken("select", "and, or and not join conditions, such as size < 1e9")
    return value


def _number(value: Any) -> Any:
    if value.dtype.kind == "U":
        raise TypeError("arithmetic on text")
    return value.astype(float)


def _column(name: str, columns: Mapping[str, Any]) -> np.ndarray:
    if name in columns:
        return columns[name]
    close = difflib.get_close_matches(name, columns, 1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(list(columns)[:20])}"
    raise broken("select", f"no column {name!r}{hint}")
