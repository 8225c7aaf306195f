"""The digest of the code: the same for an installation and a bundle made from it, another for any other code."""

from __future__ import annotations

import io
import zipfile

import pytest

from common.errors import WireError
from common.provision.code import bundle_code, code_digest, installed_code
from server.superlink.control import make_bundle


def _zip(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


def test_a_bundle_of_this_code_has_its_digest() -> None:
    assert code_digest(bundle_code(make_bundle({"run-dir": "x"}))) == code_digest(installed_code())


def test_any_other_code_has_another() -> None:
    code, name = installed_code(), "server/app.py"
    digest = code_digest(code)
    changed = [
        {**code, name: code[name] + b"\n"},
        {key: data for key, data in code.items() if key != name},
        {**code, "server/extra.py": b""},
        {("server/application.py" if key == name else key): data for key, data in code.items()},
    ]
    assert digest not in {code_digest(each) for each in changed}


@pytest.mark.parametrize(
    "bundle",
    [
        b"",
        b"PK\x03\x04 no",
        *(_zip({name: b""}) for name in ("evil.py", "simulations/cli.py", "../server/x.py")),
    ],
)
def test_no_bundle_or_foreign_code_is_refused(bundle: bytes) -> None:
    with pytest.raises(WireError):
        bundle_code(bundle)


def test_a_bomb_isnt_unpacked() -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("server/big.py", bytes(70 << 20))
    with pytest.raises(WireError, match="larger"):
        bundle_code(bomb.getvalue())
