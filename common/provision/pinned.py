"""The keys that a contract fixes, so that neither a site nor the coordinator trusts a key because it came first.

Invariant: where a contract names keys, a bundle with others is refused, whoever signed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import WireError
from common.provision.contract import FILE, Contract, PublicKeys


@dataclass(frozen=True)
class Pinned:
    """Public keys by site.

    Parameters
    ----------
    own : a site's own private keys; nothing at the coordinator.
    receipts : public key of who signs receipts of privacy ledgers.
    """

    public: Mapping[str, PublicKeys]
    own: Path | None = None
    receipts: str = ""

    @classmethod
    def of(cls, contract: Path, own: Path | None = None) -> Pinned:
        """What a contract fixes."""
        found = Contract.read(contract)
        return cls(found.public_keys(), own, found.receipts)

    @classmethod
    def beside(cls, run: Path) -> Pinned | None:
        """What the contract in a run's folder fixes; a simulation has none."""
        return cls.of(run / FILE) if (run / FILE).exists() else None

    def require(self, bundles: Mapping[str, Mapping[str, Any]], where: str) -> None:
        """Hold bundles of public keys against the contract.

        Raises
        ------
        WireError : a site or a key isn't the contract's.
        """
        for name, bundle in bundles.items():
            fixed = self.public.get(name)
            if fixed is None or any(bundle.get(kind) != key for kind, key in fixed.items()):
                raise WireError(f"the keys of site '{name[:80]}' aren't those of the contract", where=where)
