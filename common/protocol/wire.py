"""The messages between the coordinator and a site: one header, one flat vector, a few figures.

Invariant: a message is one `ConfigRecord` "hansa" (the header), at most one `ArrayRecord` "vector" with a
single `Array` of raw little-endian bytes, and at most one `MetricRecord` "metrics". Flower's cost on the
wire grows with the number of arrays, so all shared parameters travel as one float32 vector whose meaning is
fixed by a `Layout` digest. Lengths and dtypes are checked before a byte is read; every refusal is a
`WireError` that names the site and the round.

>>> layout = Layout.of({"a": (2, 2), "b": (1,)})
>>> layout.size
5
>>> sorted(layout.unflatten(np.arange(5, dtype=np.float32)))
['a', 'b']
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, ConfigRecordValues, MetricRecord, RecordDict
from numpy.typing import NDArray

from common.canonical import canonical
from common.errors import WireError

FloatVector = NDArray[np.float32]
Payload = NDArray[np.float32] | NDArray[np.uint8]

HELLO = "query.hello"
PREPARE = "query.prepare"
SECURE = "query.secure"
TRAIN = "train"
MEASURE = "evaluate.measure"
EVALUATE_LOCAL = "evaluate.local"
EVALUATE_FINAL = "evaluate.final"

HEADER = "hansa"
VECTOR = "vector"
METRICS = "metrics"

_STYPE = "hansa.flat"
_ITEM_BYTES = {"float32": 4, "uint8": 1}


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the shared parameters, in order; they say what each place in the flat vector means."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    size: int = field(init=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        if len(self.names) != len(self.shapes) or len(set(self.names)) != len(self.names):
            raise WireError("the layout's names and shapes don't match one to one", where="layout")
        object.__setattr__(self, "size", sum(math.prod(shape) for shape in self.shapes))
        object.__setattr__(self, "digest", hashlib.sha256(canonical([self.names, self.shapes])).hexdigest())

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[int, ...]]) -> Layout:
        """The layout of parameters in the mapping's own order."""
        return cls(tuple(shapes), tuple(tuple(int(n) for n in shape) for shape in shapes.values()))

    def flatten(self, tensors: Mapping[str, NDArray[np.floating]]) -> FloatVector:
        """One float32 vector of `size` numbers from named arrays, in the layout's order.

        Raises
        ------
        WireError : a name is missing or foreign, or a shape differs.
        """
        if set(tensors) != set(self.names):
            odd = sorted(set(tensors) ^ set(self.names))
            raise WireError(f"parameters {odd[:3]} are missing or foreign", where="layout")
        flat = np.empty(self.size, dtype=np.float32)
        start = 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            tensor = tensors[name]
            if tensor.shape != shape:
                raise WireError(f"parameter '{name}' has shape {tensor.shape}, not {shape}", where="layout")
            stop = start + math.prod(shape)
            flat[start:stop] = tensor.reshape(-1)
            start = stop
        return flat

    def unflatten(self, vector: FloatVector) -> dict[str, NDArray[np.float32]]:
        """Named arrays, each a copy, from one vector of `size` numbers.

        Raises
        ------
        WireError : the vector's length differs.
        """
        if vector.shape != (self.size,):
            raise WireError(f"the vector has shape {vector.shape}, not ({self.size},)", where="layout")
        tensors: dict[str, NDArray[np.float32]] = {}
        start = 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            stop = start + math.prod(shape)
            tensors[name] = vector[start:stop].reshape(shape).astype(np.float32, copy=True)
            start = stop
        return tensors

    def to_json(self) -> str:
        """Canonical JSON: a list of [name, shape] pairs."""
        pairs = zip(self.names, self.shapes, strict=True)
        return canonical([[name, list(shape)] for name, shape in pairs]).decode()

    @classmethod
    def from_json(cls, text: str, *, where: str = "layout") -> Layout:
        """The inverse of `to_json`.

        Raises
        ------
        WireError : the text isn't a list of names and shapes of non-negative whole numbers.
        """
        try:
            pairs = [(str(name), tuple(int(n) for n in shape)) for name, shape in json.loads(text)]
        except (ValueError, TypeError):
            raise WireError("the layout can't be read", where=where) from None
        if any(n < 0 for _, shape in pairs for n in shape):
            raise WireError("the layout holds a negative size", where=where)
        return cls(tuple(name for name, _ in pairs), tuple(shape for _, shape in pairs))


@dataclass(frozen=True)
class TrainResult:
    """The result of one site's training.

    It holds the update Δ = local − received, the weight that the site claims, and figures of the *received* model, so
    that a round needs no second message.
    """

    update: FloatVector
    weight: float
    metrics: dict[str, float]


class Trainer(Protocol):
    """One site's training and evaluation, without state between rounds: randomness comes from (seed, site, round)."""

    name: str

    def layout(self) -> Layout: ...

    def initial(self) -> FloatVector: ...

    def prepare(self) -> dict[str, float]: ...

    def train(self, vector: FloatVector, round_: int) -> TrainResult: ...

    def evaluate_local(self, out: Path) -> dict[str, float]: ...

    def evaluate_final(self, vector: FloatVector, out: Path, whole: bool = True) -> dict[str, float]: ...


@runtime_checkable
class Measurer(Protocol):
    """A trainer that can also give the figures of a received model without training.

    The coordinator asks once, after the last round, so that the last model too can become the best one.
    """

    def measure(self, vector: FloatVector) -> dict[str, float]: ...


@dataclass(frozen=True)
class Header:
    """The scalars of one message.

    Parameters
    ----------
    run : digest of the league's configuration; equal in all messages of a run.
    round : round number from 1; 0 outside training.
    site : name of the replying site; empty in the coordinator's messages.
    layout : digest of the parameter layout; empty before it is known.
    protection : how the vector is protected.
    plan : further JSON-able scalars of this message type.
    """

    run: str
    round: int = 0
    site: str = ""
    layout: str = ""
    protection: str = "plain"
    plan: dict[str, str | int | float | bool] = field(default_factory=dict)


def pack(
    header: Header,
    *,
    vector: Payload | None = None,
    metrics: Mapping[str, float] | None = None,
) -> RecordDict:
    """The records of one message."""
    scalars: dict[str, ConfigRecordValues] = {
        "run": header.run, "round": header.round, "site": header.site, "layout": header.layout,
        "protection": header.protection, "plan": json.dumps(header.plan, sort_keys=True),
    }  # fmt: skip
    content = RecordDict({HEADER: ConfigRecord(scalars)})
    if vector is not None:
        content[VECTOR] = ArrayRecord({VECTOR: encode_vector(vector)})
    if metrics is not None:
        content[METRICS] = MetricRecord({name: float(value) for name, value in metrics.items()})
    return content


def addressed(content: RecordDict, header: Header) -> RecordDict:
    """The same records under another header; the vector is shared, not copied."""
    return RecordDict({**content, HEADER: pack(header).config_records[HEADER]})


def read_header(content: RecordDict, *, where: str) -> Header:
    """The header of a message.

    Raises
    ------
    WireError : the header is missing, or a field is missing or of a wrong type.
    """
    record = content.config_records.get(HEADER)
    if record is None:
        raise WireError("the message has no header", where=where)
    values = {name: record.get(name) for name in ("run", "round", "site", "layout", "protection", "plan")}
    if type(values["round"]) is not int or any(
        not isinstance(value, str) for name, value in values.items() if name != "round"
    ):
        raise WireError("a field of the header is missing or has a wrong type", where=where)
    try:
        plan = json.loads(str(values["plan"]))
    except ValueError:
        raise WireError("the header's plan is no JSON", where=where) from None
    if not isinstance(plan, dict):
        raise WireError("the header's plan is no table", where=where)
    return Header(
        run=str(values["run"]), round=values["round"], site=str(values["site"]), layout=str(values["layout"]),
        protection=str(values["protection"]), plan=plan,
    )  # fmt: skip


def encode_vector(vector: Payload) -> Array:
    """A one-dimensional float32 or uint8 vector as one Flower array of raw little-endian bytes.

    Raises
    ------
    WireError : another dtype or number of dimensions.
    """
    name = vector.dtype.name
    if name not in _ITEM_BYTES or vector.ndim != 1:
        raise WireError(f"a vector of {name} in {vector.ndim} dimensions can't travel", where="wire")
    return Array(
        name, (int(vector.size),), _STYPE, vector.astype(vector.dtype.newbyteorder("<"), copy=False).tobytes()
    )


def decode_floats(content: RecordDict, size: int, *, where: str) -> FloatVector:
    """The message's float32 vector of exactly `size` numbers, read-only and without a copy.

    Raises
    ------
    WireError : the vector is missing, or its dtype, shape or byte length differs from the contract's.
    """
    return np.frombuffer(_body(content, "float32", size, where), dtype="<f4")


def decode_blob(content: RecordDict, most: int, *, where: str) -> bytes:
    """The message's uint8 vector of at most `most` bytes, for containers whose own facts fix the length.

    Raises
    ------
    WireError : as `decode_floats`.
    """
    record = content.array_records.get(VECTOR)
    size = len(record[VECTOR].data) if record is not None and VECTOR in record else 0
    if size > most:
        raise WireError(f"the message has {size} bytes, above {most}", where=where)
    return _body(content, "uint8", size, where)


def read_metrics(content: RecordDict) -> dict[str, float]:
    """The message's scalar figures; empty where it has none."""
    record = content.metric_records.get(METRICS)
    if record is None:
        return {}
    return {name: float(value) for name, value in record.items() if isinstance(value, int | float)}


def check_finite(vector: FloatVector, *, where: str) -> None:
    """Refuse NaN and infinity.

    Raises
    ------
    WireError : with the number of such values and the first place.
    """
    # With a NaN or infinity the sum of squares isn't finite either. Nor may it be with large numbers: look closer then.
    if np.isfinite(np.vdot(vector, vector)):
        return
    bad = ~np.isfinite(vector)
    if bad.any():
        raise WireError(
            f"{int(bad.sum())} of {vector.size} values are NaN or infinite, the first at {int(bad.argmax())}",
            where=where,
        )


def vector_digest(vector: FloatVector) -> str:
    """SHA-256 of the vector's little-endian bytes, as 64 hex digits."""
    return hashlib.sha256(np.ascontiguousarray(vector, dtype="<f4").data).hexdigest()


def place(site: str, round_: int) -> str:
    """How errors name a place: site and round."""
    return f"site '{site}', round {round_}"


def _body(content: RecordDict, dtype: str, size: int, where: str) -> bytes:
    record = content.array_records.get(VECTOR)
    if record is None or list(record) != [VECTOR]:
        raise WireError("the message must hold exactly one vector", where=where)
    array = record[VECTOR]
    if array.dtype != dtype or array.stype != _STYPE:
        raise WireError(f"the vector is {array.dtype} ({array.stype}), not {dtype}", where=where)
    if tuple(array.shape) != (size,) or len(array.data) != size * _ITEM_BYTES[dtype]:
        raise WireError(
            f"the vector has shape {tuple(array.shape)} and {len(array.data)} bytes, not {size} numbers",
            where=where,
        )
    return array.data
