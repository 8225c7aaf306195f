"""Thrift's compact protocol (its `doc/specs/thrift-compact-protocol.md`) for Parquet's footers and page headers.

Invariants: time and memory are linear in the length of the data. A struct with the same field twice is refused, since
readers don't agree which of the two counts. A value is returned only as the kind as which it was written.
"""

from __future__ import annotations

from dataclasses import dataclass, field

I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12
_TRUE, _FALSE, _BYTE, _I16, _DOUBLE, _SET, _MAP = 1, 2, 3, 4, 7, 10, 11
_BITS = {_I16: 16, I32: 32, I64: 64}
_DEEPEST = 12


@dataclass
class Struct:
    """A struct's fields by number, each with its kind."""

    fields: dict[int, tuple[int, object]] = field(default_factory=dict)

    def number(self, field_id: int, kind: int) -> int | None:
        """The whole number in a field of that kind, or None."""
        entry = self.fields.get(field_id)
        return entry[1] if entry and entry[0] == kind and isinstance(entry[1], int) else None

    def struct(self, field_id: int) -> Struct:
        """The struct in a field; an empty one if there is none."""
        entry = self.fields.get(field_id)
        return entry[1] if entry and isinstance(entry[1], Struct) else Struct()

    def structs(self, field_id: int) -> list[Struct]:
        """The list of structs in a field; empty if there is none."""
        entry = self.fields.get(field_id)
        if not entry or not isinstance(entry[1], list):
            return []
        return [element for element in entry[1] if isinstance(element, Struct)]


def read_struct(data: bytes, at: int = 0, depth: int = 0) -> tuple[Struct, int]:
    """The struct at a position, and the position of its end.

    Raises
    ------
    IndexError : it goes beyond the data.
    ValueError : there is no valid struct.
    """
    if depth > _DEEPEST:
        raise ValueError("a header is nested too deep")
    struct, number = Struct(), 0
    while head := data[at]:
        at += 1
        number += head >> 4
        if not head >> 4:
            number, at = _signed(data, at, 16)
        if number in struct.fields:
            raise ValueError("a header has a field twice")
        kind = head & 15
        # The value of a bool field is in the field's header.
        value, at = (None, at) if kind in (_TRUE, _FALSE) else _value(data, at, kind, depth)
        struct.fields[number] = kind, value
    return struct, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[object, int]:
    if kind in _BITS:
        return _signed(data, at, _BITS[kind])
    if kind == STRUCT:
        return read_struct(data, at, depth + 1)
    if kind == BINARY:
        length, at = _varint(data, at)
        return None, _within(data, at + length)
    if kind in (LIST, _SET):
        head, at = data[at], at + 1
        count, at = (head >> 4, at) if head >> 4 < 15 else _varint(data, at)
        return _elements(data, at, count, (head & 15,), depth + 1)
    if kind == _MAP:
        count, at = _varint(data, at)
        kinds = (data[at] >> 4, data[at] & 15) if count else ()
        return _elements(data, at + bool(count), count, kinds, depth + 1)
    if kind in (_BYTE, _DOUBLE, _TRUE, _FALSE):
        return None, _within(data, at + (8 if kind == _DOUBLE else 1))
    raise ValueError(f"a header holds a value of kind {kind}")


def _elements(
    data: bytes, at: int, count: int, kinds: tuple[int, ...], depth: int
) -> tuple[list[object], int]:
    """Read a list's elements, each at least one byte long; only structs are kept."""
    if depth > _DEEPEST:
        raise ValueError("a header is nested too deep")
    _within(data, at + count * len(kinds))
    structs: list[object] = []
    for _ in range(count if kinds else 0):
        for kind in kinds:
            value, at = _value(data, at, kind, depth)
            if isinstance(value, Struct):
                structs.append(value)
    return structs, at


def _within(data: bytes, at: int) -> int:
    if at > len(data):
        raise IndexError
    return at


def _signed(data: bytes, at: int, bits: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    value &= (1 << bits) - 1
    return (value >> 1) ^ -(value & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a header holds a number without an end")
