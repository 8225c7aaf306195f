"""`hansa vault …`: make a site's vault, list and verify it, change who may read what, and erase a person.

Invariant: no secret is ever an argument, since command lines are visible to others and stay in shell histories.
Passphrases come from a prompt, a file or a file descriptor; the person to erase from a file or the standard input.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from clients.vault import ROLES, PassphraseSource, RoleKey, Vault, rights_of, unlock
from clients.vault.admin import export as export_object
from clients.vault.admin import grant as grant_kind
from clients.vault.admin import revoke as revoke_kind
from clients.vault.admin import rotate as rotate_role
from clients.vault.admin import verify_vault
from clients.vault.erase import read_receipt
from clients.vault.roles import KINDS, known_role
from clients.vault.store import FACTS_FILE
from common.crypto.keys import lock
from common.errors import ConfigError, InputError
from common.schema import parse_site_info
from simulations.arguments import PROMPT, KeyOption, PassphraseOption, VaultArgument
from simulations.deployment.commands.vault_log import ReceiptOption, log, parse_receipt
from simulations.output import Format, FormatOption, note, output_of, table

DAMAGED = 8
app = typer.Typer(
    help="Example: `hansa vault init shop/vault`\n\nA site's encrypted store.", no_args_is_help=True
)

RoleArgument = Annotated[str, typer.Argument(help="trainer, analyst or auditor.")]
KindArgument = Annotated[str, typer.Argument(help=", ".join(KINDS))]


@app.command(short_help="Make a vault and a key file per role.")
def init(
    context: typer.Context, folder: VaultArgument,
    site: Annotated[Path | None, typer.Option(help="site.toml, whose [vault.roles] says who may what.")] = None,
    keys: Annotated[Path | None, typer.Option(help="Where key files go; FOLDER/keys unless given.")] = None,
    passphrase: PassphraseOption = PROMPT, form: FormatOption = Format.text,
) -> None:  # fmt: skip
    """Example: `hansa vault init shop/vault --site shop/site.toml`

    Makes a vault and a key file for each role. Give each role its file, and keep the owner's elsewhere.
    """
    rights = rights_of(_roles_table(site))
    target, source = keys or folder / "keys", PassphraseSource.parse(passphrase)
    if (folder / FACTS_FILE).exists():
        raise InputError("there is a vault already", where=str(folder), next_step="choose another folder")
    if any((target / f"{role}.key").exists() for role in ROLES):
        raise InputError(
            "there are keys already", where=str(target), next_step="choose another folder with --keys"
        )
    secrets = {role: source.read(f"New passphrase of role {role}", confirm=True) for role in ROLES} \
        if source.kind == PROMPT else dict.fromkeys(ROLES, source.read(""))  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    role_keys = {role: RoleKey.generate(role) for role in ROLES}
    for role, key in role_keys.items():
        lock(target / f"{role}.key", key, secrets[role])
    with Vault.create(
        folder, role_keys["owner"], {role: key.public() for role, key in role_keys.items()}, rights
    ) as vault:
        document = {"vault": folder, "id": vault.facts.id, "keys": [target / f"{role}.key" for role in ROLES]}
    _tell(context, form, document)
    if source.kind != PROMPT:
        note("All four keys have this passphrase: give each role one of its own with hansa vault rotate.")


@app.command(short_help="List names and sizes.")
def ls(
    context: typer.Context, folder: VaultArgument,
    kind: Annotated[str, typer.Argument(help="One kind; all that the role may read unless given.")] = "",
    key: KeyOption = None, passphrase: PassphraseOption = PROMPT, form: FormatOption = Format.text,
) -> None:  # fmt: skip
    """Example: `hansa vault ls shop/vault images`

    Lists names and sizes.
    """
    with _open(folder, key, passphrase) as vault:
        mine = KINDS if vault.role == "owner" else tuple(vault.facts.rights.get(vault.role, {}))
        rows = [
            {"kind": kind_name, "name": name, "bytes": vault.size(kind_name, name)}
            for kind_name in ([kind] if kind else mine)
            for name in vault.names(kind_name)
        ]
    output_of(context).result(
        form, rows,
        lambda screen: screen.print(table(("kind", "name", "bytes"), [tuple(row.values()) for row in rows])),
    )  # fmt: skip


@app.command(short_help="Let a role read or write a kind.")
def grant(
    context: typer.Context, folder: VaultArgument, role: RoleArgument, kind: KindArgument,
    write: Annotated[bool, typer.Option("--write", help="Let it write too.")] = False,
    key: KeyOption = None, passphrase: PassphraseOption = PROMPT, form: FormatOption = Format.text,
) -> None:  # fmt: skip
    """Example: `hansa vault grant shop/vault analyst reviews`

    Lets a role read a kind. Headers are rewritten, content isn't.
    """
    with _open(folder, key, passphrase) as vault:
        changed = grant_kind(vault, role, kind, write=write)
    _tell(context, form, {"role": role, "kind": kind, "right": "rw" if write else "r", "headers": changed})


@app.command(short_help="Take a kind from a role; seals it anew.")
def revoke(
    context: typer.Context, folder: VaultArgument, role: RoleArgument, kind: KindArgument,
    key: KeyOption = None, passphrase: PassphraseOption = PROMPT, form: FormatOption = Format.text,
) -> None:  # fmt: skip
    """Example: `hansa vault revoke shop/vault analyst reviews`

    Takes a kind from a role and seals its content anew.
    """
    with _open(folder, key, passphrase) as vault:
        changed = revoke_kind(vault, role, kind)
    _tell(context, form, {"role": role, "kind": kind, "right": "none", "sealed_anew": changed})


@app.command(short_help="Give a role new keys.")
def rotate(
    context: typer.Context, folder: VaultArgument, role: RoleArgument,
    new_key: Annotated[Path, typer.Option(help="Where the new key file goes; if it exists, it is used.")],
    new_passphrase: Annotated[str, typer.Option(help="prompt, file:PATH or fd:NUMBER.")] = PROMPT,
    key: KeyOption = None, passphrase: PassphraseOption = PROMPT, form: FormatOption = Format.text,
) -> None:  # fmt: skip
    """Example: `hansa vault rotate shop/vault trainer --new-key trainer-2.key`

    Gives a role new keys. Headers are rewritten, content isn't. Delete the old key file afterwards.
    """
    known_role(role)
    with _open(folder, key, passphrase) as vault:
        source = PassphraseSource.parse(new_passphrase)
        if new_key.exists():
            fresh = unlock(new_key, source, role=role)
        else:
            fresh = RoleKey.generate(role)
            lock(new_key, fresh, source.read(f"New passphrase of role {role}", confirm=True))
        changed = rotate_role(vault, fresh)
    _tell(context, form, {"role": role, "key": new_key, "headers": changed})


@app.command(short_help="Open every object and check the log.")
def verify(
    context: typer.Context, folder: VaultArgument,
    key: KeyOption = None, passphrase: PassphraseOption = PROMPT, receipt: ReceiptOption = "",
    form: FormatOption = Format.text,
) -> None:  # fmt: skip
    """Example: `hansa vault verify shop/vault`

    Opens every object and checks the log. Exit code 8 where something is damaged.
    """
    head = parse_receipt(receipt)
    with _open(folder, key, passphrase) as vault:
        verdict = verify_vault(vault, head)
    _tell(context, form, dataclasses.asdict(verdict) | {"ok": verdict.ok})
    if not verdict.ok:
        raise typer.Exit(DAMAGED)


app.command(short_help="Who opened, wrote or was refused what.")(log)


@app.command(short_help="Write one object in clear.")
def export(
    context: typer.Context, folder: VaultArgument, kind: KindArgument,
    name: Annotated[str, typer.Argument(help="The object's name, as ls shows it.")],
    to: Annotated[Path, typer.Option(help="The file to write, in clear.")],
    key: KeyOption = None, passphrase: PassphraseOption = PROMPT, form: FormatOption = Format.text,
) -> None:  # fmt: skip
    """Example: `hansa vault export shop/vault products products.parquet --to products.parquet`

    Writes one object in clear, for its owner's own use.
    """
    with _open(folder, key, passphrase) as vault:
        count = export_object(vault, kind, name, to)
    _tell(context, form, {"file": to, "bytes": count})


@app.command("erase-user", short_help="Remove one person, with a signed receipt.")
def erase_user(
    context: typer.Context, folder: VaultArgument,
    who: Annotated[
        Path, typer.Option(help="A file with the person's user id as the shop knows it; - reads standard input.")
    ] = Path("-"),
    pseudonym: Annotated[
        bool, typer.Option("--pseudonym", help="The file names the person as the vault does, by pseudonym.")
    ] = False,
    key: KeyOption = None, passphrase: PassphraseOption = PROMPT, form: FormatOption = Format.text,
) -> None:  # fmt: skip
    """Example: `hansa vault erase-user shop/vault --who id.txt`

    Removes one person's rows, features and own pictures, and writes a signed receipt, which also says what can't be
    undone. The raw folder is yours: remove the person there too.
    """
    from clients.ingest.into_vault.forget import forget, pseudonym_of

    identity = _first_line(who)
    with _open(folder, key, passphrase) as vault:
        receipt = forget(vault, identity if pseudonym else pseudonym_of(vault, identity))
        removed = read_receipt(receipt, vault.key.signing.public_key()).rows
    _tell(context, form, {"receipt": receipt} | {f"removed_{kind}": count for kind, count in removed.items()})
    if not any(count for kind, count in removed.items() if kind != "features"):
        note("Nothing of that person was in the vault.")


def _open(folder: Path, key: Path | None, passphrase: str) -> Vault:
    return Vault.open(
        folder, unlock(key or folder / "keys" / "owner.key", PassphraseSource.parse(passphrase))
    )


def _tell(context: typer.Context, form: Format, document: dict[str, Any]) -> None:
    rows: Sequence[tuple[str, object]] = [(name, _cell(value)) for name, value in document.items()]
    output_of(context).result(form, document, lambda screen: screen.print(table(("", ""), rows)))


def _cell(value: object) -> str:
    return "\n".join(map(str, value)) or "none" if isinstance(value, (list, tuple)) else str(value)


def _roles_table(site: Path | None) -> dict[str, Any]:
    if site is None:
        return {}
    try:
        data = tomllib.loads(site.read_text(encoding="utf-8"))
    except OSError as fault:
        raise ConfigError("site.toml can't be read", where=str(site), why=str(fault.strerror)) from None
    except ValueError as fault:
        raise ConfigError("site.toml can't be parsed", where=str(site), why=str(fault)) from None
    return dict(parse_site_info(data, where=str(site)).vault.roles)


def _first_line(source: Path) -> str:
    try:
        text = sys.stdin.readline() if os.fspath(source) == "-" else source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise InputError("the person's id can't be read", where=str(source)) from None
    if not (line := text.split("\n", 1)[0].strip()):
        raise InputError(
            "no id was given", where="the standard input" if os.fspath(source) == "-" else str(source),
            next_step="write the person's user id into a file and name it with --who",
        )  # fmt: skip
    return line
