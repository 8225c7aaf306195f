"""A site's encrypted store; README.md specifies the format byte by byte."""

from clients.vault.roles import DEFAULT_RIGHTS, KINDS, ROLES, rights_of
from clients.vault.store import Vault
from common.crypto.keys import PassphraseSource, RoleKey, unlock

__all__ = ["DEFAULT_RIGHTS", "KINDS", "ROLES", "PassphraseSource", "RoleKey", "Vault", "rights_of", "unlock"]
