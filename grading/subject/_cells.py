"""Makes one module of a notebook's cells: the definitions and what they need, without the experiments between them."""

from __future__ import annotations

import ast
import re
import symtable
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

# cell magics that run the rest of the cell as Python, in the notebook's own names
TRANSPARENT = ("%%time", "%%capture", "%%prun")
DEFINITION = re.compile(r"^(?:async +)?(?:def|class) +(\w+)", re.M)
MAX_LINE = 120
COMPREHENSIONS = ("listcomp", "setcomp", "dictcomp", "genexpr")
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass
class Cells:
    """The cells of a notebook as one text; `first` has the line that each begins in, from 1.

    `broken` has the names that a cell which is no Python would have defined, each with its line and what is wrong.
    """

    lines: list[str] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    broken: dict[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    def tree(self, wanted: Iterable[str]) -> ast.Module:
        """The module that defines what the cells define, and the names of `wanted` where they assign them."""
        futures = [part.statement for part in self.parts if part.future]
        body = futures[:1] + essentials([part for part in self.parts if not part.future], wanted)
        return ast.Module(body, [])


def joined(sources: Sequence[str]) -> Cells:
    """One text of many cells; one that is no Python costs only what it would define, as in a notebook."""
    cells = Cells()
    for source in sources:
        start = len(cells.lines)
        lines, found = _read(source)
        cells.first.append(start + 1)
        cells.lines += lines
        names = DEFINITION.findall("\n".join(lines))
        if isinstance(found, list):
            for part in found:
                ast.increment_lineno(part.statement, start)
            cells.parts += found
            for name in names:
                cells.broken.pop(name, None)
        else:
            line, problem = found
            cells.broken.update(dict.fromkeys(names, (start + line, problem)))
    return cells


def lines_of(node: ast.stmt) -> tuple[int, int]:
    """First and last line of a definition, its decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)]), node.end_lineno or node.lineno


def finished(source: str, line: int) -> str:
    """The statements of a cell before the one that has `line` in it, which failed."""
    lines, found = _read(source)
    if isinstance(found, list):
        for part in found:
            first, _ = lines_of(part.statement)
            if line <= (part.statement.end_lineno or line):
                return "\n".join(lines[: first - 1])
    return ""


def essentials(parts: Sequence[Part], wanted: Iterable[str]) -> list[ast.stmt]:
    """The definitions, the latest of each name, and of the other statements only those that they need.

    What is tried out between them may be slow, may fail, and has no part in what is judged. The names in `wanted` may
    be defined by an assignment.
    """
    kept: set[int] = set()
    needed = set(wanted)
    while True:
        plain = {name for number in kept if not parts[number].fixed for name in parts[number].binds}
        fresh = {
            number
            for number, part in enumerate(parts)
            if number not in kept
            and (part.defines or (part.binds | part.changes | (part.calls & plain)) & needed)
            and not _superseded(number, parts, kept)
        }
        if not fresh:
            return [parts[number].statement for number in sorted(kept)]
        kept |= fresh
        needed.update(name for number in fresh for name in (*parts[number].reads, parts[number].name) if name)


def _superseded(number: int, parts: Sequence[Part], kept: set[int]) -> bool:
    """Whether a later definition takes the place of this one before anything that is kept has used it."""
    name = parts[number].name
    for later in range(number + 1, len(parts)) if name else ():
        if later in kept and name in parts[later].at_once:
            return False
        if parts[later].name == name:
            return name not in parts[later].at_once
    return False


class Part:
    """One statement of a cell: the names that it binds, reads, and changes the value of."""

    def __init__(self, statement: ast.stmt) -> None:
        self.statement = statement
        self.future = isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
        self.name = statement.name if isinstance(statement, Definition) else ""
        table = symtable.symtable(ast.unparse(statement), "<cell>", "exec")
        symbols = table.get_symbols()
        self.binds = {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}
        self.at_once, later = _reads(table)
        inside = list(_run_with(statement))
        own = {node.id for parent in inside for node in _own_variables(parent)}
        self.reads = (self.at_once | later) - own
        # a function, class or module is not filled by calls of its methods, as a list is
        self.fixed = isinstance(statement, Definition | ast.Import | ast.ImportFrom)
        star = isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*"
        demonstration = isinstance(statement, ast.If) and "__name__" in self.at_once
        self.defines = (star or any(isinstance(node, Definition) for node in inside)) and not demonstration
        self.changes = {_root(node) for node in inside if isinstance(getattr(node, "ctx", None), ast.Store)}
        self.calls = {_root(node.value) for node in inside if isinstance(node, ast.Expr)}


def _read(source: str) -> tuple[list[str], list[Part] | tuple[int, str]]:
    """A cell's lines, magics commented out, and its statements, or the line and the sentence of what is wrong."""
    from jupytext.magics import comment_magic

    lines = source.split("\n")
    opening = next((line for line in lines if line.strip()), "")
    if opening.startswith("%%") and opening.split()[0] not in TRANSPARENT:
        return [f"# {line}" for line in lines], []
    commented: list[str] = comment_magic(list(lines))
    found = _parsed(commented)
    if isinstance(found, tuple):
        # a magic may be all that a block holds
        pairs = zip(lines, commented, strict=True)
        filled = [one if one == other else re.sub(r"^(\s*)# ", r"\1pass  # ", other) for one, other in pairs]
        if isinstance(again := _parsed(filled), list):
            return filled, again
    return commented, found


def _parsed(lines: list[str]) -> list[Part] | tuple[int, str]:
    text = "\n".join(lines)
    try:
        compile(text, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        return [Part(statement) for statement in ast.parse(text).body]
    except SyntaxError as error:
        return error.lineno or 1, what_is_wrong(error)
    except (ValueError, RecursionError, MemoryError) as error:
        return 1, f"the cell is no readable Python: {str(error) or type(error).__name__}"


def what_is_wrong(error: SyntaxError) -> str:
    """The error and the line that it is in, as far as anybody would read that."""
    line = (error.text or "").strip()
    line = line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]} ..."
    return f"{type(error).__name__}: {error.msg}" + (f", in `{line}`" if line else "")


def _reads(table: symtable.SymbolTable) -> tuple[set[str], set[str]]:
    """The names of the module that are read when a statement runs, and those that its functions read when called."""
    module = table.get_type() == "module"
    symbols = (symbol for symbol in table.get_symbols() if symbol.is_referenced())
    at_once = {symbol.get_name() for symbol in symbols if module or symbol.is_global()}
    later: set[str] = set()
    for child in table.get_children():
        now, then = _reads(child)
        waits = child.get_type() == "function" and child.get_name() not in COMPREHENSIONS
        later |= (now | then) if waits else then
        at_once |= set() if waits else now
    return at_once, later


def _run_with(statement: ast.stmt) -> Iterator[ast.AST]:
    """The nodes that run when a statement does: none inside functions."""
    todo: list[ast.AST] = [statement]
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, Definition | ast.Lambda):
            todo += ast.iter_child_nodes(node)


def _own_variables(node: ast.AST) -> Iterator[ast.Name]:
    """The variables that a loop or a `with` brings along: `i` of `for i in range(3)`."""
    targets = [node.target] if isinstance(node, ast.For | ast.AsyncFor) else []
    if isinstance(node, ast.withitem) and node.optional_vars is not None:
        targets.append(node.optional_vars)
    for target in targets:
        yield from (inner for inner in ast.walk(target) if isinstance(inner, ast.Name))


def _root(node: ast.AST) -> str:
    """`table` for `table.rows[0]` and for `table.append(3)`; empty where no name is at the root."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
