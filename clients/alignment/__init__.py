"""What of a site belongs together: events and reviews in time, texts and pictures in meaning, words and regions."""

from clients.alignment.align import Alignment, align
from clients.alignment.page import write_alignment

__all__ = ["Alignment", "align", "write_alignment"]
