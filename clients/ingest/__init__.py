"""From a site's folder to checked tables and pictures, with every fault named."""

from clients.ingest.images import ImageStore, decode_array, decode_image
from clients.ingest.into_vault.ingest import IngestReport, ingest_site, read_vault
from clients.ingest.site import SiteData, read_site, read_site_info

__all__ = [
    "ImageStore",
    "IngestReport",
    "SiteData",
    "decode_array",
    "decode_image",
    "ingest_site",
    "read_site",
    "read_site_info",
    "read_vault",
]
