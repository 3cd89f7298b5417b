"""The small changes that a mutant is made of: mutmut's, and those that a filter or a check is forgotten by."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import libcst as cst
import libcst.matchers as m
from mutmut.mutation.mutators import mutation_operators, operator_arg_removal, operator_string

Change = tuple[cst.CSTNode, cst.CSTNode]
"""A node, and what takes its place."""

PROSE = re.compile(r"\w\w[,;:.)`]* [\w`(]")
"""What people read; a test of each word would hold nothing."""
NONE = cst.Name("None")
TRUE, FALSE = cst.Name("True"), cst.Name("False")
TYPING = m.Call(func=m.Name("TypeVar") | m.Name("cast") | m.Name("NewType"))
ASKING = m.Call(func=m.Name("isinstance") | m.Name("len") | m.Name("TypeVar"))
TAKEN = [pair for pair in mutation_operators if pair[1] not in (operator_arg_removal, operator_string)]
"""Those of mutmut that are taken as they are; arguments and texts go by rules of our own."""


def changes(node: cst.CSTNode) -> Iterator[Change]:
    """Yield each change of a node by itself; not those of the nodes in it."""
    for kind, operator in TAKEN:
        if isinstance(node, kind):
            yield from ((node, new) for new in operator(node))
    for wanted, own in OWN:
        if isinstance(node, wanted):
            yield from own(node)


def is_prose(node: cst.CSTNode) -> bool:
    """Tell whether a literal is what people read."""
    match node:
        case cst.SimpleString():
            return "b" not in node.prefix and bool(PROSE.search(node.value))
        case cst.FormattedString():
            return any(isinstance(part, cst.FormattedStringText) and PROSE.search(part.value) for part in node.parts)
        case cst.ConcatenatedString():
            return is_prose(node.left) or is_prose(node.right)
    return False


def a_text(node: cst.SimpleString) -> Iterator[Change]:
    """Change a text of the program's own, such as a name of a field."""
    start = len(node.prefix) + len(node.quote)
    text = node.value[start : -len(node.quote)]
    if len(node.quote) == 1:
        yield node, node.with_changes(value=f"{node.value[:start]}XX{text}XX{node.quote}")


def an_argument(node: cst.Call) -> Iterator[Change]:
    """Give None for an argument; give none by a name, or in place of a list of them."""
    if m.matches(node, ASKING):
        return
    for at, argument in enumerate(node.args):
        if m.matches(argument, m.Arg(keyword=m.Name("strict"))) or (at == 0 and m.matches(node, TYPING)):
            continue
        if not argument.star and not m.matches(argument.value, m.Name("None")) and not is_prose(argument.value):
            yield argument.value, NONE
        if argument.star or argument.keyword:
            yield node, node.with_changes(args=without(node.args, at))


def an_operand(node: cst.BooleanOperation) -> Iterator[Change]:
    """Leave one side of `and` or `or` alone: a check that was forgotten."""
    yield node, parenthesised(node.left, node)
    yield node, parenthesised(node.right, node)


def a_part(node: cst.Dict | cst.List | cst.Tuple | cst.Set) -> Iterator[Change]:
    """Leave out an entry, such as one condition of a filter."""
    left = len(node.elements)
    if left > 1 or isinstance(node, cst.Dict | cst.List):
        for at in range(left):
            elements = without(node.elements, at)
            if left == 2 and isinstance(node, cst.Tuple):
                elements = [elements[0].with_changes(comma=cst.Comma(whitespace_after=cst.SimpleWhitespace(" ")))]
            yield node, node.with_changes(elements=elements)


def a_branch(node: cst.If) -> Iterator[Change]:
    """Let a condition always hold, and never."""
    yield node.test, bound(node.test, TRUE)
    yield node.test, bound(node.test, FALSE)


def a_filter(node: cst.CompFor) -> Iterator[Change]:
    """Let a comprehension take all."""
    for one in node.ifs:
        yield one.test, bound(one.test, TRUE)


def bound(test: cst.BaseExpression, to: cst.Name) -> cst.BaseExpression:
    """Return a condition that comes to `to`; the names that it binds stay bound."""
    if not m.findall(test, m.NamedExpr()):
        return to
    inner = test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    operator = cst.Or() if to is TRUE else cst.And()
    return cst.BooleanOperation(inner, operator, to)


def a_result(node: cst.Return) -> Iterator[Change]:
    """Return nothing."""
    if node.value is not None and not m.matches(node.value, m.Name("None")):
        yield node.value, NONE


def a_statement(node: cst.SimpleStatementLine) -> Iterator[Change]:
    """Leave out a call, a `raise` or a `del`."""
    said = node.body[0]
    is_docstring = isinstance(said, cst.Expr) and isinstance(said.value, cst.BaseString)
    if isinstance(said, cst.Expr | cst.Raise | cst.Del) and not is_docstring:
        yield said, cst.Pass()


def without(parts: Sequence[Any], at: int) -> list[Any]:
    """Return parts of a list without one; the last has no comma behind it."""
    left = [*parts[:at], *parts[at + 1 :]]
    if left and at == len(parts) - 1:
        left[-1] = left[-1].with_changes(comma=parts[-1].comma)
    return left


def parenthesised(node: cst.BaseExpression, outer: cst.BaseExpression) -> cst.BaseExpression:
    """Return an operand in the parentheses of the whole, so that it binds as the whole did."""
    return node.with_changes(lpar=[*outer.lpar, *node.lpar], rpar=[*node.rpar, *outer.rpar])


OWN: list[tuple[Any, Callable[[Any], Iterator[Change]]]] = [
    (cst.SimpleString, a_text),
    (cst.Call, an_argument),
    (cst.BooleanOperation, an_operand),
    ((cst.Dict, cst.List, cst.Tuple, cst.Set), a_part),
    (cst.If, a_branch),
    (cst.CompFor, a_filter),
    (cst.Return, a_result),
    (cst.SimpleStatementLine, a_statement),
]
