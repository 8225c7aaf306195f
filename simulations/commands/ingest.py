"""`hansa ingest`: a site's folder goes clean, masked and under pseudonyms into its vault."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated

import typer

from common.runtime.progress import RoundProgress
from simulations.arguments import PROMPT, KeyOption, PassphraseOption, QuietOption, SiteFolderArgument
from simulations.output import Format, FormatOption, note, output_of, table


def ingest(
    context: typer.Context,
    site_folder: SiteFolderArgument,
    vault: Annotated[Path, typer.Option(help="The vault's folder; hansa vault init makes one.")],
    key: KeyOption = None,
    passphrase: PassphraseOption = PROMPT,
    denoise: Annotated[
        bool, typer.Option("--denoise", help="Smooth the noise of pictures by a median.")
    ] = False,
    side: Annotated[
        int, typer.Option(min=32, max=2048, help="Shorter side of a stored picture, pixels.")
    ] = 256,
    quiet: QuietOption = False,
    form: FormatOption = Format.text,
) -> None:
    """Example: `hansa ingest my-shop --vault my-shop-vault`

    Run it again whenever the folder has changed: only what is new is sealed. A killed run goes on where it was.
    """
    from clients.ingest.into_vault.ingest import ingest_site
    from clients.ingest.pictures import PictureSettings
    from clients.vault import PassphraseSource, Vault, unlock

    role = unlock(key or vault / "keys" / "owner.key", PassphraseSource.parse(passphrase))
    settings = PictureSettings(side, "median" if denoise else "none")
    with Vault.open(vault, role) as store, RoundProgress("silent" if quiet else "auto") as progress:
        phases: list[str] = []

        def say(phase: str, share: float) -> None:
            if phase not in phases:
                phases.append(phase)
                progress.start(phase, 100)
            progress.step(round(100 * share))

        began = time.perf_counter()
        report = ingest_site(site_folder, store, say, settings, scratch=vault)
        seconds = time.perf_counter() - began
    rows = [*((f"rows of {name}", count) for name, count in report.rows.items()), ("pictures", report.pictures),
            ("pictures refused", report.pictures_refused), ("events repeated", report.repeats),
            ("clocks mended", report.clocks_mended), ("rows or values refused", report.complaints),
            *((f"masked: {kind}", count) for kind, count in sorted(report.masked.items())),
            ("objects written", report.written), ("unchanged since last time", "yes" if report.unchanged else "no"),
            ("content digest", report.digest[:16]), ("seconds", seconds)]  # fmt: skip
    document = dataclasses.asdict(report) | {"ingest_s": seconds}
    if report.complaints:
        note(
            f"{report.complaints} rows or values were refused: hansa quality {site_folder} --out DIR names them."
        )
    output_of(context).result(form, document, lambda screen: screen.print(table(("ingest", ""), rows)))
