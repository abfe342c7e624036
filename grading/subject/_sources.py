"""Reads what a student wrote, a folder, a .py file or a notebook, as text and syntax; nothing is run here."""

from __future__ import annotations

import ast
import os
import re
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from grading import ipynb
from grading.course import Course, Exercise, Unit

from ._cells import Cells, joined, what_is_wrong
from ._package import keep_text

# of a file that is no notebook, and of what there is to be read as Python
MAX_BYTES, MAX_CODE = 4_000_000, 500_000
TOO_MUCH = f"it has more than {MAX_CODE // 1000} kB of code"


class ImplError(Exception):
    """One sentence on why there is nothing to judge at the path given."""


@dataclass(frozen=True)
class Broken:
    """A file that cannot be read as Python: the sentence for all of its exercises."""

    problem: str
    where: str


@dataclass(frozen=True)
class Source:
    """One module of a submission; of a notebook, the definitions in its `cells` and what those need.

    `broken` has what is wrong with the cell that would have defined a name.
    """

    name: str
    path: Path
    shown_path: str
    tree: ast.Module
    cells: tuple[int, ...] = ()
    units: frozenset[str] = frozenset()
    definitions: dict[str, ast.stmt] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    broken: dict[str, str] = field(default_factory=dict)

    def where(self, line: int) -> str:
        """`exercises/u1_statistics.py:31`, or the cell and its line in a notebook."""
        if not self.cells:
            return f"{self.shown_path}:{line}"
        cell = sum(first <= line for first in self.cells)
        label = self.labels[cell - 1] if self.labels else f"{self.shown_path}, cell {cell}"
        return f"{label}, line {line - self.cells[cell - 1] + 1}"

    def parsed(self, text: str) -> Source:
        """The same module with another text; raises SyntaxError for one that is no Python."""
        tree = ast.parse(text, filename=str(self.path))
        if "import" in text:
            tree = _Imports(self.units).visit(tree)
        return replace(self, tree=tree, definitions=definitions(tree))

    def defines(self, exercise: Exercise) -> bool:
        return any(name in self.definitions for name in exercise.names)


@dataclass(frozen=True, eq=False)
class Sources:
    """A submission: a module per unit, or one loose file that may define exercises of any unit."""

    path: Path
    units: dict[str, Source | Broken]
    loose: Source | Broken | None = None

    def of(self, exercise: Exercise) -> Source | Broken | None:
        """Where an exercise is to be looked for; None when there is no such file."""
        return self.loose if self.loose is not None else self.units.get(exercise.unit)

    def unreadable(self, exercise: Exercise) -> str:
        """Why the file that an exercise should be in cannot be read; empty where it can be, or where there is none."""
        source = self.of(exercise)
        return source.problem if isinstance(source, Broken) else ""

    def whole(self, unit: str) -> Source:
        """The file of a unit that is known to be there and readable, as those of the reference are."""
        source = self.units[unit]
        assert isinstance(source, Source), "the reference is read and checked before it is used"
        return source

    def started(self, exercise: Exercise) -> bool:
        """Whether all of an exercise is there, and nothing of it still ends as it was given."""
        source = self.of(exercise)
        if not isinstance(source, Source):
            return False
        found = [source.definitions.get(name) for name in exercise.names]
        return all(node is not None and not _ends_as_a_stub(node) for node in found)

    def untouched(self, exercise: Exercise) -> ast.Raise | None:
        """The statement that a stub consists of, where an exercise consists of stubs alone."""
        source = self.of(exercise)
        if not isinstance(source, Source):
            return None
        nodes = [source.definitions.get(name) for name in exercise.names]
        found = [_stub(node) for node in nodes]
        if not all(found):
            return None
        # a class may be given its methods later
        inside = {id(inner) for node in nodes if node for inner in ast.walk(node)}
        given = [node for name, node in source.definitions.items() if name.startswith(f"{exercise.symbol}.")]
        whole = "." in exercise.names[0] or all(id(node) in inside for node in given)
        return found[0] if whole else None

    def all(self) -> Iterator[Source]:
        for source in (*self.units.values(), self.loose):
            if isinstance(source, Source):
                yield source


def impl_path(course: Course, word: str | None, here: Path = Path()) -> Path:
    """The path that `word` means `here`, exercises/ without one; a word like `solutions` is the course's elsewhere."""
    path = here / word if word else course.root / "exercises"
    return path if path.exists() or not word or not (course.root / word).exists() else course.root / word


def read_sources(course: Course, path: Path) -> Sources:
    """Reads the folder, file or notebook at `path`.

    A file that is named like a unit is that unit; any other file may define exercises of all units.
    Raises ImplError when there is nothing there to judge.
    """
    if path.is_dir():
        found = {unit.id: read_unit(course, path, unit) for unit in course.units}
        units = {name: source for name, source in found.items() if source}
        if not units:
            example = course.units[0].file
            raise ImplError(
                f"{path} holds no file of this course: expected {example} and its like, or notebooks so named"
            )
        return Sources(path, units)
    if not path.exists():
        raise ImplError(f"there is no file or folder {path}: give a folder, a .py file or a notebook (.ipynb)")
    if path.suffix not in (".py", ".ipynb"):
        raise ImplError(f"{path} is neither a folder nor a .py file nor a notebook (.ipynb)")
    if path.stem in course.by_unit:
        return Sources(path, {path.stem: _read(path, path.stem, course)})
    name = "loose_" + re.sub(r"\W", "_", path.stem)
    return Sources(path, {}, loose=_read(path, name, course))


def read_source(course: Course, path: Path) -> Source | Broken | None:
    """Reads one file of a unit; None where there is none."""
    return _read(path, path.stem, course) if path.is_file() else None


def text_of(path: Path) -> str:
    """The text of a file in the encoding that it names, as Python reads it; raises ValueError for any other."""
    try:
        with tokenize.open(path) as file:
            return file.read()
    # some of Python's encodings are none of text
    except (SyntaxError, UnicodeError, LookupError):
        raise ValueError("it is not UTF-8, and names no other encoding that Python knows") from None


def read_unit(course: Course, folder: Path, unit: Unit) -> Source | Broken | None:
    """Reads a unit in a folder; of a file and a notebook, the one with more exercises begun, else the file."""
    file = folder / unit.file
    found = [_read(path, unit.id, course) for path in (file, file.with_suffix(".ipynb")) if path.is_file()]
    return max(found, key=lambda source: _how_far(source, unit)) if len(found) > 1 else next(iter(found), None)


def _how_far(source: Source | Broken, unit: Unit) -> tuple[int, bool]:
    """How many exercises of a unit somebody has begun; where none, a file that is no Python is further than a stub."""
    if isinstance(source, Broken):
        return 0, True
    alone = Sources(source.path, {unit.id: source})
    return sum(source.defines(one) and alone.untouched(one) is None for one in unit.exercises), False


def _read(path: Path, name: str, course: Course) -> Source | Broken:
    shown = _shown(path, course.root)
    try:
        if path.suffix == ".ipynb":
            return source_of_cells(course, name, path, _code_cells(path), shown=shown)
        if path.stat().st_size > MAX_BYTES:
            return Broken(f"the file is larger than {MAX_BYTES // 1_000_000} MB", shown)
        text = text_of(path)
        if len(text) > MAX_CODE:
            raise ValueError(TOO_MUCH)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error) or type(error).__name__
        return Broken(f"the file cannot be read: {reason}", shown)
    source = Source(name, path, shown, ast.Module([], []), units=frozenset(course.by_unit))
    try:
        compile(text, str(path), "exec", dont_inherit=True)
        return source.parsed(text)
    except SyntaxError as error:
        return Broken(what_is_wrong(error), source.where(error.lineno or 1))
    except (ValueError, RecursionError, MemoryError) as error:
        return Broken(f"the file is no readable Python: {str(error) or type(error).__name__}", shown)


def source_of_cells(
    course: Course, name: str, path: Path, cells: Sequence[str], *, shown: str = "", labels: Sequence[str] = ()
) -> Source:
    """The module `name` that the cells of a notebook make; an error in one of them is said to be in its label."""
    found = joined(cells)
    exercises = course.by_unit[name].exercises if name in course.by_unit else course.exercises.values()
    units = frozenset(course.by_unit)
    tree = _Imports(units).visit(found.tree({exercise.symbol for exercise in exercises}))
    keep_text(str(path), found.text)
    source = Source(name, path, shown, tree, tuple(found.first), units, definitions(tree), tuple(labels))
    return replace(source, broken=_broken(source, found))


def _broken(source: Source, cells: Cells) -> dict[str, str]:
    names = {name: place for name, place in cells.broken.items() if name not in source.definitions}
    return {name: f"{source.where(line)}: {problem}" for name, (line, problem) in names.items()}


def _code_cells(path: Path) -> list[str]:
    import nbformat

    with path.open("rb") as file:
        text = ipynb.text_of(file.read(ipynb.MAX_BYTES + 1))
    try:
        notebook = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
        cells = [str(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    except nbformat.reader.NotJSONError:
        raise ValueError("it is no notebook, or a part of one") from None
    except (AttributeError, KeyError, TypeError, RecursionError, MemoryError, nbformat.ValidationError):
        raise ValueError("it is no notebook") from None
    if sum(map(len, cells)) > MAX_CODE:
        raise ValueError(TOO_MUCH)
    return cells


def _shown(path: Path, root: Path) -> str:
    for base in (Path.cwd() if _cwd_exists() else root, root):
        if path.resolve().is_relative_to(base.resolve()):
            return str(path.resolve().relative_to(base.resolve()))
    return str(path)


def _cwd_exists() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


class _Imports(ast.NodeTransformer):
    """Sends every import of a unit (`from exercises.u4_learner import ...`) to the submission's own modules."""

    FOLDERS = ("exercises", "solutions")

    def __init__(self, units: frozenset[str]) -> None:
        self.units = units

    def _unit(self, module: str) -> str:
        """The unit that a module's name means; empty for none."""
        folder, _, name = module.rpartition(".")
        return name if name in self.units and folder in ("", *self.FOLDERS) else ""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        if unit := self._unit(node.module or ""):
            node.module, node.level = unit, 1
        elif node.module in self.FOLDERS and all(alias.name in self.units for alias in node.names):
            node.module, node.level = None, 1
        return node

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for alias in node.names:
            unit = self._unit(alias.name)
            if not unit:
                found.append(ast.Import([alias]))
                continue
            found.append(ast.ImportFrom(None, [ast.alias(unit, alias.asname)], 1))
            if alias.name != unit and alias.asname is None:
                # it binds the name of the folder: the package that all units are in
                folder = ast.Name(alias.name.partition(".")[0], ast.Store())
                found.append(ast.Assign([folder], ast.parse("__import__(__package__)", mode="eval").body))
        return [ast.fix_missing_locations(ast.copy_location(one, node)) for one in found]


def definitions(tree: ast.Module) -> dict[str, ast.stmt]:
    """What a module defines itself: `SGD` and `SGD.step` by the statement that does it; imported names are not.

    A class has what it inherits from another class of the module, what is assigned to its attributes later, and what
    the class has of which it is another name.
    """
    found: dict[str, ast.stmt] = {}

    def inherit(name: str, base: ast.expr) -> None:
        if isinstance(base, ast.Name):
            own = {
                other.removeprefix(base.id): node for other, node in found.items() if other.startswith(f"{base.id}.")
            }
            found.update({f"{name}{attribute}": node for attribute, node in own.items()})

    for statement in _statements(tree.body):
        for name in bound_by(statement):
            found[name] = statement
        if isinstance(statement, ast.ClassDef):
            for base in statement.bases:
                inherit(statement.name, base)
            for inner in _statements(statement.body):
                for name in bound_by(inner):
                    found[f"{statement.name}.{name}"] = inner
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    inherit(target.id, statement.value)
                for part in targets_in(target):
                    if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                        found[f"{part.value.id}.{part.attr}"] = statement
    return found


def _stub(node: ast.stmt | None) -> ast.Raise | None:
    """The statement that raises NotImplementedError, of a function that has no other or a class of such methods."""
    if isinstance(node, ast.ClassDef):
        methods = [_stub(inner) for inner in node.body if isinstance(inner, ast.FunctionDef)]
        return methods[0] if methods and all(methods) else None
    if not isinstance(node, ast.FunctionDef) or node.decorator_list:
        return None
    match [statement for statement in node.body if not _is_given(statement)]:
        case [ast.Raise(exc=ast.Call(func=ast.Name("NotImplementedError"))) as only]:
            return only
    return None


def _ends_as_a_stub(node: ast.stmt) -> bool:
    """Whether a function, or some method of a class, ends by raising NotImplementedError, be it in a loop."""
    if isinstance(node, ast.ClassDef):
        return any(_ends_as_a_stub(inner) for inner in node.body if isinstance(inner, ast.FunctionDef))
    if isinstance(node, ast.FunctionDef | ast.For | ast.While | ast.With):
        return _ends_as_a_stub(node.body[-1])
    return isinstance(node, ast.Raise) and node.exc is not None and "NotImplementedError" in ast.unparse(node.exc)


def _is_given(statement: ast.stmt) -> bool:
    """A docstring, or the call that a module of torch begins with."""
    if not isinstance(statement, ast.Expr):
        return False
    return isinstance(statement.value, ast.Constant) or ast.unparse(statement) == "super().__init__()"


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With | ast.For | ast.While):
            yield from _statements([s for s in ast.iter_child_nodes(statement) if isinstance(s, ast.stmt)])


def bound_by(statement: ast.stmt) -> list[str]:
    """The names that a definition or an assignment binds."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets = [statement.target]
    return [part.id for target in targets for part in targets_in(target) if isinstance(part, ast.Name)]


def targets_in(target: ast.expr) -> Iterator[ast.expr]:
    """`a, (b, *c)` are three targets."""
    match target:
        case ast.Tuple() | ast.List():
            for part in target.elts:
                yield from targets_in(part)
        case ast.Starred():
            yield from targets_in(target.value)
        case _:
            yield target
