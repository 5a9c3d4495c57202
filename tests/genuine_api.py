"""Holds protocols (tensorrt_api.py, cuda_api.py) to the genuine bindings that they describe.

:func:`describe` turns a module of protocols into a request: for every genuine class the members, attributes
and methods with their parameters.  :func:`examine` answers what a genuine module lacks of a request.  The
bindings of several versions cannot live in one process, so this file is also a script that imports one of
them, reads a request as JSON from its standard input and writes the answer (:func:`ask` runs it).

For that it imports nothing but the standard library, and knows nothing of the package.
"""

from __future__ import annotations

import ast
import ctypes
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "CALLED_AS",
    "CALLED_BACK",
    "CLASSES",
    "MODULES",
    "Derived",
    "ask",
    "base_attributes",
    "derived_classes",
    "describe",
    "examine",
    "genuine_names",
    "protocols_of",
]

CLASSES = {
    "IBuilder": "Builder",
    "IBuilderConfig": "IBuilderConfig",
    "ICudaEngine": "ICudaEngine",
    "IEngineInspector": "EngineInspector",
    "IExecutionContext": "IExecutionContext",
    "IHostMemory": "IHostMemory",
    "INetworkDefinition": "INetworkDefinition",
    "IOnnxParser": "OnnxParser",
    "IOptimizationProfile": "IOptimizationProfile",
    "IParserError": "ParserError",
    "IRtxBuilderConfig": "IBuilderConfig",
    "IRtxCudaEngine": "ICudaEngine",
    "IRtxExecutionContext": "IExecutionContext",
    "IRtxRuntimeConfig": "IRuntimeConfig",
    "IRuntime": "Runtime",
    "ITensor": "ITensor",
    "ITimingCache": "ITimingCache",
    "Severities": "ILogger",
    "DeviceProperties": "cudaDeviceProp",
    "PointerAttributes": "cudaPointerAttributes",
}
"""A protocol of a class to the genuine class.  Protocols of enums are told by the modules' annotations."""

MODULES = ("TensorRTModule", "RtxModule", "CudaRuntimeModule")
"""Protocols that describe a whole module."""

CALLED_AS = {"num_errors": "get_num_errors"}
"""What the bindings' C++ looks for in a derived class where that is not the name of the base's own method;
test_rtx_builder calls each through C++."""

CALLED_BACK = ("ILogger", "IProgressMonitor", "IErrorRecorder")
"""Classes of TensorRT's that the sources derive from, for TensorRT to call."""

Request = dict[str, Any]
Parameters = list[list[Any]]
"""Parameters of a call in order: [name, or None where only its place counts; whether it may be left out]."""


# ----------------------------------------------------------------------------- what the protocols ask for


def protocols_of(module: types.ModuleType) -> dict[str, type]:
    """Every protocol class that the module itself defines."""
    return {
        name: each
        for name, each in vars(module).items()
        if isinstance(each, type) and getattr(each, "_is_protocol", False) and each.__module__ == module.__name__
    }


def genuine_names(module: types.ModuleType, root: str) -> dict[str, str]:
    """The protocols that ``root``, a protocol of a whole module, is about, each with its genuine class.

    What belongs to TensorRT-RTX alone (``RtxModule`` and ``IRtx...``) is left out for another root.
    """
    protocols = protocols_of(module)
    named = {
        kind.__name__: attribute
        for attribute, kind in typing.get_type_hints(protocols[root]).items()
        if protocols.get(getattr(kind, "__name__", "")) is kind
    }
    for name in protocols:
        if name in CLASSES and (root == "RtxModule" or not name.startswith("IRtx")):
            named[name] = CLASSES[name]
    return named


def describe(module: types.ModuleType, root: str) -> Request:
    """What the protocols ask of the genuine module: its own names under "module", its classes' under "classes"."""
    protocols = protocols_of(module)
    classes: dict[str, dict[str, Any]] = {}
    for name, genuine in genuine_names(module, root).items():
        surface = classes.setdefault(genuine, {"read": [], "write": [], "methods": {}})
        part = _surface(protocols[name])
        surface["read"] = sorted({*surface["read"], *part["read"]})
        surface["write"] = sorted({*surface["write"], *part["write"]})
        surface["methods"].update(part["methods"])
    return {"module": _surface(protocols[root]), "classes": classes}


def _surface(protocol: type) -> dict[str, Any]:
    """What is written in a protocol and the protocols that it extends.

    An annotated attribute may be set ("write"), a property only read; methods have their parameters.
    """
    read, write, methods = set(), set(), {}
    for each in protocol.__mro__:
        if not getattr(each, "_is_protocol", False) or each is typing.Protocol:
            continue
        write |= set(inspect.get_annotations(each))
        for name, value in vars(each).items():
            if isinstance(value, property):
                read.add(name)
            elif inspect.isfunction(value) and name not in ("__init__", "__subclasshook__"):
                methods.setdefault(
                    name,
                    [  # the most derived one, which comes first
                        [
                            None if parameter.kind is parameter.POSITIONAL_ONLY else parameter.name,
                            parameter.default is not parameter.empty,
                        ]
                        for parameter in list(inspect.signature(value).parameters.values())[1:]
                    ],
                )
    return {"read": sorted(read), "write": sorted(write), "methods": methods}


@dataclass(frozen=True)
class Derived:
    """A class of the sources that TensorRT calls back.

    ``methods``: what it defines without an underscore, to the number of parameters after ``self``;
    ``used``: what the sources read from the base class itself.
    """

    place: str
    base: str
    methods: dict[str, int]
    used: tuple[str, ...]


def derived_classes(folder: Path) -> list[Derived]:
    """Every class in the folder's sources that is derived from one of TensorRT's, by reading the sources.

    The base is written ``trt.ILogger``, or is a variable that a function around it sets to that, or a parameter
    that is called ``ILogger``.  Another variable or parameter as a base is a ``ValueError``: this cannot tell
    what class it is.
    """
    found = []
    for path in sorted(folder.rglob("*.py")):
        for node, functions in _classes(ast.parse(path.read_text()), ()):
            for base in node.bases:
                name = _called_back(base, functions)
                if name is not None:
                    found.append(_derived(f"{path.relative_to(folder)}:{node.name}", name, node, functions))
                elif isinstance(base, ast.Name) and any(base.id in _variables(each) for each in functions):
                    raise ValueError(f"{path}:{node.lineno}: what class is {base.id}? write {base.id} = trt.<its name>")
    return found


def _variables(function: ast.FunctionDef) -> dict[str, ast.expr | None]:
    """The function's parameters, and its variables with what they are given."""
    arguments = function.args
    found: dict[str, ast.expr | None] = {
        each.arg: None for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    }
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            found.update({target.id: node.value for target in node.targets if isinstance(target, ast.Name)})
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node.value
    return found


def _classes(
    node: ast.AST, functions: tuple[ast.FunctionDef, ...]
) -> Iterator[tuple[ast.ClassDef, tuple[ast.FunctionDef, ...]]]:
    """Every class under the node, with the functions around it, the outermost first."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield child, functions
        yield from _classes(child, (*functions, child) if isinstance(child, ast.FunctionDef) else functions)


def _called_back(node: ast.expr, functions: tuple[ast.FunctionDef, ...]) -> str | None:
    """Which of TensorRT's classes the expression is."""
    if isinstance(node, ast.Attribute):
        return node.attr if node.attr in CALLED_BACK else None
    if not isinstance(node, ast.Name):
        return None
    for function in reversed(functions):
        value = _variables(function).get(node.id)
        if value is not None:
            return _called_back(value, functions)
    return node.id if node.id in CALLED_BACK else None


def _derived(place: str, base: str, node: ast.ClassDef, functions: tuple[ast.FunctionDef, ...]) -> Derived:
    methods = {
        each.name: len(each.args.posonlyargs) + len(each.args.args) - 1
        for each in node.body
        if isinstance(each, ast.FunctionDef) and not each.name.startswith("_")
    }
    used = {
        each.attr
        for function in functions
        for each, name in _base_attributes(function, functions)
        if name == base and not each.attr.startswith("__")
    }
    return Derived(place, base, methods, tuple(sorted(used)))


def base_attributes(tree: ast.AST) -> Iterator[ast.Attribute]:
    """Every attribute that is read from a base class in the functions that derive from it."""
    for _, functions in _classes(tree, ()):
        for function in functions:
            yield from (attribute for attribute, _ in _base_attributes(function, functions))


def _base_attributes(
    function: ast.FunctionDef, functions: tuple[ast.FunctionDef, ...]
) -> Iterator[tuple[ast.Attribute, str]]:
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute):
            name = _called_back(node.value, functions)
            if name is not None:
                yield node, name


# ----------------------------------------------------------------------------- what a genuine module answers


def ask(folder: Path, imports: tuple[str, ...], request: Request) -> dict[str, Any]:
    """:func:`examine` in a process of its own, in which the bindings are those of the folder and no GPU is seen.

    Adds the module's "file", its "version", and "device_count", what ``cudaGetDeviceCount`` answered (CUDA alone).
    """
    done = subprocess.run(
        [sys.executable, "-S", str(Path(__file__).resolve())],  # -S: nothing of this environment's packages
        input=json.dumps({**request, "imports": imports}),
        env={**os.environ, "PYTHONPATH": str(folder), "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{imports[-1]} of {folder} cannot be examined: {done.stderr}"
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def examine(module: Any, request: Request) -> list[str]:
    """What the genuine module lacks of the request, a line each."""
    missing = list(_examine_namespace(module, request.get("module", {}), ""))
    for name, surface in request.get("classes", {}).items():
        if isinstance(getattr(module, name, None), type):
            missing += _examine_namespace(getattr(module, name), surface, f"{name}.")
        else:
            missing.append(f"class {name}")
    for derived in request.get("derived", []):
        base = getattr(module, derived["base"], None)
        if base is None:
            missing.append(f"class {derived['base']}")
            continue
        missing += [f"{derived['base']}.{name}" for name in derived["used"] if not hasattr(base, name)]
        missing += _examine_overrides(base, derived)
    return missing


def _examine_namespace(owner: Any, surface: dict[str, Any], prefix: str) -> Iterator[str]:
    for kind in ("read", "write"):
        for name in surface.get(kind, []):
            value = inspect.getattr_static(owner, name, None)
            if value is None and not hasattr(owner, name):
                yield f"{prefix}{name}"
            elif inspect.isroutine(value) and not inspect.isdatadescriptor(value):
                yield f"{prefix}{name}: a method, and no attribute"
            elif kind == "write" and isinstance(value, property) and value.fset is None:
                yield f"{prefix}{name}: cannot be set"
    for name, parameters in surface.get("methods", {}).items():
        if name == "__buffer__":
            if not _has_buffer(owner):
                yield f"{prefix}{name}: memoryview cannot read it"
            continue
        if not hasattr(owner, name):
            yield f"{prefix}{name}"
            continue
        function = getattr(owner, name)
        if isinstance(inspect.getattr_static(owner, name), property) or not callable(function):
            yield f"{prefix}{name}: an attribute, and no method"
            continue
        overloads = _signatures(function)
        if not _accepts(overloads, parameters):
            wanted = ", ".join(str(parameter[0]) for parameter in parameters)
            yield f"{prefix}{name}({wanted}): it takes {' or '.join(_written(each) for each in overloads)}"


def _examine_overrides(base: type, derived: dict[str, Any]) -> Iterator[str]:
    callbacks = {
        name: _signatures(value)
        for name, value in vars(base).items()
        if not name.startswith("_") and callable(value) and not isinstance(value, type)
    }
    for name, called in CALLED_AS.items():
        if name in callbacks:
            callbacks[called] = callbacks.pop(name)
    for name, count in derived["methods"].items():
        if name not in callbacks:
            yield f"{derived['base']}.{name}, which {derived['place']} overrides"
        elif all(len(parameters) != count for parameters in callbacks[name]):
            yield f"{derived['base']}.{name} with {count} parameters, as {derived['place']} overrides it"
    for name in callbacks.keys() - derived["methods"].keys():
        yield f"{derived['place']} has no {name}, which {derived['base']} calls"


def _accepts(overloads: list[Parameters], parameters: Parameters) -> bool:
    """Whether every call that the parameters allow fits an overload, by place and by name."""
    least = sum(not optional for _, optional in parameters)
    return all(
        any(
            len(overload) >= count
            and all(optional for _, optional in overload[count:])
            and all(
                mine is None or mine == genuine
                for (mine, _), (genuine, _) in zip(parameters[:count], overload, strict=False)
            )
            for overload in overloads
        )
        for count in range(least, len(parameters) + 1)
    )


def _written(parameters: Parameters) -> str:
    return "(" + ", ".join(f"{name}=..." if optional else str(name) for name, optional in parameters) + ")"


def _signatures(function: Any) -> list[Parameters]:
    """The parameters of each overload, without ``self``.

    Cython's functions tell them to :mod:`inspect`; pybind11's only in the first lines of their docstrings, where
    ``arg0`` is a parameter without a name.
    """
    if isinstance(function, type):
        return _signatures(function.__init__)  # type: ignore[misc]
    doc = function.__doc__ or ""
    name = re.escape(function.__name__)
    if not re.match(rf"{name}\((self: |\*args, \*\*kwargs\)\nOverloaded function)", doc):
        return [
            [
                [each.name, each.default is not each.empty]
                for each in inspect.signature(function).parameters.values()
                if each.name != "self"
            ]
        ]
    lines = re.findall(rf"^(?:\d+\. )?{name}\((self: .*)\) -> ", doc, re.MULTILINE)
    return [_parse_parameters(line)[1:] for line in lines]


def _parse_parameters(text: str) -> Parameters:
    """The parameters in ``self: a.B, flags: typing.SupportsInt = 0``."""
    parts, depth, start, quote = [], 0, 0, ""
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "([{<":
            depth += 1
        elif character in ")]}>":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    parts.append(text[start:])
    parameters: Parameters = []
    for part in parts:
        name, _, kind = part.strip().partition(":")
        if name not in ("*", "/"):
            parameters.append([None if re.fullmatch(r"arg\d+", name) else name, " = " in kind])
    return parameters


def _has_buffer(owner: type) -> bool:
    """Whether the class has CUDA's or NumPy's kind of memory: Python names ``__buffer__`` from 3.12 on only."""
    slot = ctypes.pythonapi.PyType_GetSlot
    slot.restype, slot.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_int]
    py_bf_getbuffer = 1
    return bool(slot(owner, py_bf_getbuffer))


def _main() -> None:
    request = json.load(sys.stdin)
    modules = [importlib.import_module(name) for name in request["imports"]]
    module = modules[-1]
    answer = {"missing": examine(module, request), "file": module.__file__, "device_count": None}
    answer["version"] = next(each.__version__ for each in reversed(modules) if hasattr(each, "__version__"))
    if hasattr(module, "cudaGetDeviceCount"):
        error, count = module.cudaGetDeviceCount()
        answer["device_count"] = [isinstance(error, module.cudaError_t), error.name, count]
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    _main()
