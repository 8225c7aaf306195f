"""Four role keys for the whole session (making RSA keys takes a second each) and an open vault per test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.vault import ROLES, RoleKey, Vault


@pytest.fixture(scope="session")
def role_keys() -> dict[str, RoleKey]:
    return {role: RoleKey.generate(role) for role in ROLES}


@pytest.fixture
def vault(tmp_path: Path, role_keys: dict[str, RoleKey]) -> Iterator[Vault]:
    public = {role: key.public() for role, key in role_keys.items()}
    with Vault.create(tmp_path / "vault", role_keys["owner"], public) as made:
        yield made
