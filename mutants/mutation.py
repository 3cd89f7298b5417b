"""The mutants of a module: its text with one small change, and where the change is."""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider

from mutants.operators import TYPING, Change, changes, is_prose

ALIAS = re.compile(r"[A-Z][a-z]\w*")
LEFT_ALONE = (
    m.Annotation() | m.Import() | m.ImportFrom() | m.Decorator() | m.TypeAlias() | m.Arg(keyword=m.Name("strict"))
)
"""What is for readers and for mypy alone, what no module can be imported without, and what holds of lengths anyway."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A module with one change: `was` became `becomes`, in the function or class `place`.

    `lines` are those that run what was changed; none where it runs when the module is imported.
    """

    module: str
    place: str
    was: str
    becomes: str
    text: str
    lines: range | None

    @property
    def name(self) -> tuple[str, str, str, str]:
        """Return what names it, wherever its line has moved to."""
        return self.module, self.place, self.was, self.becomes


def mutants_of(root: Path, module: str) -> list[Mutant]:
    """Return all mutants of a module, each once, in the order of its lines."""
    wrapper = MetadataWrapper(cst.parse_module((root / module).read_text()))
    walk = Walk(module, wrapper)
    found = {mutant.text: mutant for statement in wrapper.module.body for mutant in walk.through(statement)}
    return list(found.values())


class Walk:
    """Goes through a module from top to bottom and makes the mutants of each node."""

    def __init__(self, module: str, wrapper: MetadataWrapper) -> None:
        self.module = module
        self.whole = wrapper.module
        self.positions = wrapper.resolve(PositionProvider)

    def through(self, statement: cst.CSTNode) -> Iterator[Mutant]:
        """Yield the mutants of a statement at the top of the module."""
        text = self.whole.code_for_node(statement)
        before, found, after = self.whole.code.partition(text)
        assert found, "what libcst writes is what it read"
        for change in self.down(statement, (), None):
            mutated = self.whole.code_for_node(cst.ensure_type(statement.deep_replace(*change.nodes), type(statement)))
            was, becomes = differing(text, mutated)
            yield Mutant(self.module, ".".join(change.place), was, becomes, before + mutated + after, change.lines)

    def down(self, node: cst.CSTNode, place: tuple[str, ...], lines: range | None) -> Iterator["Placed"]:
        """Yield the changes of a node and of all in it; `lines` are those of the statement around it."""
        if m.matches(node, LEFT_ALONE) or is_alias(node) or is_prose(node):
            return
        if isinstance(node, cst.FunctionDef):
            yield from self.down(node.params, (*place, node.name.value), None)
            yield from self.down(node.body, (*place, node.name.value), range(0))
            return
        if isinstance(node, cst.ClassDef):
            yield from self.down(node.body, (*place, node.name.value), None)
            return
        lines = self.lines(node, lines)
        yield from (Placed(change, place, lines) for change in changes(node))
        for child in node.children:
            if not (m.matches(node, TYPING) and child is node.args[0]):
                yield from self.down(child, place, lines)

    def lines(self, node: cst.CSTNode, around: range | None) -> range | None:
        """Return the lines of a statement in a function, of the head of a compound one; else those `around`."""
        if around is None or not isinstance(node, cst.SimpleStatementLine | cst.BaseCompoundStatement):
            return around
        position = self.positions[node]
        if isinstance(node, cst.BaseCompoundStatement) and hasattr(node, "body"):
            return range(position.start.line, max(self.positions[node.body].start.line, position.start.line + 1))
        return range(position.start.line, position.end.line + 1)


class Placed(NamedTuple):
    """A change, where it is, and the lines that run it."""

    nodes: Change
    place: tuple[str, ...]
    lines: range | None


def is_alias(node: cst.CSTNode) -> bool:
    """Tell whether a statement only gives a type a name."""
    if not isinstance(node, cst.Assign) or not isinstance(node.value, cst.Subscript | cst.BinaryOperation | cst.Call):
        return False
    target = node.targets[0].target
    named = isinstance(target, cst.Name) and ALIAS.fullmatch(target.value) is not None
    return named and (not isinstance(node.value, cst.Call) or m.matches(node.value.func, m.Name("TypeVar")))


def differing(old: str, new: str) -> tuple[str, str]:
    """Return the lines that differ, before and after, without what they are indented by."""
    before, after = old.splitlines(), new.splitlines()
    was, becomes = [], []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind != "equal":
            was += before[a:b]
            becomes += after[c:d]
    return tuple("\n".join(line.strip() for line in lines) for lines in (was, becomes))  # type: ignore[return-value]
