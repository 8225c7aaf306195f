"""The keys that a contract fixes, so that no party trusts a key only because it was the first to arrive.

Invariant: where a contract names keys, a bundle with other keys is refused, whoever signed it.
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
    own : the file of a site's own private keys; None at the coordinator.
    receipts : public key that signs the receipts of privacy ledgers.
    """

    public: Mapping[str, PublicKeys]
    own: Path | None = None
    receipts: str = ""

    @classmethod
    def of(cls, contract: Path, own: Path | None = None) -> Pinned:
        """The keys that a contract fixes."""
        agreed = Contract.read(contract)
        return cls(agreed.public_keys(), own, agreed.receipts)

    @classmethod
    def beside(cls, run: Path) -> Pinned | None:
        """The keys that the contract in a run's folder fixes; None if there is no contract, as in a simulation."""
        return cls.of(run / FILE) if (run / FILE).exists() else None

    def require(self, bundles: Mapping[str, Mapping[str, Any]], where: str) -> None:
        """Check that bundles of public keys agree with the contract.

        Raises
        ------
        WireError : a site or a key isn't the contract's.
        """
        for name, bundle in bundles.items():
            fixed = self.public.get(name)
            if fixed is None or any(bundle.get(kind) != key for kind, key in fixed.items()):
                raise WireError(f"the keys of site '{name[:80]}' aren't those of the contract", where=where)
