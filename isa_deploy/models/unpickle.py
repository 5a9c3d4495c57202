"""An un-pickler that cannot run code: it makes what checkpoints are made of, and refuses the rest.

``pickle`` is a small machine whose programs may call any function there is.  The one here knows the few
calls that rebuild tensors, numpy arrays and containers, and makes those objects itself; which names are
read, refused and passed over stands in :mod:`.pickle_names`.  Tensors come out as
:class:`~.pickle_records.TensorRef`, checked against their storage without a byte of it being read: a
checkpoint's optimizer is often twice its weights, and nobody wants it.

Format: PEP 3154, and the docstrings of the standard library's ``pickletools``, which does the decoding.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from isa_deploy.errors import CheckpointError
from isa_deploy.models.pickle_names import PLAIN_DICTS, GlobalName, is_callable_opaque, is_refused, printable
from isa_deploy.models.pickle_records import NumpyArray, NumpyDtype, Opaque, StorageRef, TensorRef, storage_dtype

__all__ = ["MAX_PICKLE_BYTES", "Unpickled", "unpickle"]

MAX_PICKLE_BYTES = 256 << 20
"""A published R101's is 0.1 MB; long training histories (numpy arrays as text) bring some to tens of MB."""

MAX_OPERATIONS = 5_000_000
"""A checkpoint takes ten to a hundred thousand; this many take a few seconds and some hundred MB."""

MAX_LINE_BYTES = 1 << 16
MAX_KEY_PARTS = 16


@dataclass(frozen=True)
class Unpickled:
    """One pickle's object, and every storage that its tensors name, by key."""

    value: object
    storages: dict[str, StorageRef]


def unpickle(file: BinaryIO, origin: str) -> Unpickled:
    """Read one pickle from where ``file`` stands, and leave it standing behind it.

    ``origin`` names the file in errors.  Raises :class:`CheckpointError` where the pickle is malformed, cut
    short or larger than :data:`MAX_PICKLE_BYTES`, where a tensor does not lie inside its storage, and where
    the file would run code.
    """
    machine = _Machine(origin)
    window = _Window(file)
    try:
        value = machine.run(window)
    except (ValueError, OverflowError) as error:  # what pickletools raises for whatever it cannot decode
        what = printable(str(error), 200)
        if window.count == MAX_PICKLE_BYTES:
            what = f"its pickle is larger than {MAX_PICKLE_BYTES >> 20} MiB"
        raise CheckpointError(f"{origin}: damaged or not a checkpoint: {what}; download or copy it again") from None
    return Unpickled(value, machine.storages)


class _Window:
    """At most :data:`MAX_PICKLE_BYTES` of a file from where it stands, whatever sizes the pickle asks for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        start = file.tell()
        self.left = min(file.seek(0, 2) - start, MAX_PICKLE_BYTES)
        file.seek(start)
        self.count = 0

    def _took(self, data: bytes) -> bytes:
        self.left -= len(data)
        self.count += len(data)
        return data

    def read(self, size: int) -> bytes:
        return self._took(self._file.read(min(size, self.left)))

    def readline(self) -> bytes:
        return self._took(self._file.readline(min(MAX_LINE_BYTES, self.left)))

    def tell(self) -> int:
        return self.count


class _Machine:
    """A pickle's stack, the marks on it and its memo.  Malformed programs raise ValueError."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.storages: dict[str, StorageRef] = {}
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0
        self.allowance = 0

    def run(self, window: _Window) -> object:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(window)):  # type: ignore[arg-type]
            if number >= MAX_OPERATIONS:
                raise ValueError(f"its pickle has more than {MAX_OPERATIONS} operations")
            operation = _OPERATIONS.get(opcode.name)
            if operation is None:
                raise ValueError(f"it uses the pickle operation {opcode.name}, which torch never writes")
            self.allowance = 4 * window.count + (1 << 20)
            operation(self, argument)
        return self.pop()

    # the stack

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("its pickle takes from an empty stack")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise ValueError("its pickle lacks a mark")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def top(self) -> Any:
        value = self.pop()
        self.stack.append(value)
        return value

    # names, calls, persistent ids

    def refused(self, name: object) -> CheckpointError:
        return CheckpointError(
            f"{self.origin}: refused: loading it would run {name}, which no checkpoint needs; do not open it with "
            "torch.load either, and get the checkpoint from a source you trust"
        )

    def name(self, module: object, name: object) -> GlobalName:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("its pickle names something by what is no name")
        found = GlobalName(module, name)
        if storage_dtype(found) is None and is_refused(found, _READABLE):
            raise self.refused(found)
        return found

    def call(self, function: object, arguments: object) -> object:
        if not isinstance(arguments, (tuple, list)):
            raise ValueError("its pickle calls something without arguments")
        if not isinstance(function, GlobalName):
            raise self.refused(f"what it makes of {function.name}" if isinstance(function, Opaque) else "an object")
        make = _CALLS.get(function.full)
        if make is not None:
            return make(self, arguments)
        if function.full in PLAIN_DICTS:
            return self.make_dict(arguments)
        if not is_callable_opaque(function):
            raise self.refused(function)
        return Opaque(str(function))

    def persistent(self, identifier: object) -> object:
        """What a persistent id stands for: a storage, or the class of a pickled module."""
        if not isinstance(identifier, tuple) or len(identifier) < 2:
            raise ValueError("it refers to data outside the file")
        if identifier[0] == "module":
            return identifier[1]
        if identifier[0] != "storage":
            raise ValueError("it refers to data outside the file")
        storage = StorageRef.from_id(identifier)
        known = self.storages.setdefault(storage.key, storage)
        if (known.dtype, known.numel) != (storage.dtype, storage.numel):
            raise ValueError(f"storage {printable(storage.key)} is named with two types or sizes")
        return storage

    # containers

    def charge(self, count: int) -> None:
        """Account for a copy of ``count`` items of an object that the file can name again and again."""
        self.copied += count
        if self.copied > self.allowance:
            raise ValueError("its objects are copied far beyond the size of the file")

    def make_dict(self, arguments: Sequence[Any]) -> dict[Any, Any]:
        """``dict()``, ``dict(mapping)`` or ``dict(pairs)``."""
        source = arguments[0] if arguments else ()
        pairs = list(source.items()) if isinstance(source, dict) else source
        if not isinstance(pairs, (list, tuple)):
            return {}
        self.charge(len(pairs))
        made: dict[Any, Any] = {}
        for pair in pairs:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise ValueError("its pickle makes a dictionary of what are no pairs")
            self.put(made, pair[0], pair[1])
        return made

    def make_list(self, arguments: Sequence[Any]) -> list[Any]:
        """``list(items)``, and ``set(items)`` too: nobody needs the set, and a list hashes nothing."""
        source = arguments[0] if arguments else ()
        if not isinstance(source, (list, tuple)):
            raise ValueError("its pickle makes a list of what is none")
        self.charge(len(source))
        return list(source)

    def put(self, target: dict[Any, Any], key: object, value: object) -> None:
        """Set an item if its key hashes quickly: nested tuples of shared parts would hash for ever."""
        if isinstance(key, tuple):
            fit = len(key) <= MAX_KEY_PARTS and all(isinstance(part, (str, bytes, int, float)) for part in key)
        elif isinstance(key, int):
            fit = -(2**63) <= key < 2**64
        else:
            fit = key is None or isinstance(key, (str, bytes, float, GlobalName, Opaque, TensorRef, StorageRef))
        if not fit:
            raise ValueError(f"a dictionary has a {type(key).__name__} as its key")
        target[key] = value

    def append(self, target: object, items: list[Any]) -> None:
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Opaque):
            raise ValueError("its pickle appends to what is no list")

    def set_items(self, target: object, items: list[Any]) -> None:
        if len(items) % 2:
            raise ValueError("a dictionary has a key without a value")
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                self.put(target, key, value)
        elif not isinstance(target, Opaque):
            raise ValueError("its pickle sets an item of what is no dictionary")


# The calls that are made, each from the machine and the call's arguments


def _tensor(machine: _Machine, arguments: Sequence[Any]) -> TensorRef:
    return TensorRef.from_arguments(tuple(arguments))


def _tensor_with_attributes(machine: _Machine, arguments: Sequence[Any]) -> object:
    """``torch._tensor._rebuild_from_type_v2(function, type, arguments, state)``."""
    function = _first(machine, arguments)
    if not isinstance(function, GlobalName) or len(arguments) < 3:
        raise ValueError("a tensor is rebuilt from too few arguments")
    if function.full not in _TENSOR_CALLS:  # itself among them: it could be nested as deep as the file likes
        raise machine.refused(function)
    return machine.call(function, arguments[2])


def _first(machine: _Machine, arguments: Sequence[Any]) -> Any:
    """``_rebuild_parameter(data, ...)`` is its data, ``torch.Size(sizes)`` its sizes."""
    if not arguments:
        raise ValueError("an object is rebuilt from no arguments")
    return arguments[0]


def _encode(machine: _Machine, arguments: Sequence[Any]) -> bytes:
    """``_codecs.encode(text, encoding)``: how protocol 2 writes bytes."""
    if len(arguments) != 2 or not isinstance(arguments[0], str) or arguments[1] not in _ENCODINGS:
        raise ValueError("bytes are written in an unknown encoding")
    machine.charge(len(arguments[0]))
    return arguments[0].encode(arguments[1])


def _reconstruct(machine: _Machine, arguments: Sequence[Any]) -> object:
    """``copyreg._reconstructor(class, base, state)``: protocol 1's way to make an object."""
    function = _first(machine, arguments)
    state = arguments[2] if len(arguments) == 3 else None
    return _new(machine, (function, state) if isinstance(state, dict) else (function,))


def _new(machine: _Machine, arguments: Sequence[Any]) -> object:
    """``copyreg.__newobj__(class, *arguments)``."""
    function = _first(machine, arguments)
    if isinstance(function, GlobalName) and function.module == "copyreg":
        raise machine.refused(function)  # one in the other, as deep as the file likes
    return machine.call(function, tuple(arguments[1:]))


def _numpy_dtype(machine: _Machine, arguments: Sequence[Any]) -> NumpyDtype:
    code = _first(machine, arguments)
    return NumpyDtype(code[:16] if isinstance(code, str) else "?")


def _numpy_scalar(machine: _Machine, arguments: Sequence[Any]) -> NumpyArray:
    """``multiarray.scalar(dtype, data)``."""
    dtype, data = (*arguments, None, None)[:2]
    return NumpyArray(data, dtype)


def _numpy_buffer(machine: _Machine, arguments: Sequence[Any]) -> NumpyArray:
    """``numeric._frombuffer(data, dtype, shape, order)``: protocol 5's arrays."""
    return NumpyArray(*(*arguments, None, None, None)[:3])


_ENCODINGS = ("latin1", "latin-1", "utf-8", "utf8", "ascii")

_Call = Callable[[_Machine, Sequence[Any]], object]

_TENSOR_CALLS: dict[str, _Call] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
}

_CALLS: dict[str, _Call] = {
    **_TENSOR_CALLS,
    "torch._tensor._rebuild_from_type_v2": _tensor_with_attributes,
    "torch.Size": _first,
    "_codecs.encode": _encode,
    "builtins.bytearray": lambda machine, arguments: arguments[0] if arguments else b"",
    **dict.fromkeys((f"builtins.{name}" for name in ("list", "tuple", "set", "frozenset")), _Machine.make_list),
    "collections.deque": _Machine.make_list,
    "collections.defaultdict": lambda machine, arguments: machine.make_dict(arguments[1:]),
    "copyreg._reconstructor": _reconstruct,
    "copyreg.__newobj__": _new,
    "numpy.dtype": _numpy_dtype,
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2
    _CALLS[f"{_core}.multiarray._reconstruct"] = lambda machine, arguments: NumpyArray()
    _CALLS[f"{_core}.multiarray.scalar"] = _numpy_scalar
    _CALLS[f"{_core}.numeric._frombuffer"] = _numpy_buffer

_READABLE = frozenset(_CALLS)


# The operations, each from the machine and the operation's decoded argument


def _memoize(machine: _Machine, index: int | None) -> None:
    machine.memo[len(machine.memo) if index is None else index] = machine.top()


def _recall(machine: _Machine, index: int) -> None:
    if index not in machine.memo:
        raise ValueError("its pickle recalls what it never kept")
    machine.push(machine.memo[index])


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
    def operation(machine: _Machine, argument: Any) -> None:
        items = [machine.pop() for _ in range(count)]
        machine.push(tuple(reversed(items)))

    return operation


def _global(machine: _Machine, argument: str) -> None:
    module, _, name = argument.partition(" ")
    machine.push(machine.name(module, name))


def _stack_global(machine: _Machine, argument: None) -> None:
    name, module = machine.pop(), machine.pop()
    machine.push(machine.name(module, name))


def _reduce(machine: _Machine, argument: None) -> None:
    arguments, function = machine.pop(), machine.pop()
    machine.push(machine.call(function, arguments))


def _new_with_keywords(machine: _Machine, argument: None) -> None:
    _, arguments, function = machine.pop(), machine.pop(), machine.pop()
    machine.push(machine.call(function, arguments))


def _instance(machine: _Machine, argument: str) -> None:
    module, _, name = argument.partition(" ")
    machine.push(machine.call(machine.name(module, name), machine.pop_to_mark()))


def _object(machine: _Machine, argument: None) -> None:
    items = machine.pop_to_mark()
    machine.push(machine.call(items[0] if items else None, items[1:]))


def _build(machine: _Machine, argument: None) -> None:
    """Give an object its state.  All but numpy's are dropped: nothing else that is read has any."""
    state, target = machine.pop(), machine.top()
    if isinstance(target, NumpyArray) and isinstance(state, tuple) and len(state) == 5:
        _, target.shape, target.dtype, target.fortran, target.data = state
    elif isinstance(target, NumpyDtype) and isinstance(state, tuple) and len(state) > 1 and isinstance(state[1], str):
        target.order = state[1][:1]


def _append(machine: _Machine, argument: None) -> None:
    item = machine.pop()
    machine.append(machine.top(), [item])


def _appends(machine: _Machine, argument: None) -> None:
    items = machine.pop_to_mark()
    machine.append(machine.top(), items)


def _set_item(machine: _Machine, argument: None) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items(machine.top(), [key, value])


def _set_items(machine: _Machine, argument: None) -> None:
    items = machine.pop_to_mark()
    machine.set_items(machine.top(), items)


def _dict(machine: _Machine, argument: None) -> None:
    made: dict[Any, Any] = {}
    machine.set_items(made, machine.pop_to_mark())
    machine.push(made)


def _pop(machine: _Machine, argument: None) -> None:
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.pop()


def _pop_mark(machine: _Machine, argument: None) -> None:
    machine.pop_to_mark()


_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
_STRINGS = ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_BYTES = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8")

_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    **dict.fromkeys((*_NUMBERS, *_STRINGS, *_BYTES), _Machine.push),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_SET"), lambda machine, _: machine.push([])),
    **dict.fromkeys(("LIST", "FROZENSET"), lambda machine, _: machine.push(machine.pop_to_mark())),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "DICT": _dict,
    "APPEND": _append,
    **dict.fromkeys(("APPENDS", "ADDITEMS"), _appends),
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "POP": _pop,
    "POP_MARK": _pop_mark,
    "DUP": lambda machine, _: machine.push(machine.top()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _memoize),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _recall),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _reduce),
    "NEWOBJ_EX": _new_with_keywords,
    "INST": _instance,
    "OBJ": _object,
    "BUILD": _build,
    "BINPERSID": lambda machine, _: machine.push(machine.persistent(machine.pop())),
}
