"""Anonymising: pseudonyms for user ids, masks for direct identifiers in text, and k-anonymity."""

from clients.anonymise.identifiers import KINDS, mask
from clients.anonymise.k_anonymity import anonymity, band_ages, cut_postcodes, generalise
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
