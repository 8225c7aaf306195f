"""Reads tensors from PyTorch's legacy checkpoint format without unpickling.

The packaged EfficientNet weights come as a pickle, and unpickling runs code. This reader walks the opcodes with
`pickletools.genops`, which executes nothing, and accepts only what a dictionary of tensors needs; anything else is
refused. The file's SHA-256 is checked first.

Layout of the format (torch/serialization.py, ``_legacy_save``): pickles of magic number, protocol, system info, the
object and the storage keys; then for each key an int64 count and the raw numbers.
"""

from __future__ import annotations

import hashlib
import io
import pickletools
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from common.errors import MachineError

_ALLOWED_CALLS = {"torch._utils _rebuild_tensor_v2", "collections OrderedDict"}
_DTYPES = {"torch FloatStorage": "<f4", "torch LongStorage": "<i8"}
_MARK = object()


class _Global(NamedTuple):
    name: str


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype[Any]


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def read_legacy_checkpoint(path: Path, sha256: str) -> dict[str, NDArray[Any]]:
    """Name → array of a state dict saved in the legacy format.

    Raises
    ------
    MachineError : the file is absent, isn't the pinned one, or holds anything but contiguous tensors.
    """
    try:
        data = path.read_bytes()
    except OSError:
        raise MachineError(
            "the image encoder's weights are missing", where=path.name, next_step="run the set-up again"
        ) from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise MachineError(
            "the image encoder's weights aren't the pinned ones",
            where=path.name,
            next_step="run the set-up again",
        )
    try:
        return _state_dict(io.BytesIO(data))
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration) as fault:
        # Errors that a well-formed file can't cause: stack underflow, a foreign type, an early end.
        raise MachineError(
            "the image encoder's weights are malformed", where=path.name, why=str(fault)
        ) from None


def _state_dict(stream: io.BytesIO) -> dict[str, NDArray[Any]]:
    _, _, _, state, keys = (_walk(stream) for _ in range(5))
    dtypes = {t.storage.key: t.storage.dtype for t in state.values()}
    storages: dict[str, NDArray[Any]] = {}
    for key in keys:
        count = int(np.frombuffer(stream.read(8), "<i8")[0])
        dtype = dtypes[key]
        storages[key] = np.frombuffer(stream.read(count * dtype.itemsize), dtype)
    return {name: _view(storages[t.storage.key], t) for name, t in state.items()}


def _view(storage: NDArray[Any], tensor: _Tensor) -> NDArray[Any]:
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride, strict=True))
    lowest = min((tensor.offset, *tensor.stride))
    if min(tensor.shape, default=1) < 1 or lowest < 0 or last >= len(storage):
        raise MachineError("the image encoder's weights point outside their own data")
    strides = [step * storage.itemsize for step in tensor.stride]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides, writeable=False)


def _walk(stream: io.BytesIO) -> Any:
    """The value of one pickle, built only from constants, containers, storages and tensors."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for opcode, value, _ in pickletools.genops(stream):
        name, argument = opcode.name, cast(Any, value)
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            return stack.pop()
        if name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        else:
            _apply(name, argument, stack)
    raise MachineError("the image encoder's weights are truncated")


def _apply(name: str, argument: Any, stack: list[Any]) -> None:
    constants: dict[str, type] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
    literals = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": _MARK}
    if name in constants:
        stack.append(constants[name]())
    elif name in literals:
        stack.append(literals[name])
    elif name in ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE"):
        stack.append(argument)
    elif name == "GLOBAL":
        stack.append(_Global(argument))
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        count = int(name[-1])
        stack[-count:] = [tuple(stack[-count:])]
    elif name == "TUPLE":
        stack.append(tuple(_to_mark(stack)))
    elif name == "BINPERSID":
        _, kind, key, *_ = stack.pop()
        stack.append(_Storage(str(key), _dtype(kind)))
    elif name == "REDUCE":
        arguments, function = stack.pop(), stack.pop()
        stack.append(_call(function, arguments))
    elif name in ("SETITEMS", "APPENDS"):
        values = _to_mark(stack)
        stack[-1].update(zip(values[::2], values[1::2], strict=True)) if name == "SETITEMS" else stack[
            -1
        ].extend(values)
    elif name in ("SETITEM", "APPEND"):
        value = stack.pop()
        stack[-2].__setitem__(stack.pop(), value) if name == "SETITEM" else stack[-1].append(value)
    elif name == "BUILD":
        stack.pop()  # attributes of the state dict; the tensors don't need them
    else:
        raise MachineError(f"the image encoder's weights hold an instruction that isn't allowed ({name})")


def _dtype(kind: Any) -> np.dtype[Any]:
    if not isinstance(kind, _Global) or kind.name not in _DTYPES:
        raise MachineError(f"the image encoder's weights hold numbers of a kind that isn't allowed ({kind})")
    return np.dtype(_DTYPES[kind.name])


def _to_mark(stack: list[Any]) -> list[Any]:
    at = len(stack) - 1 - next(i for i, v in enumerate(reversed(stack)) if v is _MARK)
    values = stack[at + 1 :]
    del stack[at:]
    return values


def _call(function: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(function, _Global) or function.name not in _ALLOWED_CALLS:
        raise MachineError(f"the image encoder's weights call something that isn't allowed ({function})")
    if function.name.endswith("OrderedDict"):
        return {}
    storage, offset, shape, stride, *_ = arguments
    return _Tensor(storage, int(offset), tuple(shape), tuple(stride))
