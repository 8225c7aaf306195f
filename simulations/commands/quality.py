"""`hansa quality`: judge a site's data, for people and for CI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.errors import InputError
from common.runtime.progress import RoundProgress
from simulations.arguments import QuietOption, SiteFolderArgument
from simulations.output import Format, FormatOption, note, output_of, table

FAILED = 1


def quality(
    context: typer.Context,
    site_folder: SiteFolderArgument,
    out: Annotated[
        Path, typer.Option(help="Folder for quality.html and quality.json; it shows the shop's data.")
    ],
    alignment: Annotated[
        bool, typer.Option("--alignment", help="Also write alignment.html: what belongs to what.")
    ] = False,
    quiet: QuietOption = False,
    form: FormatOption = Format.text,
) -> None:
    """Example: `hansa quality my-shop --out reports/my-shop --alignment`

    Looks for faults in reviews, pictures and logs. Limits stand under [quality] in site.toml; ends with 1 where one is
    passed.
    """
    from clients.alignment import align, write_alignment
    from clients.data.source import open_house
    from clients.ingest import read_site_info
    from clients.quality import assess, embedding_spread, write_quality
    from clients.quality.anonymity import crowd_figures
    from clients.quality.page import as_document

    info = read_site_info(site_folder)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise InputError(
            "the reports' folder can't be made", where=str(out), why=str(fault.strerror),
            next_step="name another folder with --out",
        ) from None  # fmt: skip
    with open_house(site_folder) as house, RoundProgress("silent" if quiet else "auto") as progress:
        data = house.data
        progress.start("pictures", len(data.images.names()))
        figures = embedding_spread(data, house.features) | crowd_figures(site_folder, info)
        assessment = assess(
            data, info.quality, lambda done, total: progress.step(done) if done % 500 == 0 else None, figures
        )
        pages = [write_quality(assessment, data.images, out)[0]]
        if alignment:
            progress.start("alignment", data.products.height)
            aligned = align(data, house.features, lambda done, total: progress.step(done))
            pages.append(write_alignment(aligned, data.images, out)[0])
    rows = [
        (c.name, c.count, c.of, c.share, c.limit, "passed" if c.passed else "FAILED")
        for c in assessment.checks
    ]
    headings = ("check", "found", "of", "share", "limit", "verdict")
    output_of(context).result(
        form, as_document(assessment), lambda screen: screen.print(table(headings, rows))
    )
    for page in pages:
        note(f"Report: {page}")
    if not assessment.passed:
        raise typer.Exit(FAILED)
