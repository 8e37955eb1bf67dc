"""Runs the pickle inside a PyTorch checkpoint on a stack machine that calls no function.

A pickle is a program for a small stack machine, which can call any Python function. Here it is run by a machine that
knows some 40 instructions, those of protocols 2 to 5 that describe tensors and plain values. Names are never looked up.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, brief

MAX_AXES = 8
PLAIN = "only a plain state dict is read: torch.save(model.state_dict(), 'pytorch_model.bin')"
QUANTIZED = "only float16, bfloat16, float32 and float64 are read: dequantize it and save it anew"
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")  # the keys of a state dict in checkpoints of trainers

STORAGES = {
    "BoolStorage": "BOOL",
    "ByteStorage": "U8",
    "CharStorage": "I8",
    "ShortStorage": "I16",
    "IntStorage": "I32",
    "LongStorage": "I64",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "FloatStorage": "F32",
    "DoubleStorage": "F64",
}


@dataclass(frozen=True)
class Word:
    """A Python name in the pickle; it is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"[:80]


@dataclass(frozen=True)
class Storage:
    """A sequence of numbers in the archive."""

    tag: str
    key: str
    size: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage: offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Bad(Exception):
    """Unsupported content of the pickle, and what to do about it."""

    def __init__(self, what: str, do: str = PLAIN) -> None:
        super().__init__(what)
        self.do = do


def _counts(value: Any) -> bool:
    fits = isinstance(value, tuple) and len(value) <= MAX_AXES
    return fits and all(type(n) is int and 0 <= n < 2**62 for n in value)


def _storage(pid: Any) -> Storage:
    """A persistent id: ("storage", type, key, device, number of elements)."""
    if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and isinstance(pid[1], Word)):
        raise _Bad("a persistent id that is no storage")
    word, key, size = pid[1], pid[2], pid[4]
    if word.module != "torch" or word.name not in STORAGES:
        raise _Bad(f"the storage {word}", QUANTIZED)
    if not (isinstance(key, str) and _counts((size,))):
        raise _Bad("a storage without key or size")
    return Storage(STORAGES[word.name], key, size)


def _tensor(args: tuple[Any, ...]) -> Tensor:
    """torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks, metadata)."""
    if len(args) not in (6, 7) or not isinstance(args[0], Storage):
        raise _Bad("a tensor without storage")
    storage, offset, shape, strides = args[:4]
    if not (_counts((offset,)) and _counts(shape) and _counts(strides) and len(shape) == len(strides)):
        raise _Bad("a tensor with a bad shape or strides")
    if args[6:] and args[6]:
        raise _Bad("a tensor with metadata, such as a negated view")
    count = math.prod(shape)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if count and (last >= storage.size or count > storage.size):
        raise _Bad("a tensor that reaches past its storage")
    return Tensor(storage, offset, shape, strides)


def _call(word: Any, args: Any) -> Any:
    """The result of calling a known name; all other names are refused."""
    if not (isinstance(word, Word) and isinstance(args, tuple)):
        raise _Bad("a call of something that is no name")
    match str(word):
        case "collections.OrderedDict" if not args:
            return {}
        case "torch._utils._rebuild_tensor_v2":
            return _tensor(args)
        case "torch._utils._rebuild_parameter" if args and isinstance(args[0], Tensor):
            return args[0]
        case "torch._utils._rebuild_tensor_v3" | "torch._utils._rebuild_qtensor":
            raise _Bad(f"a call of {word}, for a quantized tensor", QUANTIZED)
    raise _Bad(f"a call of {word}")


def _object(word: Any) -> Any:
    """An object of a class is refused, whatever its class."""
    raise _Bad(f"a whole object of {word}, such as a module" if isinstance(word, Word) else "an object without class")


def _word(module: Any, name: Any) -> Word:
    if not (isinstance(module, str) and isinstance(name, str)):
        raise _Bad("a name that is no text")
    return Word(module, name)


class _Machine:
    """The stack machine; `_INSTRUCTIONS` lists its instructions by their names in pickletools."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def since_mark(self) -> list[Any]:
        at = self.marks.pop()
        items, self.stack[at:] = self.stack[at:], []
        return items

    def top(self, n: int) -> tuple[Any, ...]:
        if len(self.stack) < n:
            raise IndexError
        items, self.stack[-n:] = tuple(self.stack[-n:]), []
        return items

    def fill(self, items: list[Any]) -> None:
        into = self.stack[-1]
        # Only strings and numbers are keys: hashing a deeply nested tuple would overflow C's own stack.
        if not isinstance(into, dict) or len(items) % 2 or not all(isinstance(key, str | int) for key in items[::2]):
            raise _Bad("something other than a dictionary with numbers or strings as keys")
        into.update(zip(items[::2], items[1::2], strict=True))

    def append(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise _Bad("something other than a list")
        self.stack[-1].extend(items)

    def build(self) -> None:
        target, _ = self.top(2)
        if not isinstance(target, dict):  # a state dict has versions as attributes, which are not needed
            raise _Bad("attributes of something that is no dictionary")
        self.stack.append(target)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def step(self, name: str, arg: Any) -> None:
        known = _INSTRUCTIONS.get(name)
        if known is None:
            raise _Bad(f"the pickle instruction {name}")
        known(self, arg)


_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], Any]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda m, _: None),
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    **dict.fromkeys(
        (
            "BININT",
            "BININT1",
            "BININT2",
            "LONG1",
            "BINFLOAT",
            "BINUNICODE",
            "SHORT_BINUNICODE",
            "BINUNICODE8",
            "BINBYTES",
            "SHORT_BINBYTES",
        ),
        lambda m, arg: m.push(arg),
    ),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "TUPLE": lambda m, _: m.push(tuple(m.since_mark())),
    "TUPLE1": lambda m, _: m.push(m.top(1)),
    "TUPLE2": lambda m, _: m.push(m.top(2)),
    "TUPLE3": lambda m, _: m.push(m.top(3)),
    "SETITEM": lambda m, _: m.fill(list(m.top(2))),
    "SETITEMS": lambda m, _: m.fill(m.since_mark()),
    "APPEND": lambda m, _: m.append(list(m.top(1))),
    "APPENDS": lambda m, _: m.append(m.since_mark()),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), lambda m, arg: m.memo.__setitem__(arg, m.stack[-1])),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda m, arg: m.push(m.memo[arg])),
    "MEMOIZE": lambda m, _: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    "GLOBAL": lambda m, arg: m.push(Word(*arg.split(" ", 1))),
    "STACK_GLOBAL": lambda m, _: m.push(_word(*m.top(2))),
    "BINPERSID": lambda m, _: m.push(_storage(m.stack.pop())),
    "REDUCE": lambda m, _: m.push(_call(*m.top(2))),
    "BUILD": lambda m, _: m.build(),
    "NEWOBJ": lambda m, _: _object(m.top(2)[0]),
}


def _run(program: bytes, where: str) -> Any:
    """Run the program and return the value that it leaves on the stack."""
    machine = _Machine()
    try:
        for instruction, arg, _ in pickletools.genops(program):
            machine.step(instruction.name, arg)
        (result,) = machine.stack
    except _Bad as e:
        raise InputError(where, "tensors by name and nothing else", str(e), e.do) from None
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as e:
        raise InputError(
            where, "a whole pickle of tensors", type(e).__name__, "perhaps the file is damaged: get or make it again"
        ) from None
    return result


def _unwrapped(content: dict[Any, Any], where: str) -> dict[Any, Any]:
    """The state dict in a checkpoint of a trainer."""
    inside = [key for key in WRAPPERS if isinstance(content.get(key), dict)]
    if len(inside) > 1:
        raise InputError(where, f"one of {', '.join(WRAPPERS)}", " and ".join(inside), PLAIN)
    return content[inside[0]] if inside else content


def unpickle(program: bytes, where: str) -> dict[str, Tensor]:
    """Run data.pkl, which must give a dictionary of tensors, perhaps within a checkpoint of a trainer.

    Raises:
        InputError: it holds anything else, which is named.
    """
    result = _run(program, where)
    if not isinstance(result, dict):
        raise InputError(where, "a dictionary of tensors", type(result).__name__, PLAIN)
    result = _unwrapped(result, where)
    for name, tensor in result.items():
        if not isinstance(name, str):
            raise InputError(where, "a dictionary with strings as keys", brief(name, 80), PLAIN)
        if not isinstance(tensor, Tensor):
            raise InputError(f"{where}: {name[:80]}", "a tensor", type(tensor).__name__, PLAIN)
    return result
