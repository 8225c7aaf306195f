"""Alignment of a site's data: reviews with events in time, texts with pictures by meaning, words with regions."""

from clients.alignment.align import Alignment, align
from clients.alignment.page import write_alignment

__all__ = ["Alignment", "align", "write_alignment"]
