"""A site's data, from its plain folder or from the vault that its `site.toml` names.

    [vault]
    path = "vault"                      # relative to the site folder
    key = "vault/keys/trainer.key"      # the role that trains
    passphrase = "file:trainer.pass"    # where the passphrase is read from, never the passphrase itself

Invariant: if a site has a vault, all data are read through the vault, and features are stored in it.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray
from safetensors.numpy import load

from clients.encoders.cache import FeatureCache, FolderShards, Shards, default_cache_folder
from clients.ingest import SiteData, read_site, read_site_info
from clients.ingest.into_vault.ingest import read_vault
from clients.vault import PassphraseSource, Vault, unlock
from common.errors import ConfigError
from common.schema import TABLES, SiteInfo, Table


class House:
    """One site's data and the caches of its features. Close it after the pictures are read, or use it in a `with`."""

    def __init__(self, data: SiteData, vault: Vault | None) -> None:
        self.data, self._vault = data, vault
        self._caches: dict[str, FeatureCache] = {}

    def features(self, encoder: str) -> FeatureCache:
        """The cache of one encoder's vectors."""
        if encoder not in self._caches:
            shards: Shards = FolderShards(default_cache_folder() / encoder)
            if self._vault is not None:
                shards = VaultShards(self._vault, encoder)
            self._caches[encoder] = FeatureCache(shards)
        return self._caches[encoder]

    def close(self) -> None:
        """Close the vault's files."""
        if self._vault is not None:
            self._vault.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class VaultShards:
    """Feature shards as objects of a vault: vectors of reviews reveal their text, so they are sealed like it."""

    def __init__(self, vault: Vault, encoder: str) -> None:
        self._vault, self._prefix = vault, f"{encoder}/"
        self._opened: dict[str, dict[str, NDArray[Any]]] = {}

    def names(self) -> list[str]:
        return sorted(
            name[len(self._prefix) :]
            for name in self._vault.names("features")
            if name.startswith(self._prefix)
        )

    def read(self, name: str, array: str) -> NDArray[Any]:
        # A sealed object is opened whole, and only once, since each opening is an entry in the vault's log.
        if name not in self._opened:
            self._opened[name] = load(self._vault.read("features", self._prefix + name))
        return self._opened[name][array]

    def write(self, name: str, data: bytes) -> None:
        self._vault.write("features", self._prefix + name, data)

    def set_aside(self, name: str) -> None:
        self._vault.delete("features", self._prefix + name)


def open_house(folder: Path, tables: Collection[Table] = TABLES) -> House:
    """Read a site from its folder, or from its vault if `site.toml` names one.

    Parameters
    ----------
    tables : the tables to read, products among them; the others come back empty.

    Raises
    ------
    HansaError : the folder can't be used, or the vault can't be opened with the key that is named.
    """
    info = read_site_info(folder)
    if not info.vault.path:
        return House(read_site(folder, tables), None)
    vault = open_vault(folder, info)
    try:
        return House(read_vault(vault, tables), vault)
    except BaseException:
        vault.close()
        raise


def open_vault(folder: Path, info: SiteInfo) -> Vault:
    """Open the vault that a `site.toml` names, with the role's key that it names.

    Raises
    ------
    ConfigError : `site.toml` doesn't name the key or the source of its passphrase.
    HansaError : it can't be opened.
    """
    if not info.vault.key or PassphraseSource.parse(info.vault.passphrase).kind == PassphraseSource().kind:
        raise ConfigError(
            "the vault's key or passphrase isn't named", where=f"{folder / 'site.toml'}, [vault]",
            why="training starts processes that can't ask for it",
            next_step='add key = "…/trainer.key" and passphrase = "file:…"',
        )  # fmt: skip
    role = unlock(folder / info.vault.key, _beside(folder, info.vault.passphrase))
    return Vault.open(folder / info.vault.path, role)


def _beside(folder: Path, source: str) -> PassphraseSource:
    """The passphrase's source; a file's path is relative to the site folder."""
    parsed = PassphraseSource.parse(source)
    return PassphraseSource("file", str(folder / parsed.value)) if parsed.kind == "file" else parsed
