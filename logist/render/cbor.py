"""The binary form in which a browser speaks its protocol: the part of CBOR (RFC 8949) that it uses.

Each message, and each object in it, lies in an envelope that says how long it is. Texts that are not ASCII may come as
UTF-16, and what the protocol has as base64 comes as the bytes themselves.
"""

from __future__ import annotations

import struct
from typing import Any

#: Before an envelope's length: tag 24 (encoded CBOR) of a byte string with a length of four bytes.
ENVELOPE = b"\xd8\x18\x5a"
_LENGTH = struct.Struct(">I")
_DOUBLE = struct.Struct(">d")
_ARGUMENTS = {24: struct.Struct(">B"), 25: struct.Struct(">H"), 26: _LENGTH, 27: struct.Struct(">Q")}
HEADER = len(ENVELOPE) + _LENGTH.size
#: Whole heads: a list and an object up to their end, a float, and the values that are nothing else.
_LIST, _OBJECT, _END, _FLOAT = 0x9F, 0xBF, 0xFF, 0xFB
_FIXED: dict[int, Any] = {0xF4: False, 0xF5: True, 0xF6: None}
#: Tags: the bytes that the protocol has as base64; an envelope.
_BINARY, _ENCODED = 22, 24
#: Up to here a float is as exact as a whole number.
_WHOLE = 1 << 53
#: How many objects and lists may lie in each other.
_DEEPEST = 200


def size_of(data: bytes | bytearray) -> int | None:
    """How many bytes the message has with which `data` begins; None: that has not come yet. Raises ValueError."""
    if not data.startswith(ENVELOPE[: len(data)]):
        raise ValueError("it does not begin with an envelope")
    if len(data) < HEADER:
        return None
    return HEADER + int(_LENGTH.unpack_from(data, len(ENVELOPE))[0])


def encode(value: Any) -> bytes:
    """A value of JSON as the browser reads it; objects and lists in envelopes."""
    match value:
        case None:
            return b"\xf6"
        case bool():
            return b"\xf5" if value else b"\xf4"
        case int() if -(1 << 31) <= value < 1 << 31:
            return _head(0, value) if value >= 0 else _head(1, -1 - value)
        case int() | float():
            return b"\xfb" + _DOUBLE.pack(value)
        case str() if value.isascii():
            return _head(3, len(value)) + value.encode("ascii")
        case str():
            text = value.encode("utf-16-le", "surrogatepass")
            return _head(2, len(text)) + text
        case dict():
            inside = b"".join(encode(name) + encode(each) for name, each in value.items())
            return _enveloped(b"\xbf" + inside + b"\xff")
        case list() | tuple():
            return _enveloped(b"\x9f" + b"".join(map(encode, value)) + b"\xff")
        case _:
            raise TypeError(f"{type(value).__name__} is no value of JSON")


def _enveloped(data: bytes) -> bytes:
    return ENVELOPE + _LENGTH.pack(len(data)) + data


def _head(kind: int, argument: int) -> bytes:
    if argument < 24:
        return bytes((kind << 5 | argument,))
    if argument < 1 << 8:
        return bytes((kind << 5 | 24, argument))
    if argument < 1 << 16:
        return bytes((kind << 5 | 25,)) + argument.to_bytes(2, "big")
    return bytes((kind << 5 | 26,)) + argument.to_bytes(4, "big")


def decode(data: bytes) -> Any:
    """The value that a message holds. Raises ValueError for what is not of this form."""
    try:
        value, end = _value(data, 0, 0)
    except (IndexError, struct.error, UnicodeDecodeError, TypeError) as error:
        raise ValueError("it is cut off or broken") from error
    if end != len(data):
        raise ValueError("something follows it")
    return value


def _value(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if depth > _DEEPEST:
        raise ValueError("it is nested too deeply")
    head = data[at]
    if head in _FIXED:
        return _FIXED[head], at + 1
    if head == _FLOAT:
        return _number(_DOUBLE.unpack_from(data, at + 1)[0]), at + 1 + _DOUBLE.size
    if head == _LIST:
        return _items(data, at + 1, depth)
    if head == _OBJECT:
        items, at = _items(data, at + 1, depth)
        return dict(zip(items[::2], items[1::2], strict=True)), at
    number, at = _argument(data, at)
    match head >> 5:
        case 0:
            return number, at
        case 1:
            return -1 - number, at
        case 2:
            return _read(data, at, at + number).decode("utf-16-le", "surrogatepass"), at + number
        case 3:
            return _read(data, at, at + number).decode("utf-8", "surrogatepass"), at + number
        case 6 if number == _ENCODED:
            # What the byte string holds is read in place.
            _, inside = _argument(data, at)
            return _value(data, inside, depth + 1)
        case 6 if number == _BINARY:
            return _bytes(data, at)
        case _:
            raise ValueError("it has a value of an unknown kind")


def _number(value: float) -> float:
    # The browser has only this kind for what a script calls 1.
    return int(value) if value.is_integer() and abs(value) < _WHOLE else value


def _read(data: bytes, start: int, end: int) -> bytes:
    if end > len(data):
        raise IndexError
    return data[start:end]


def _bytes(data: bytes, at: int) -> tuple[bytes, int]:
    if data[at] >> 5 != 2:
        raise ValueError("it has binary data of an unknown form")
    length, start = _argument(data, at)
    return _read(data, start, start + length), start + length


def _argument(data: bytes, at: int) -> tuple[int, int]:
    """The number in a value's head, and where the head ends."""
    argument = data[at] & 31
    if argument < 24:
        return argument, at + 1
    packed = _ARGUMENTS.get(argument)
    if packed is None:
        raise ValueError("it has a value of an unknown kind")
    return int(packed.unpack_from(data, at + 1)[0]), at + 1 + packed.size


def _items(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    items = []
    while data[at] != _END:
        item, at = _value(data, at, depth + 1)
        items.append(item)
    return items, at + 1
