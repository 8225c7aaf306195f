"""Site folders that exist already: each subfolder with a `site.toml` is a site, used where it lies.

Invariant: nothing is written.
"""

from __future__ import annotations

from pathlib import Path

from clients.ingest import read_site_info
from common.errors import ConfigError, InputError
from common.schema import did_you_mean
from simulations.connectors.base import ConnectorOptions, Options, SiteRef, parse_options


class FolderOptions(ConnectorOptions):
    """Settings of the connector. `held_out`: names of sites to leave out of training, separated by commas."""

    held_out: str = ""


class FoldersConnector:
    """Finds the sites under a folder."""

    name = "folders"

    def write_sites(self, path: Path | None, out: Path, sites_by: str, options: Options) -> list[SiteRef]:
        """See `Connector`; sites come in the order of their folders' names, and `out` is left alone.

        Raises
        ------
        ConfigError : `sites_by` is given, a `site.toml` can't be used, or a held-out site isn't there.
        InputError : there is no site, or two have the same name.
        """
        chosen = parse_options(FolderOptions, options, self.name)
        if sites_by:
            raise ConfigError(
                "sites_by has no meaning for site folders", where="sites_by", next_step="leave it out"
            )
        if path is None or not path.is_dir():
            raise InputError(
                "not a folder", where=str(path or ""), next_step="name the folder that holds the sites"
            )
        held_out = {name.strip() for name in chosen.held_out.split(",") if name.strip()}
        refs: dict[str, SiteRef] = {}
        for folder in [path, *sorted(path.iterdir())]:
            if not (folder / "site.toml").is_file():
                continue
            info = read_site_info(folder)
            if info.name in refs:
                raise InputError(
                    f"two sites are named '{info.name}'",
                    where=f"{refs[info.name].folder} and {folder}",
                    next_step="rename one in its site.toml",
                )
            refs[info.name] = SiteRef(
                info.name, info.title, folder, info.language, info.region, info.name in held_out
            )
        if not refs:
            raise InputError(
                "no site folder", where=str(path), why="no subfolder holds a site.toml", next_step="add one"
            )
        if missing := sorted(held_out - set(refs)):
            raise ConfigError(
                f"no site is named '{missing[0]}'", where="held_out", next_step=did_you_mean(missing[0], refs)
            )
        return list(refs.values())
