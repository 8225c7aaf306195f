"""From a site's folder to checked tables and pictures, with every fault named."""

from clients.ingest.images import ImageStore, decode_array, decode_image
from clients.ingest.site import SiteData, read_site, read_site_info

__all__ = ["ImageStore", "SiteData", "decode_array", "decode_image", "read_site", "read_site_info"]
