"""The steps of a protection that need a site's secrets: mask, encrypt, sign. `common.secagg.pipeline` has the others.

Invariant: each step undoes on a sum what it did to an update. Ciphertexts are decrypted; masks have cancelled or were
removed by the coordinator, which the site allows only for the survivor set that it signed.
"""

from __future__ import annotations

from pathlib import Path

from clients.secagg.keys import SiteKeys
from clients.secagg.masking import Masking
from clients.secagg.shared_noise import nobody_pays, noisy_integers
from common.crypto.container import sign_container
from common.errors import WireError
from common.privacy.guarantee import SHARES_NOISE
from common.privacy.shared_noise import enough_noise
from common.secagg.pipeline import OPEN_STEPS, STEPS, Parcel, Quantise, Step, Terms
from common.secagg.protocol import upload_facts, values_of
from common.settings.config import LeagueConfig

UPDATES = "updates"  # the folder of the numbers made for each round


class Mask(Step):
    """Hide words under masks that cancel in the sum, and encrypt shares of the seeds for the other sites."""

    def __init__(self, terms: Terms, masking: Masking) -> None:
        super().__init__(terms)
        self._masking = masking

    def out(self, parcel: Parcel) -> None:
        parcel.values, parcel.shares = self._masking.mask(parcel.values, self.terms.attempt)

    def back(self, parcel: Parcel) -> None:
        """The coordinator has removed the masks that didn't cancel; check that this site signed the survivor set."""
        if self.terms.site in self.terms.attempt.weights:
            self._masking.require_signed(self.terms.attempt, list(parcel.survivors))


class Encrypt(Step):
    """Encrypt words under the league's key of the attempt's epoch."""

    def __init__(self, terms: Terms, keys: SiteKeys) -> None:
        super().__init__(terms)
        self._keys = keys

    def out(self, parcel: Parcel) -> None:
        parcel.values = self._keys.he_key(self.terms.attempt.epoch).encrypt(parcel.values)

    def back(self, parcel: Parcel) -> None:
        count = values_of(self.terms.rounds, self.terms.layout.size)
        key = self._keys.he_key(self.terms.attempt.epoch)
        parcel.values = key.decrypt(parcel.values, count, where=self.terms.where)


class Sign(Step):
    """Put all parts into one signed container. A sum has no signature: each site checks it after decryption."""

    def __init__(self, terms: Terms, keys: SiteKeys, run: str) -> None:
        super().__init__(terms)
        self._keys, self._run = keys, run

    def out(self, parcel: Parcel) -> None:
        terms, values = self.terms, parcel.values
        parts = values if isinstance(values, list) else [values.astype("<u8").tobytes()]
        facts = upload_facts(self._run, terms.rounds, terms.layout, terms.attempt, terms.site)
        parcel.values = sign_container(facts, [*parts, *parcel.shares], self._keys.sign)

    def back(self, parcel: Parcel) -> None:
        """Nothing to undo."""


class ShareNoise(Quantise):
    """Quantise and add the site's share of distributed noise; back: refuse a sum with too few sites' noise."""

    def __init__(self, terms: Terms, config: LeagueConfig, folder: Path) -> None:
        super().__init__(terms)
        self._config, self._folder = config, folder

    def out(self, parcel: Parcel) -> None:
        """Take the integers that `SecaggSite.share_noise` made; none are made here, where nothing is charged."""
        terms, folder = self.terms, self._folder
        parcel.values = noisy_integers(
            self._config, parcel.values, terms.attempt, folder, terms.site, nobody_pays
        )

    def back(self, parcel: Parcel) -> None:
        if not enough_noise(self._config, len(parcel.survivors)):
            raise WireError("the sum holds too little noise", where=self.terms.where)
        super().back(parcel)


def site_steps(
    terms: Terms, config: LeagueConfig, folder: Path, keys: SiteKeys, masking: Masking
) -> list[Step]:
    """All steps of a site's protection, in the order in which they're applied to an update."""
    steps: list[Step] = []
    for name in STEPS[terms.rounds.protection]:
        if name == "mask":
            steps.append(Mask(terms, masking))
        elif name == "encrypt":
            steps.append(Encrypt(terms, keys))
        elif name == "sign":
            steps.append(Sign(terms, keys, config.digest()))
        elif name == "quantise" and config.privacy.mode in SHARES_NOISE:
            steps.append(ShareNoise(terms, config, folder / UPDATES))
        else:
            steps.append(OPEN_STEPS[name](terms))
    return steps
