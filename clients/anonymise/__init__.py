"""User ids become pseudonyms, direct identifiers in text are masked, and the crowd one hides in is counted."""

from clients.anonymise.crowd import anonymity, band_ages, cut_postcodes, generalise
from clients.anonymise.identifiers import KINDS, mask
from clients.anonymise.pseudonyms import KEY_BYTES, Pseudonyms

__all__ = [
    "KEY_BYTES",
    "KINDS",
    "Pseudonyms",
    "anonymity",
    "band_ages",
    "cut_postcodes",
    "generalise",
    "mask",
]
