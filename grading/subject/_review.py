"""Notices in the source, which is not run, where the finished thing may do an exercise's work.

It reads and accuses nobody: each entry is a line for a person to look at. `unavailable` takes the finished things away
while an exercise is judged; either can be got round alone.
"""

from __future__ import annotations

import ast
import builtins
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from grading.course import Course, Exercise

from ._sources import Source, Sources, targets_in

# what calls something whose name cannot be read in the source
HIDING = (
    *("builtins.eval", "builtins.exec", "builtins.compile", "builtins.__import__", "importlib", "runpy", "timeit"),
    *("pickle", "marshal", "pkgutil", "pydoc", "ctypes", "gc.get_objects", "gc.get_referrers", "gc.get_referents"),
    *("inspect.currentframe", "inspect.stack", "sys._getframe"),
)
# what leads from any object to all others
TABLES = {"__mro__", "__bases__", "__subclasses__", "__globals__", "__defaults__", "__kwdefaults__", "__closure__"}
# of this kit, a notebook takes its checks and the course's data
OURS, FOR_STUDENTS = "grading", ("grading.notebook", "grading.data")
# the functions behind the classes of torch.optim
STEPS = re.compile(r"_(?:single_tensor|multi_tensor|fused)_(\w+)")
# doors below the public functions of PyTorch
KERNELS = ("torch.ops", "torch._C", "torch._VF", "torch._refs", "torch._prims", "torch._decomp")
COMPILERS = ("torch.jit.CompilationUnit", "torch.utils.cpp_extension", "torch.library")

LOOKUPS = ("__getattribute__", "__getattr__")
NUMBERS_OF_A_TENSOR = {"shape", "ndim", "dtype", "device", "requires_grad", "is_leaf", "names"}
PLAIN_RESULTS = {"item", "tolist", "size", "dim", "numel", "stride", "is_floating_point", "__len__"}
PLAIN_MODULES = ("math", "collections", "itertools", "functools", "statistics", "string", "re", "random")
# it may stand where nothing calls it, which no reader can know
FINISHED = "would do the work of this exercise, where it is called"
DEEPEST = 50
LONGEST = 60
# meanings of one name, and sentences on one exercise: with more of them nobody reads on
MOST_MEANINGS, MOST_SENTENCES = 300, 20
INTRICATE = "the source is too intricate to be read"


class _Kind(Enum):
    TENSOR = "a tensor, for certain"
    PLAIN = "no tensor, for certain"
    UNKNOWN = "anything"


@dataclass(frozen=True)
class _Path:
    """A module from outside the submission, or something in one: `torch.nn.BatchNorm2d`."""

    dotted: str


@dataclass(frozen=True)
class _Own:
    """A function or class of the submission."""

    node: ast.AST


@dataclass(frozen=True)
class _Instance:
    """An object of a class of the submission."""

    of: ast.ClassDef


_Value = _Kind | _Path | _Own | _Instance
_Values = frozenset[_Value]
_UNKNOWN: _Values = frozenset({_Kind.UNKNOWN})
_PLAIN: _Values = frozenset({_Kind.PLAIN})
_TENSOR: _Values = frozenset({_Kind.TENSOR})


@dataclass(eq=False)
class _Binding:
    """One statement that gives a name its meaning."""

    node: ast.AST
    value: ast.expr | None = None
    known: _Value | None = None
    certain: bool = True
    imported: bool = False

    @property
    def path(self) -> str:
        """Of something from outside the submission, where that is; else nothing."""
        return self.known.dotted if isinstance(self.known, _Path) else ""


class _Scope:
    """The names of a module, a class body or a function."""

    def __init__(self, body: list[ast.stmt] | ast.expr, parent: _Scope | None, owner: ast.ClassDef | None) -> None:
        self.parent, self.owner = parent, owner
        self.is_class = False
        self.names: dict[str, list[_Binding]] = defaultdict(list)
        self.stars: list[str] = []
        todo: list[tuple[ast.AST, bool]] = [(node, True) for node in reversed(body)] if isinstance(body, list) else []
        todo += [] if isinstance(body, list) else [(body, True)]
        while todo:
            node, certain = todo.pop()
            self._bind(node, certain)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
                continue
            if _is_demo(node):
                continue
            inside = certain and not isinstance(node, ast.If | ast.Try | ast.For | ast.While | ast.Match)
            todo += [(child, inside) for child in reversed(list(ast.iter_child_nodes(node)))]

    def _bind(self, node: ast.AST, certain: bool) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self.names[node.name].append(_Binding(node, known=_Own(node), certain=certain))
            case ast.Import():
                for alias in node.names:
                    path = alias.name if alias.asname else alias.name.partition(".")[0]
                    self._import(node, alias.asname or path, path, certain)
            case ast.ImportFrom() if not node.level:
                for alias in node.names:
                    if alias.name == "*":
                        self.stars.append(node.module or "")
                    else:
                        self._import(node, alias.asname or alias.name, f"{node.module}.{alias.name}", certain)
            case ast.ImportFrom():
                for alias in node.names:
                    self.names[alias.asname or alias.name].append(_Binding(node, certain=certain))
            case ast.Assign():
                for target in node.targets:
                    self._assign(node, target, node.value, certain)
            case ast.AnnAssign() if node.value is not None:
                self._assign(node, node.target, node.value, certain)
            case ast.NamedExpr():
                self._assign(node, node.target, node.value, certain)
            case ast.For() | ast.AsyncFor() | ast.comprehension():
                self._assign(node, node.target, None, certain)
            case ast.withitem() if node.optional_vars is not None:
                self._assign(node, node.optional_vars, None, certain)
            case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar() if node.name:
                self.names[node.name].append(_Binding(node, certain=certain))

    def _import(self, node: ast.AST, name: str, path: str, certain: bool) -> None:
        self.names[name].append(_Binding(node, known=_Path(path), certain=certain, imported=True))

    def _assign(self, node: ast.AST, target: ast.expr, value: ast.expr | None, certain: bool) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id].append(_Binding(node, value=value, certain=certain))
        elif isinstance(target, ast.Tuple | ast.List):
            values: list[ast.expr | None] = [None] * len(target.elts)
            if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts):
                values = list(value.elts)
            for part, one in zip(target.elts, values, strict=True):
                self._assign(node, part, one, certain)
        elif isinstance(target, ast.Starred):
            self._assign(node, target.value, None, certain)


class _TooIntricateError(Exception):
    """A source that takes longer to be read than anybody would write it."""


def review(course: Course, exercise: Exercise, source: Source) -> list[str]:
    """A sentence for every place where `exercise` seems to leave its work to a finished thing of its `delegation`.

    Only what the exercise's own definition reaches in `source` is read: helpers of the same file, but no other
    exercise, which is reviewed by itself. Nothing is run or imported.
    """
    if not exercise.delegation:
        return []
    try:
        entries = _Review(course, exercise, source).entries()
    except (RecursionError, MemoryError, _TooIntricateError):
        return [INTRICATE]
    found = [f"{_place(source, line)}: {sentence}" for line, sentence in entries[:MOST_SENTENCES]]
    more = len(entries) - len(found)
    return [*found, f"and {more} more like these"] if more else found


def reviewed(course: Course, names: Iterable[str], sources: Sources) -> dict[str, list[str]]:
    """What `review` says of those exercises, by name, that a submission defines, where it says anything."""
    found = {}
    for exercise in map(course.exercises.__getitem__, dict.fromkeys(names)):
        source = sources.of(exercise)
        if isinstance(source, Source) and source.defines(exercise) and (said := review(course, exercise, source)):
            found[exercise.id] = said
    return found


def _place(source: Source, line: int) -> str:
    """`line 12`, or `cell 3, line 2` in a notebook."""
    rest = source.where(line).removeprefix(source.shown_path)
    return f"line {line}" if rest.startswith(":") else rest.lstrip(", ")


class _Review:
    """Walks over everything that one exercise reaches, and notes what it finds by line."""

    def __init__(self, course: Course, exercise: Exercise, source: Source) -> None:
        self.exercise = exercise
        self.finished = [name.split(".") for name in exercise.delegation]
        self.packages = {words[0] for words in self.finished}
        # `torch.Tensor.var` and `pandas.Series.ewm` are called on an object whose class the source does not tell
        self.methods = {words[-1] for words in self.finished if len(words) > 2 and words[-2][:1].isupper()}
        unit = course.by_unit.get(source.name)
        here = unit.exercises if unit else tuple(course.exercises.values())
        self.others = {name for other in here if other.id != exercise.id for name in other.names}
        self.other_symbols = {other.symbol for other in here} - {exercise.symbol}

        self.module = _Scope(source.tree.body, None, None)
        self.patches = _patches(source.tree)
        self.found: dict[tuple[int, str], None] = {}
        self.maybe: list[tuple[int, str, str]] = []
        self.todo: list[tuple[ast.AST, _Scope]] = []
        self.seen: set[int] = set()
        self.own_methods: set[str] = set()
        self.scopes: dict[ast.AST, _Scope] = {}
        self.known: dict[tuple[int, int], _Values] = {}
        self.attributes: dict[ast.ClassDef, dict[str, list[tuple[ast.expr | None, _Scope]]]] = {}

    def entries(self) -> list[tuple[int, str]]:
        symbol = self.exercise.symbol
        for binding in self._current(symbol, None):
            if self._verdict(binding.path):
                self._note(binding.node, f"`{symbol}` is `{binding.path}`, the finished thing itself")
        self._note_tampering()
        self._follow(symbol, None)
        while self.todo:
            self._visit(*self.todo.pop())
        for line, sentence, method in self.maybe:
            # a method of an own class that the exercise uses may be what is called
            if method not in self.own_methods:
                self.found[line, sentence] = None
        return sorted(self.found)

    def _note_tampering(self) -> None:
        """Notes what the file does, wherever it does it, that no exercise needs."""
        for binding in self.module.names.get("__name__", ()):
            self._note(binding.node, "`__name__` is changed: what reads like an experiment runs")
        for bindings in self.module.names.values():
            for binding in bindings:
                if binding.path.partition(".")[0] == OURS and not binding.path.startswith(FOR_STUDENTS):
                    self._note(binding.node, f"`{binding.path}` belongs to what judges it")

    # -- the walk

    def _current(self, name: str, before: int | None) -> list[_Binding]:
        """What a name of the module may mean: the last certain binding and all after it; before a line, where given."""
        bindings = self.module.names.get(name, [])
        if len(bindings) > MOST_MEANINGS:
            raise _TooIntricateError
        if before is not None:
            bindings = [b for b in bindings if getattr(b.node, "lineno", 0) < before] or bindings
        certain = [index for index, binding in enumerate(bindings) if binding.certain]
        return bindings[certain[-1] :] if certain else bindings

    def _follow(self, name: str, before: int | None) -> None:
        """Reads on in what a name of the module is bound to."""
        for binding in self._current(name, before):
            if id(binding) in self.seen:
                continue
            self.seen.add(id(binding))
            if isinstance(binding.known, _Own):
                self.todo.append((binding.known.node, self.module))
            elif binding.value is not None:
                self.todo.append((binding.value, self.module))
        self.todo += [(patch, self.module) for patch in self.patches.pop(name, [])]

    def _visit(self, node: ast.AST, scope: _Scope) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                self._visit_function(node, scope)
            case ast.ClassDef():
                self._visit_class(node, scope)
            case ast.Name():
                self._visit_name(node, scope)
            case ast.Attribute():
                self._visit_attribute(node, scope)
            case ast.Call():
                self._visit_call(node, scope)
            case ast.Subscript():
                self._visit_subscript(node, scope)
            case ast.Compare():
                # `type(x) is nn.ReLU` asks for the class and does not use it
                for operand in (node.left, *node.comparators):
                    parts = operand.elts if isinstance(operand, ast.Tuple | ast.List | ast.Set) else [operand]
                    self.todo += [(part, scope) for part in parts if not isinstance(part, ast.Attribute | ast.Name)]
            case ast.MatchClass():
                self.todo += [(pattern, scope) for pattern in (*node.patterns, *node.kwd_patterns)]
            case ast.AnnAssign():
                self.todo += [(part, scope) for part in (node.target, node.value) if part is not None]
            case _:
                self.todo += [(child, scope) for child in ast.iter_child_nodes(node)]

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, scope: _Scope) -> None:
        arguments = node.args
        outside: list[ast.expr | None] = [*arguments.defaults, *arguments.kw_defaults]
        outside += [] if isinstance(node, ast.Lambda) else node.decorator_list
        self.todo += [(expression, scope) for expression in outside if expression is not None]
        inside = self._scope_of(node, scope)
        body: list[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else list(node.body)
        self.todo += [(statement, inside) for statement in body]

    def _visit_class(self, node: ast.ClassDef, scope: _Scope) -> None:
        self.todo += [(part, scope) for part in (*node.decorator_list, *node.bases)]
        self.todo += [(keyword.value, scope) for keyword in node.keywords]
        inside = self._scope_of_class(node, scope)
        self.own_methods.update(inside.names)
        for binding in itertools.chain(*inside.names.values()):
            if (
                binding.imported
                and isinstance(binding.known, _Path)
                and (verdict := self._verdict(binding.known.dotted))
            ):
                self._note(binding.node, f"`{binding.known.dotted}` {verdict}")
        for statement in node.body:
            name = f"{node.name}.{getattr(statement, 'name', '')}"
            if not (scope is self.module and name in self.others):
                self.todo.append((statement, inside))

    def _visit_name(self, node: ast.Name, scope: _Scope) -> None:
        if not isinstance(node.ctx, ast.Load):
            return
        bindings, home = self._lookup(node.id, scope, node)
        if home is self.module and node.id not in self.other_symbols:
            self._follow(node.id, _before(node, scope))
        if not bindings or any(binding.imported for binding in bindings):
            self._accuse(node, self._resolve(node, scope))

    def _visit_attribute(self, node: ast.Attribute, scope: _Scope) -> None:
        if self._accuse(node, self._resolve(node, scope)) and _is_chain(node):
            return
        if node.attr in TABLES:
            self._note(node, f"`{_text(node)}` hides what is called")
        receiver = self._resolve(node.value, scope)
        if node.attr in self.methods and isinstance(node.ctx, ast.Load) and receiver == _TENSOR:
            self._note(node, f"`{_text(node)}` {FINISHED}")
        self.todo.append((node.value, scope))

    def _visit_call(self, node: ast.Call, scope: _Scope) -> None:
        called = _paths(self._resolve(node.func, scope))
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        if called & {"builtins.isinstance", "builtins.issubclass"}:
            arguments = node.args[:1]
        if "builtins.getattr" in called and len(node.args) > 1:
            self._look_up(node, node.args[0], node.args[1], scope)
        elif called & {"operator.methodcaller", "operator.attrgetter"} and self.methods:
            for name in node.args[:1]:
                self._named(node, _constant(name), _text(node.func))
        elif isinstance(node.func, ast.Attribute):
            if node.func.attr in LOOKUPS and node.args:
                self._look_up(node, node.func.value, node.args[-1], scope)
            elif node.func.attr in ("get", "pop", "__getitem__") and node.args:
                self._subscripted(node, node.func.value, node.args[0], scope)
            self._called_method(node.func, scope)
        self._accuse(node, self._resolve(node, scope))
        self.todo += [(part, scope) for part in (node.func, *arguments)]

    def _visit_subscript(self, node: ast.Subscript, scope: _Scope) -> None:
        self._subscripted(node, node.value, node.slice, scope)
        self._accuse(node, self._resolve(node, scope))
        self.todo += [(node.value, scope), (node.slice, scope)]

    # -- what is noted

    def _note(self, node: ast.AST, sentence: str) -> None:
        self.found[getattr(node, "lineno", 1), sentence] = None

    def _accuse(self, node: ast.expr, values: _Values) -> bool:
        """Notes the finished things, and the doors to hidden ones, among what an expression may be."""
        found = False
        for path in sorted(_paths(values)):
            verdict = self._verdict(path)
            if verdict:
                text = _text(node)
                alias = "" if path.rpartition(".")[2] == text.rpartition(".")[2] else f" ({path})"
                self._note(node, f"`{text}`{alias} {verdict}")
                found = True
        return found

    def _verdict(self, path: str) -> str:
        words = path.split(".")
        # the same thing has many addresses: torch.var, torch.functional.var, torch._C._VariableFunctions.var
        ends = set(words[2:]) if path.startswith("torch.ops.") else {words[-1]}
        if len(words) > 1 and any(words[0] == name[0] and name[-1] in ends for name in self.finished):
            return FINISHED
        step = STEPS.fullmatch(words[-1])
        if step and any(words[0] == name[0] and name[-1].lower() == step[1] for name in self.finished):
            return FINISHED
        if path.endswith(".__dict__") and words[0] in self.packages:
            return "hides what is called"
        if any(path == hiding or path.startswith(hiding + ".") for hiding in HIDING):
            return "hides what is called"
        if any(path == door or path.startswith(door + ".") for door in (*KERNELS, *COMPILERS)):
            return "reaches below PyTorch's public functions"
        return ""

    def _called_method(self, function: ast.Attribute, scope: _Scope) -> None:
        if function.attr not in self.methods:
            return
        receiver = self._resolve(function.value, scope)
        sentence = f"`{_text(function)}` {FINISHED}"
        if _Kind.TENSOR in receiver:
            self._note(function, sentence)
        elif _Kind.UNKNOWN in receiver and not any(isinstance(value, _Instance) for value in receiver):
            self.maybe.append((function.lineno, sentence, function.attr))

    def _look_up(self, node: ast.expr, of: ast.expr, name: ast.expr, scope: _Scope) -> None:
        """Judges `getattr(of, name)`."""
        receiver, word = self._resolve(of, scope), _constant(name)
        modules = {path for path in _paths(receiver) if path.partition(".")[0] in self.packages}
        if modules and word is None:
            self._note(node, f"`getattr` on `{min(modules)}` hides what is called")
        elif (self.methods and _Kind.TENSOR in receiver) or (word is not None and _Kind.UNKNOWN in receiver):
            self._named(node, word, "getattr")

    def _named(self, node: ast.expr, word: str | None, text: str) -> None:
        if word is None:
            self._note(node, f"`{text}` hides what is called")
        elif word in self.methods:
            self._note(node, f"`{text}` with the name {word!r} {FINISHED}")

    def _subscripted(self, node: ast.expr, of: ast.expr, key: ast.expr, scope: _Scope) -> None:
        """Judges `torch.__dict__[key]`, `sys.modules[key]` and `globals()[key]`."""
        for path in _paths(self._resolve(of, scope)):
            table = path.endswith(".__dict__") and path.partition(".")[0] in self.packages
            if (table or path in ("sys.modules", "globals()")) and _constant(key) is None:
                self._note(node, f"`{_text(of)}` with a name that is computed hides what is called")

    # -- what an expression may be

    def _lookup(self, name: str, scope: _Scope | None, node: ast.AST) -> tuple[list[_Binding], _Scope | None]:
        start = scope
        while scope is not None:
            if name in scope.names:
                if scope is self.module:
                    return self._current(name, _before(node, start)), scope
                return scope.names[name], scope
            scope = scope.parent
        return [], None

    def _resolve(self, node: ast.expr | None, scope: _Scope, depth: int = 0) -> _Values:
        if node is None or depth > DEEPEST:
            return _UNKNOWN
        key = (id(node), id(scope))
        if key not in self.known:
            self.known[key] = _UNKNOWN  # for a name that is defined by itself
            self.known[key] = self._resolved(node, scope, depth + 1)
        return self.known[key]

    def _resolved(self, node: ast.expr, scope: _Scope, depth: int) -> _Values:
        match node:
            case ast.Name():
                return self._of_name(node, scope, depth)
            case ast.Attribute():
                parts = [self._attribute(value, node.attr, depth) for value in self._resolve(node.value, scope, depth)]
                return frozenset().union(*parts)
            case ast.Call():
                return self._of_call(node, scope, depth)
            case ast.Subscript():
                return self._item(node.value, node.slice, scope, depth)
            case ast.IfExp():
                return self._resolve(node.body, scope, depth) | self._resolve(node.orelse, scope, depth)
            case ast.BoolOp():
                return frozenset().union(*(self._resolve(value, scope, depth) for value in node.values))
            case ast.NamedExpr():
                return self._resolve(node.value, scope, depth)
            case ast.UnaryOp():
                return self._resolve(node.operand, scope, depth)
            case ast.BinOp():
                sides = self._resolve(node.left, scope, depth) | self._resolve(node.right, scope, depth)
                return _TENSOR if _Kind.TENSOR in sides else _PLAIN if sides == _PLAIN else _UNKNOWN
            case ast.Constant() | ast.JoinedStr() | ast.List() | ast.Tuple() | ast.Dict() | ast.Set():
                return _PLAIN
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp() | ast.Lambda():
                return _PLAIN
        return _UNKNOWN

    def _of_name(self, node: ast.Name, scope: _Scope, depth: int) -> _Values:
        bindings, home = self._lookup(node.id, scope, node)
        if home is None:
            starred = [f"{star}.{node.id}" for star in self.module.stars]
            paths = [path for path in starred if self._verdict(path)]
            # any other name is of a piece of the course that stands in another file
            paths = paths or ([f"builtins.{node.id}"] if hasattr(builtins, node.id) else [])
            return frozenset(map(_Path, paths)) or _UNKNOWN
        values: set[_Value] = set()
        for binding in bindings:
            if binding.known is not None:
                values.add(binding.known)
            elif binding.value is not None:
                values |= self._resolve(binding.value, home, depth)
            else:
                values.add(_Kind.UNKNOWN)
        return frozenset(values) or _UNKNOWN

    def _attribute(self, value: _Value, name: str, depth: int) -> _Values:
        match value:
            case _Path(dotted):
                return frozenset({_Path(f"{dotted}.{name}")})
            case _Kind.TENSOR:
                return _PLAIN if name in NUMBERS_OF_A_TENSOR else _TENSOR
            case _Kind.PLAIN:
                return _UNKNOWN
            case _Instance(cls) | _Own(ast.ClassDef() as cls):
                return self._attribute_of(cls, name, depth)
        return _UNKNOWN

    def _attribute_of(self, cls: ast.ClassDef, name: str, depth: int) -> _Values:
        """What the methods of an own class assign to an attribute of `self`."""
        if cls not in self.attributes:
            found = self.attributes[cls] = defaultdict(list)
            inside = self._scope_of_class(cls, self.module)
            for statement in cls.body:
                if isinstance(statement, ast.FunctionDef):
                    scope = self._scope_of(statement, inside)
                    for node in ast.walk(statement):
                        targets = node.targets if isinstance(node, ast.Assign) else []
                        for target in targets:
                            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
                                assert isinstance(node, ast.Assign)
                                found[target.attr].append((node.value, scope))
        values = [self._resolve(value, scope, depth) for value, scope in self.attributes[cls].get(name, [])]
        values += [frozenset({_Own(s)}) for s in cls.body if isinstance(s, ast.FunctionDef) and s.name == name]
        return frozenset().union(*values) or _UNKNOWN

    def _of_call(self, node: ast.Call, scope: _Scope, depth: int) -> _Values:
        results: set[_Value] = set()
        for value in self._resolve(node.func, scope, depth):
            match value:
                case _Path(dotted):
                    results |= self._result(dotted, node, scope, depth)
                case _Own(ast.ClassDef() as cls):
                    results.add(_Instance(cls))
                case _Kind.TENSOR if isinstance(node.func, ast.Attribute):
                    name = node.func.attr
                    results.add(
                        _Kind.PLAIN if name in PLAIN_RESULTS else _Kind.UNKNOWN if name == "numpy" else _Kind.TENSOR
                    )
                case _:
                    results.add(_Kind.UNKNOWN)
        return frozenset(results) or _UNKNOWN

    def _result(self, dotted: str, node: ast.Call, scope: _Scope, depth: int) -> _Values:
        """What comes back from something outside the submission."""
        first = node.args[0] if node.args else None
        word = _constant(first) if first is not None else None
        top, _, last = dotted.rpartition(".")
        if dotted == "builtins.getattr" and len(node.args) > 1:
            name = _constant(node.args[1])
            values = self._resolve(first, scope, depth)
            return frozenset().union(*(self._attribute(value, name, depth) for value in values)) if name else _UNKNOWN
        if dotted == "importlib.import_module" and word:
            return frozenset({_Path(word)})
        if dotted == "builtins.__import__" and word:
            return frozenset({_Path(word.partition(".")[0])})
        if dotted == "builtins.vars" and first is not None:
            modules = _paths(self._resolve(first, scope, depth))
            return frozenset(_Path(f"{module}.__dict__") for module in modules) or _UNKNOWN
        if dotted in ("builtins.globals", "builtins.locals"):
            return frozenset({_Path("globals()")})
        if last in ("get", "pop", "__getitem__") and (top.endswith("__dict__") or top in ("sys.modules", "globals()")):
            return self._entry(top, first)
        if dotted.startswith("torch."):
            return _TENSOR if last in ("Tensor", "Parameter") or last[:1].islower() else _UNKNOWN
        if dotted.startswith("builtins.") or dotted.partition(".")[0] in PLAIN_MODULES:
            # a sum, the largest and the next of tensors are tensors
            return _UNKNOWN if last in ("sum", "max", "min", "next", "abs", "type", "super", "reduce") else _PLAIN
        return _UNKNOWN

    def _item(self, of: ast.expr, key: ast.expr, scope: _Scope, depth: int) -> _Values:
        results: set[_Value] = set()
        for value in self._resolve(of, scope, depth):
            if isinstance(value, _Path):
                results |= self._entry(value.dotted, key)
            else:
                results.add(_Kind.TENSOR if value is _Kind.TENSOR else _Kind.UNKNOWN)
        return frozenset(results)

    def _entry(self, table: str, key: ast.expr | None) -> _Values:
        word = _constant(key) if key is not None else None
        if word is None:
            return _UNKNOWN
        if table == "sys.modules":
            return frozenset({_Path(word)})
        if table.endswith(".__dict__"):
            return frozenset({_Path(f"{table.removesuffix('.__dict__')}.{word}")})
        if table == "globals()":
            return frozenset(b.known or _Kind.UNKNOWN for b in self._current(word, None)) or _UNKNOWN
        return _UNKNOWN

    # -- scopes

    def _scope_of(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, around: _Scope) -> _Scope:
        if node in self.scopes:
            return self.scopes[node]
        owner = around.owner if around.is_class else None
        parent = around.parent if around.is_class else around
        scope = self.scopes[node] = _Scope(node.body, parent, owner)
        name = getattr(node, "name", "")
        is_answer = around is self.module and name == self.exercise.symbol
        kinds = [d.id for d in getattr(node, "decorator_list", []) if isinstance(d, ast.Name)]
        positional = [*node.args.posonlyargs, *node.args.args]
        for index, argument in enumerate([*positional, *node.args.kwonlyargs]):
            known: _Value = _Kind.UNKNOWN
            if owner is not None and index == 0 and "staticmethod" not in kinds:
                known = _Own(owner) if "classmethod" in kinds else _Instance(owner)
            elif is_answer or (argument.annotation is not None and _says_tensor(argument.annotation)):
                known = _Kind.TENSOR
            scope.names[argument.arg].append(_Binding(argument, known=known))
        for rest in (node.args.vararg, node.args.kwarg):
            if rest is not None:
                scope.names[rest.arg].append(_Binding(rest))
        for statement in ast.walk(node):
            if isinstance(statement, ast.Global | ast.Nonlocal):
                for one in statement.names:
                    scope.names.pop(one, None)
        return scope

    def _scope_of_class(self, node: ast.ClassDef, around: _Scope) -> _Scope:
        if node not in self.scopes:
            scope = self.scopes[node] = _Scope(node.body, around.parent if around.is_class else around, node)
            scope.is_class = True
        return self.scopes[node]


def _before(node: ast.AST, scope: _Scope | None) -> int | None:
    """The line up to which the module has run where an expression of the module itself is evaluated."""
    if scope is not None and scope.is_class:
        scope = scope.parent
    return getattr(node, "lineno", None) if scope is not None and scope.parent is None else None


def _is_demo(node: ast.AST) -> bool:
    """Whether a statement is an `if __name__ == "__main__":`, which judging does not run."""
    match node:
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"), ops=[ast.Eq()], comparators=[word]), orelse=[]):
            return _constant(word) == "__main__"
    return False


def _patches(tree: ast.Module) -> dict[str, list[ast.AST]]:
    """The statements outside of definitions that change an object: `BatchNorm.forward = ...`, `setattr(SGD, ...)`."""
    found: dict[str, list[ast.AST]] = defaultdict(list)
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or _is_demo(node):
            continue
        if isinstance(node, ast.Assign):
            for target in (part for whole in node.targets for part in targets_in(whole)):
                while isinstance(target, ast.Attribute | ast.Subscript):
                    target = target.value
                    if isinstance(target, ast.Name):
                        found[target.id].append(node.value)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setattr":
            for argument in node.args[:1]:
                if isinstance(argument, ast.Name):
                    found[argument.id] += node.args[1:]
        todo += ast.iter_child_nodes(node)
    return found


def _paths(values: _Values) -> set[str]:
    return {value.dotted for value in values if isinstance(value, _Path)}


def _says_tensor(annotation: ast.expr) -> bool:
    return (isinstance(annotation, ast.Name) and annotation.id == "Tensor") or (
        isinstance(annotation, ast.Attribute) and annotation.attr == "Tensor"
    )


def _is_chain(node: ast.expr) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def _constant(node: ast.expr, depth: int = 0) -> str | None:
    """The string that an expression spells, also in pieces; None where that cannot be read off."""
    match node:
        case _ if depth > DEEPEST:
            return None
        case ast.Constant(value=str(text)):
            return text
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            parts = [_constant(left, depth + 1), _constant(right, depth + 1)]
        case ast.JoinedStr(values=values):
            parts = [_constant(value, depth + 1) for value in values]
        case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
            parts = [_constant(value, depth + 1)]
        case _:
            return None
    return None if None in parts else "".join(part or "" for part in parts)


def _text(node: ast.expr) -> str:
    """An expression as a reader recognises it, and never long: names in full, everything else as `...`."""
    if isinstance(node, ast.Call):
        return f"{_text(node.func)}(...)" if not isinstance(node.func, ast.Call) else "(...)"
    words: list[str] = []
    while isinstance(node, ast.Attribute):
        words.append(node.attr)
        node = node.value
    words.append(node.id if isinstance(node, ast.Name) else "(...)")
    text = ".".join(reversed(words))
    return text if len(text) <= LONGEST else f"(...).{words[0][: LONGEST - 6]}"
