"""`hansa vault log`: who opened, wrote, was refused, granted or erased what; and heads of the log to keep elsewhere.

Invariant: nothing is shown before the whole chain was verified. No key is needed: the log holds no secrets, and the
public keys that may have signed it are in `vault.json`.
"""

from __future__ import annotations

import re
from typing import Annotated

import typer

from clients.vault.facts import VaultFacts
from clients.vault.store import FACTS_FILE, LOG_FILE
from common.audit import Entry, Receipt, verify
from common.crypto.keys import signer_id
from common.errors import ConfigError
from simulations.arguments import VaultArgument
from simulations.output import Format, FormatOption, note, output_of, table

_RECEIPT = re.compile(r"(\d{1,12}):([0-9a-f]{64})")
ReceiptOption = Annotated[
    str,
    typer.Option("--receipt", help="A head of the log that was kept elsewhere: the log must still hold it."),
]


def log(
    context: typer.Context,
    folder: VaultArgument,
    last: Annotated[int, typer.Option(min=1, help="How many entries to show, from the end.")] = 50,
    kind: Annotated[str, typer.Option(help="Only entries of this kind, such as refused or erase.")] = "",
    receipt: ReceiptOption = "",
    form: FormatOption = Format.text,
) -> None:
    """Example: `hansa vault log shop/vault --kind refused`

    Verifies the vault's log from its first entry and shows the last ones. Needs no key. Keep the printed head somewhere
    else: given as --receipt later, it proves that nothing was cut off.
    """
    facts = VaultFacts.read(folder / FACTS_FILE)
    entries = verify(folder / LOG_FILE, facts.log_signers(), parse_receipt(receipt))
    names = {signer_id(public.signing): role for role, public in facts.roles.items()}
    chosen = [entry for entry in entries if not kind or entry.kind == kind][-last:]
    rows = [
        (entry.n, entry.at, names.get(entry.by, f"{entry.by} (before)"), entry.kind, _told(entry))
        for entry in chosen
    ]
    document = [{"n": n, "at": at, "by": by, "kind": kind_of_entry, "facts": entry.facts}
                for (n, at, by, kind_of_entry, _), entry in zip(rows, chosen, strict=True)]  # fmt: skip
    output_of(context).result(
        form, document, lambda screen: screen.print(table(("n", "at", "by", "kind", "facts"), rows))
    )
    if entries:
        note(f"{len(entries)} entries, whole. Head: {entries[-1].n}:{entries[-1].hash}")


def parse_receipt(text: str) -> Receipt | None:
    """Read a head in the form that `log` prints; None for an empty text.

    Raises
    ------
    ConfigError : the text isn't a head.
    """
    if not text:
        return None
    match = _RECEIPT.fullmatch(text.strip())
    if match is None:
        raise ConfigError(
            "this is no head of a log",
            where="--receipt",
            next_step="give it as hansa vault log prints it, NUMBER:HASH",
        )
    return Receipt(int(match[1]), match[2])


def _told(entry: Entry) -> str:
    return ", ".join(f"{name}={value}" for name, value in entry.facts.items())
