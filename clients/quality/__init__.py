"""The quality of a site's data: faults per modality, limits from `site.toml`, a report for people and one for CI."""

from clients.quality.assess import Check, Quality, assess
from clients.quality.page import write_quality
from clients.quality.spread import embedding_spread

__all__ = ["Check", "Quality", "assess", "embedding_spread", "write_quality"]
