"""This module describes a user's functions and classes as data that goes into a fingerprint.

A function is identified by the syntax of its source (without file names, line numbers, comments,
annotations and docstrings), by its defaults, by the values that it closes over, and by the
functions, classes, numbers and texts of its module that it reads. Where the source is not available
(a function made by ``exec``, or a file that was changed since it was imported) its bytecode is used
instead, which differs between minor versions of Python.

Code of raynas, of Python and of installed packages is identified by its name: versions are stored
with every row.
"""

from __future__ import annotations

import ast
import dis
import functools
import hashlib
import json
import linecache
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raynas.core.renamed import stored_name

Describe = Callable[[Any], Any]
"""A function that returns JSON data for a value of a function: a default, a closed-over value."""

#: methods that dataclasses generate; they have no source file
_GENERATED = frozenset({
    "__init__", "__repr__", "__eq__", "__hash__", "__lt__", "__le__", "__gt__", "__ge__",
    "__setattr__", "__delattr__", "__getstate__", "__setstate__", "__replace__",
})  # fmt: skip
_NOT_READ = frozenset({
    "annotation", "returns", "type_comment", "kind", "ctx", "decorator_list", "type_params",
})  # fmt: skip


def is_users(part: Any) -> bool:
    """Return True when a function or class is the user's own code.

    The user's own code is identified by its content. Other code is identified by name and version.

    Args:
        part: A function, a class or another object with ``__module__``.

    Returns:
        False for parts of raynas, the standard library and installed packages.
    """
    module = getattr(part, "__module__", None) or ""
    top = module.partition(".")[0]
    if top == "__main__":  # of this process, or of one that stored it: its file does not matter
        return True
    if top == "raynas" or top in sys.stdlib_module_names:
        return False
    file = getattr(sys.modules.get(module) or sys.modules.get(top), "__file__", None) or ""
    return not {"site-packages", "dist-packages"} & set(Path(file).parts)


def full_name(part: Any) -> str:
    """Return the name by which a function or class of a package is described.

    Args:
        part: A function or a class.

    Returns:
        The qualified name, after the module's name. Parts of raynas and built-ins go by their own
            name, which is unique among the parts of raynas.
    """
    name = stored_name(part) or str(getattr(part, "__name__", ""))
    module = getattr(part, "__module__", None) or ""
    return name if module.partition(".")[0] in ("raynas", "builtins", "") else f"{module}.{name}"


def describe_function(function: types.FunctionType, describe: Describe) -> dict[str, Any]:
    """Describe the computation of ``function``.

    Args:
        function: A function of Python code.
        describe: Describes defaults, closed-over values and the values of the module that it reads.

    Returns:
        JSON data, equal for functions of equal code and values.
    """
    code = function.__code__
    names = code.co_freevars
    found = {
        "code": _digest(_syntax(code) or _bytecode(code)),
        "defaults": describe(function.__defaults__ or ()),
        "keywords": describe(function.__kwdefaults__ or {}),
        "closure": {n: _cell(c, describe) for n, c in zip(names, function.__closure__ or (),
                                                          strict=True)},
        "reads": {n: describe(v) for n, v in _read(function)},
    }  # fmt: skip
    return {name: value for name, value in found.items() if value or name == "code"}


def describe_class(kind: type, describe: Describe) -> Any:
    """Describe the user's own code in a class and its base classes.

    Values of dataclass fields are not code: they belong to the description of an object.

    Args:
        kind: A class.
        describe: Describes methods, defaults and constants of the class.

    Returns:
        JSON data; None when neither the class nor a base class is the user's own.
    """
    found = {}
    for owner in kind.__mro__:
        if is_users(owner):
            settings = getattr(owner, "__dataclass_fields__", {})
            members = {
                name: describe(_code_of(member))
                for name, member in sorted(vars(owner).items())
                if name not in settings and _is_code(name, member)
            }
            found[owner.__qualname__] = members
    return {"bases": found} if found else None


def _is_code(name: str, member: Any) -> bool:
    """Return True for a member that the author wrote.

    Members that Python and dataclasses add to every class are left out, and so are paths, which
    differ between machines.
    """
    if isinstance(member, types.FunctionType):
        return name not in _GENERATED or member.__code__.co_filename != "<string>"
    if name.startswith(("__", "_abc_")):
        return False
    if isinstance(member, str):
        return _is_setting(member)
    return not isinstance(member, types.GetSetDescriptorType | types.MemberDescriptorType | Path)


def _code_of(member: Any) -> Any:
    if isinstance(member, staticmethod | classmethod):
        return member.__func__
    if isinstance(member, property):
        return [member.fget, member.fset]
    if isinstance(member, functools.cached_property):
        return member.func
    return member


def _cell(cell: types.CellType, describe: Describe) -> Any:
    try:
        return describe(cell.cell_contents)
    except ValueError:  # an empty cell: the function refers to itself while it is being defined
        return None


def _read(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of its module that a function and its nested functions read.

    Only code and settings count. Names that the functions also write are left out, and so are
    paths, which differ between machines.
    """
    loaded, stored = set[str](), set[str]()
    for code in _nested(function.__code__):
        for step in dis.get_instructions(code):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                loaded.add(step.argval)
            elif step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                stored.add(step.argval)
    for name in sorted(loaded - stored):
        value = function.__globals__.get(name)
        if not name.startswith("__") and name in function.__globals__ and _is_setting(value, name):
            yield name, value


def _is_setting(value: Any, name: str = "") -> bool:
    """Return True for a plain value or code.

    Mutable values count only under an upper-case name, as constants are written.
    """
    if isinstance(value, str):
        return "/" not in value and "\\" not in value
    if isinstance(value, tuple | frozenset) or (name.isupper() and isinstance(value, list | set)):
        return all(_is_setting(part) or isinstance(part, type) for part in value)
    if name.isupper() and isinstance(value, dict):
        return _is_setting((*value, *value.values()))
    if isinstance(value, bool | int | float | complex | None):
        return True
    code = isinstance(value, type | types.FunctionType | functools.partial)
    return code and is_users(getattr(value, "func", value))


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)


# -- source --------------------------------------------------------------------------------------


def _syntax(code: types.CodeType) -> Any:
    """Return the syntax tree of ``code``; None where the source is not certain."""
    linecache.checkcache(code.co_filename)
    source = "".join(linecache.getlines(code.co_filename))
    parsed = _parsed(source, code.co_filename) if source else None
    if parsed is None:
        return None
    if code not in parsed.compiled:
        return None  # the file was changed, or the code was: pytest rewrites assertions
    nodes = parsed.nodes_of(code)
    if not nodes:
        return None
    return _plain(min(nodes, key=lambda node: len(list(ast.walk(node)))))


@dataclass(frozen=True)
class _Parsed:
    """What a file of source consists of, found in one walk: files are asked for often.

    Attributes:
        compiled: The code of the module and of all functions and classes in it.
        functions: (name, first line) -> the functions there.
        lambdas: All of them, in the order of ``ast.walk``.
    """

    compiled: frozenset[types.CodeType]
    functions: Mapping[tuple[str, int], Sequence[ast.AST]]
    lambdas: Sequence[ast.Lambda]

    def nodes_of(self, code: types.CodeType) -> list[ast.AST]:
        """Return the functions from which ``code`` may have been compiled."""
        if code.co_name == "<lambda>":
            return [node for node in self.lambdas if _is_of(node, code)]
        return list(self.functions.get((code.co_name, code.co_firstlineno), ()))


@functools.lru_cache(maxsize=16)
def _parsed(source: str, file: str) -> _Parsed | None:
    try:
        tree = ast.parse(source, file)
        compiled = compile(source, file, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    functions: dict[tuple[str, int], list[ast.AST]] = {}
    lambdas = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            functions.setdefault((node.name, first), []).append(node)
        elif isinstance(node, ast.Lambda):
            lambdas.append(node)
    return _Parsed(frozenset(_nested(compiled)), functions, lambdas)


def _is_of(node: ast.Lambda, code: types.CodeType) -> bool:
    """Return True when the code of a lambda was compiled from ``node``."""
    body = node.body
    begins, ends = (body.lineno, body.col_offset), (body.end_lineno, body.end_col_offset)
    places = [p for p in code.co_positions() if p[0] != p[1] or p[2] != p[3]]
    inside = [
        begins <= (line, column) and (last, end) <= ends
        for line, last, column, end in places
        if None not in (line, last, column, end)
    ]
    return bool(inside) and all(inside)


def _plain(node: Any, top: bool = True) -> Any:
    """Return a syntax tree as JSON data that is the same in all versions of Python."""
    if isinstance(node, list):
        return [_plain(part, top=False) for part in node]
    if not isinstance(node, ast.AST):
        return node if isinstance(node, str | int | None) else f"{type(node).__name__} {node!r}"
    shown: dict[str, Any] = {"node": type(node).__name__}
    if isinstance(node, ast.Constant):
        return {**shown, "value": f"{type(node.value).__name__} {node.value!r}"}
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(value, list):
            value = _without_docstring(value)
        if name in _NOT_READ or value is None or value == [] or (top and name == "name"):
            continue
        shown[name] = _plain(value, top=False)
    return shown


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return body[1:] if isinstance(first.value.value, str) else body
    return body


def _bytecode(code: types.CodeType) -> Any:
    """Return the instructions, constants and names of ``code``, without line numbers and files."""
    constants = [
        _bytecode(c) if isinstance(c, types.CodeType) else f"{type(c).__name__} {_shown(c)}"
        for c in code.co_consts
    ]
    names = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
    kind = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags]
    return [code.co_code.hex(), constants, [list(n) for n in names], kind]


def _shown(constant: Any) -> str:
    """Return ``repr(constant)``, with sets in an order that is the same in every process."""
    if isinstance(constant, frozenset):
        return str(sorted(map(repr, constant)))
    return repr(constant)


def _digest(data: Any) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def digest(data: Mapping[str, Any]) -> str:
    """Return a hash of JSON data.

    Args:
        data: Any JSON data; the order of its keys does not matter.

    Returns:
        Sixteen hexadecimal digits.
    """
    return _digest(data)
