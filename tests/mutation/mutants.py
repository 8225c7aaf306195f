"""The mutants of a module: mutmut's operators and three of our own, each at one place, and the sample that is run.

Nothing is changed where a change means nothing: docstrings, annotations, decorators, imports, `raise` statements and
f-strings (words for people), blocks under TYPE_CHECKING, and what the settings call quiet.

A mutant's rank is a hash of the seed and of the mutant itself. So an edit elsewhere in the module leaves the rest of
the sample as it was. Every place is drawn once before any is drawn twice: a call with five arguments has ten mutants.
"""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import libcst as cst
from libcst.helpers import get_full_name_for_node
from libcst.metadata import MetadataWrapper, PositionProvider, WhitespaceInclusivePositionProvider
from mutmut.mutation.mutators import mutation_operators

from tests.mutation.settings import Settings

Operator = Callable[[Any], Iterable[cst.CSTNode]]
Place = tuple[int, int, int, int]  # first line and column, last line and column


@dataclass(frozen=True)
class Mutant:
    """One change to one module.

    `lines` are those of the changed statement; empty where it runs when the module is imported.
    """

    module: str
    inside: str
    line: int
    lines: range
    was: str
    now: str
    source: str


@dataclass(frozen=True)
class _Change:
    place: Place
    was: str
    now: str
    inside: str
    lines: range


def operator_condition(node: cst.BaseExpression) -> Iterable[cst.CSTNode]:
    """The opposite condition of an `if` or `while`; mutmut has those of conditional expressions alone."""
    test = node.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    yield cst.UnaryOperation(cst.Not(), test)


def operator_statement(node: cst.Expr) -> Iterable[cst.CSTNode]:
    """A call whose result nobody takes isn't made."""
    if isinstance(node.value, cst.Call):
        yield cst.Pass()


def operator_neighbours(node: cst.Call | cst.Tuple) -> Iterable[cst.CSTNode]:
    """Two neighbours change places: the first with the second argument, training with test."""
    parts: Sequence[Any] = node.args if isinstance(node, cst.Call) else node.elements
    for place, (left, right) in enumerate(pairwise(parts)):
        plain = not any(getattr(part, "keyword", None) or getattr(part, "star", "") for part in (left, right))
        if plain and not left.value.deep_equals(right.value):
            swapped = [left.with_changes(value=right.value), right.with_changes(value=left.value)]
            changed = [*parts[:place], *swapped, *parts[place + 2 :]]
            yield node.with_changes(**{"args" if isinstance(node, cst.Call) else "elements": changed})


class Candidates:
    """All changes that a module offers."""

    def __init__(self, module: str, source: str, settings: Settings) -> None:
        wrapper = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
        finder = _Finder(wrapper.module, settings)
        wrapper.visit(finder)
        self._module, self._source, self._seed = module, source, settings.seed
        self._places: dict[Place, list[_Change]] = {}
        for change in finder.changes:
            self._places.setdefault(change.place, []).append(change)

    def __len__(self) -> int:
        """How many places can be changed."""
        return len(self._places)

    def sample(self, count: int) -> list[Mutant]:
        """The `count` mutants of lowest rank, in the order of their lines."""
        ranked = sorted(self._ranked(), key=lambda pair: pair[0])
        mutants = (_mutant(self._module, self._source, change) for _, change in ranked[:count])
        return sorted(mutants, key=lambda mutant: (mutant.line, mutant.now))

    def _ranked(self) -> Iterator[tuple[tuple[int, bytes], _Change]]:
        """Changes with their ranks: the number of better ones at the same place, then the hash."""
        alike: Counter[str] = Counter()
        for changes in self._places.values():
            hashed = []
            for change in changes:
                text = "\0".join([str(self._seed), self._module, change.inside, change.was, change.now])
                alike[text] += 1
                hashed.append((hashlib.sha256(f"{text}\0{alike[text]}".encode()).digest(), change))
            for turn, (digest, change) in enumerate(sorted(hashed, key=lambda pair: pair[0])):
                yield (turn, digest), change


def _mutant(module: str, source: str, change: _Change) -> Mutant:
    first, first_column, last, last_column = change.place
    lines = source.splitlines(keepends=True)
    text = lines[first - 1][:first_column] + change.now + lines[last - 1][last_column:]
    # Stripped: within brackets the changed code may be indented otherwise.
    old, new = ([line.strip() for line in part] for part in (lines[first - 1 : last], text.splitlines()))
    steps = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    edits = [step for step in steps if step[0] != "equal"]
    was = "\n".join(line for _, i, j, _, _ in edits for line in old[i:j])
    now = "\n".join(line for _, _, _, k, m in edits for line in new[k:m])
    mutated = "".join([*lines[: first - 1], text, *lines[last:]])
    return Mutant(module, change.inside, first + edits[0][1], change.lines, was, now, mutated)


class _Finder(cst.CSTVisitor):
    """Goes through a module and notes every change that the operators offer."""

    METADATA_DEPENDENCIES = (PositionProvider, WhitespaceInclusivePositionProvider)

    def __init__(self, tree: cst.Module, settings: Settings) -> None:
        super().__init__()
        self._tree = tree
        self.changes: list[_Change] = []
        self._settings = settings
        known: dict[str, tuple[Any, Operator]] = {
            **{operator.__name__: (kind, operator) for kind, operator in mutation_operators},
            "operator_condition": (cst.If | cst.While, operator_condition),
            "operator_statement": (cst.Expr, operator_statement),
            "operator_neighbours": (cst.Call | cst.Tuple, operator_neighbours),
        }
        self._operators = [known[f"operator_{o}"] for o in settings.operators]
        self._scopes: list[cst.FunctionDef | cst.ClassDef] = []
        self._statement: cst.SimpleStatementLine | None = None
        self._parameters = 0

    def on_visit(self, node: cst.CSTNode) -> bool:
        if self._is_quiet(node):
            return False
        if isinstance(node, cst.FunctionDef | cst.ClassDef):
            self._scopes.append(node)
        elif isinstance(node, cst.SimpleStatementLine):
            self._statement = node
        elif isinstance(node, cst.Parameters):
            self._parameters += 1
        for kind, operator in self._operators:
            if isinstance(node, kind):
                self._note(node.test if operator is operator_condition else node, operator)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, cst.FunctionDef | cst.ClassDef):
            self._scopes.pop()
        elif isinstance(original_node, cst.SimpleStatementLine):
            self._statement = None
        elif isinstance(original_node, cst.Parameters):
            self._parameters -= 1

    def _note(self, node: cst.CSTNode, operator: Operator) -> None:
        called = any(isinstance(scope, cst.FunctionDef) for scope in self._scopes) and not self._parameters
        extent = self.get_metadata(PositionProvider, self._statement or node)
        lines = range(extent.start.line, extent.end.line + 1) if called else range(0)
        inside = ".".join(scope.name.value for scope in self._scopes)
        was = self._tree.code_for_node(node)
        for changed in operator(node):
            if not self._changes_nothing(node, changed):
                now = self._tree.code_for_node(changed)
                self.changes.append(_Change(self._place(node), was, now, inside, lines))

    def _place(self, node: cst.CSTNode) -> Place:
        # With parentheses and white space: the code of a node has them too.
        extent = self.get_metadata(WhitespaceInclusivePositionProvider, node)
        return extent.start.line, extent.start.column, extent.end.line, extent.end.column

    def _is_quiet(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Annotation | cst.Decorator | cst.Raise | cst.FormattedString):
            return True
        if isinstance(node, cst.Arg):
            return node.keyword is not None and node.keyword.value in self._settings.quiet_keywords
        if isinstance(node, cst.Call):
            name = get_full_name_for_node(node.func) or ""
            return name in {"len", "isinstance"} or name in self._settings.quiet_calls
        if isinstance(node, cst.Expr):
            return self._is_quiet(node.value)
        return isinstance(node, cst.If) and get_full_name_for_node(node.test) == "TYPE_CHECKING"

    def _changes_nothing(self, node: cst.CSTNode, changed: cst.CSTNode) -> bool:
        """Whether only quiet arguments of a call differ, or the order of arguments whose order is free."""
        if not isinstance(node, cst.Call) or not isinstance(changed, cst.Call):
            return False
        loud = [
            [self._tree.code_for_node(arg.value) for arg in call.args if not self._is_quiet(arg)]
            for call in (node, changed)
        ]
        if get_full_name_for_node(node.func) in self._settings.symmetric:
            loud = [sorted(words) for words in loud]
        return loud[0] == loud[1]
