"""What sealing costs: one object from memory to a file and back, beside age and Tink, on one core; and, by
`benchmarks.support.house`, what a vault costs ingest and training.

Invariant: all start from bytes in memory, end with a file in a memory file system, and come back into fresh memory
(but for the row that says otherwise). Counted are CPU seconds, and the best of several runs, since other work on the
machine can only slow a run down. Tink's streaming AEAD works on 1 MiB segments, age on 64 KiB ones; both are measured
through their public Python packages. Ratios take the slower direction of `hansa`, the vault's own `write` and `view`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from clients.vault import RoleKey, Vault
from common.crypto.envelope import open_sealed, seal
from simulations.benchmarks import BenchResult
from simulations.benchmarks.support.house import measure

_MEMORY = Path("/dev/shm")  # noqa: S108 - a memory file system, so that no disk is measured
Pair = tuple[Callable[[], object], Callable[[], object]]


def run(quick: bool) -> BenchResult:
    """Throughput in GB/s for 256 MiB (quick: 32 MiB); ratios of the slower direction."""
    size, repeats = (32 << 20, 3) if quick else (256 << 20, 5)
    data = os.urandom(size)
    folder = Path(tempfile.mkdtemp(dir=_MEMORY if _MEMORY.is_dir() else None))
    try:
        contenders = _hansa(folder / "hansa", data)
        if find_spec("pyrage"):
            contenders["age"] = _age(folder / "age", data)
        if find_spec("tink"):
            contenders["tink"] = _tink(folder / "tink", data)
        rows = [_measure(name, pair, size, repeats) for name, pair in contenders.items()]
    finally:
        shutil.rmtree(folder)
    ours = rows[0]
    ratios = {
        f"over_{row['method']}": min(
            ours["seal_gb_s"] / row["seal_gb_s"], ours["open_gb_s"] / row["open_gb_s"]
        )
        for row in rows
        if row["method"] in ("age", "tink")
    }
    more, costs = measure(quick, _MEMORY if _MEMORY.is_dir() else None)
    return {"name": "vault", "rows": rows + more, "ratios": ratios | costs}


def _measure(name: str, pair: Pair, size: int, repeats: int) -> dict[str, Any]:
    best = [min(_seconds(action) for _ in range(repeats)) for action in pair]
    return {
        "method": name,
        "bytes": size,
        "seal_gb_s": size / best[0] / 1e9,
        "open_gb_s": size / best[1] / 1e9,
    }


def _seconds(action: Callable[[], object]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


def _hansa(folder: Path, data: bytes) -> dict[str, Pair]:
    """The vault as others compare with it (fresh memory for what is opened), as `bytes`, and into a given buffer."""
    owner = RoleKey.generate("owner")
    vault = Vault.create(folder, owner)
    path, target = folder / "x.hve", memoryview(bytearray(len(data)))

    def into() -> None:
        with open_sealed(path, owner.encryption, context=b"bench") as sealed:
            sealed.into(target)

    def write() -> None:
        vault.write("logs", "x", data)

    recipients = {"owner": owner.public().encryption}
    return {
        "hansa": (write, lambda: vault.view("logs", "x")),
        "hansa, read as bytes": (write, lambda: vault.read("logs", "x")),
        "hansa, envelope into a buffer": (
            lambda: seal(path, data, recipients=recipients, context=b"bench"),
            into,
        ),
    }


def _age(path: Path, data: bytes) -> Pair:
    from pyrage import decrypt, encrypt, x25519

    identity = x25519.Identity.generate()
    recipients = [identity.to_public()]
    return (
        lambda: path.write_bytes(encrypt(data, recipients)),
        lambda: decrypt(path.read_bytes(), [identity]),
    )


def _tink(path: Path, data: bytes) -> Pair:
    import tink
    from tink import streaming_aead

    streaming_aead.register()
    templates = streaming_aead.streaming_aead_key_templates
    handle = tink.new_keyset_handle(templates.AES256_GCM_HKDF_1MB)
    primitive = handle.primitive(streaming_aead.StreamingAead)

    def sealed() -> None:
        with path.open("wb") as file, primitive.new_encrypting_stream(file, b"bench") as stream:
            stream.write(data)

    def opened() -> bytes:
        with path.open("rb") as file, primitive.new_decrypting_stream(file, b"bench") as stream:
            return bytes(stream.read())

    return sealed, opened
