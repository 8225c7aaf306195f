"""Steps of an update's way that need a site's secrets: mask, encrypt, sign; `common.secagg.pipeline` has the others.

Invariant: each undoes on a sum what it did on an update: signatures become a look at what the site itself signed,
ciphertexts are decrypted, and masks have cancelled or were taken out by the coordinator.
"""

from __future__ import annotations

from pathlib import Path

from clients.secagg.keys import SiteKeys
from clients.secagg.masking import Masking
from clients.secagg.shared_noise import nobody_pays, noisy_integers
from common.crypto.container import seal_container
from common.errors import WireError
from common.privacy.shared_noise import enough_noise
from common.secagg.pipeline import OPEN_STEPS, STEPS, Parcel, Quantise, Step, Terms
from common.secagg.protocol import upload_facts, values_of
from common.settings.config import LeagueConfig

UPDATES = "updates"  # the folder of what was made for a round


class Mask(Step):
    """Hide words under masks that cancel in the sum, and seal their seeds' shares to the others."""

    def __init__(self, terms: Terms, masking: Masking) -> None:
        super().__init__(terms)
        self._masking = masking

    def out(self, parcel: Parcel) -> None:
        parcel.values, parcel.shares = self._masking.mask(parcel.values, self.terms.attempt)

    def back(self, parcel: Parcel) -> None:
        """The coordinator took the masks out that didn't cancel; it can't do so for a set this site didn't sign."""
        if self.terms.site in self.terms.attempt.weights:
            self._masking.require_signed(self.terms.attempt, list(parcel.survivors))


class Encrypt(Step):
    """Ciphertexts under the league's key of the attempt's epoch."""

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
    """One signed container; a sum comes without one, since each site checks by its own key what it holds."""

    def __init__(self, terms: Terms, keys: SiteKeys, run: str) -> None:
        super().__init__(terms)
        self._keys, self._run = keys, run

    def out(self, parcel: Parcel) -> None:
        terms, values = self.terms, parcel.values
        parts = values if isinstance(values, list) else [values.astype("<u8").tobytes()]
        facts = upload_facts(self._run, terms.rounds, terms.layout, terms.attempt, terms.site)
        parcel.values = seal_container(facts, [*parts, *parcel.shares], self._keys.sign)

    def back(self, parcel: Parcel) -> None:
        """Nothing to undo."""


class ShareNoise(Quantise):
    """Whole numbers with the site's part of noise that sites share; back: a sum of too few parts is refused."""

    def __init__(self, terms: Terms, config: LeagueConfig, folder: Path) -> None:
        super().__init__(terms)
        self._config, self._folder = config, folder

    def out(self, parcel: Parcel) -> None:
        """The integers that `SealedSite.share_noise` has made; none are made here, where nobody has paid."""
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
    """All steps of a site's protection, on the way out."""
    made: list[Step] = []
    for name in STEPS[terms.rounds.protection]:
        if name == "mask":
            made.append(Mask(terms, masking))
        elif name == "encrypt":
            made.append(Encrypt(terms, keys))
        elif name == "sign":
            made.append(Sign(terms, keys, config.digest()))
        elif name == "quantise" and config.privacy.mode == "distributed":
            made.append(ShareNoise(terms, config, folder / UPDATES))
        else:
            made.append(OPEN_STEPS[name](terms))
    return made
