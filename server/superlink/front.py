"""What stands between the sites and the SuperLink: the plain guard, or nginx with a configuration made here.

Invariant: whichever it is, it asks for client certificates, refuses revoked ones, opens the same few routes, and tells
the SuperLink which certificate was shown.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from common.errors import MachineError, RunError
from common.files import read_json, write_whole
from common.provision import kit_files
from common.provision.door import CERTIFICATE, MOST_BODY_BYTES, REFUSED, ROUTES, Refusal
from common.runtime.processes import Child

Front = Literal["guard", "nginx", "none"]
FRONTS: dict[str, Front] = {"guard": "guard", "nginx": "nginx", "none": "none"}


def listens_on(kit: Path) -> tuple[str, int]:
    """Host and port that the kit says sites reach.

    Raises
    ------
    RunError : the kit is damaged.
    """
    record = read_json(kit / kit_files.COORDINATOR)
    try:
        return str(record["listen"]), int(record["port"])
    except (KeyError, TypeError, ValueError):
        raise RunError("the coordinator's kit is damaged", where=kit_files.COORDINATOR) from None


def start_front(kit: Path, superlink: str, how: Front, logs: Path) -> Child | None:
    """Start it and wait until it listens; nothing for "none", when nginx runs as a service of the machine's own.

    Raises
    ------
    MachineError : it didn't start.
    """
    host, port = listens_on(kit)
    if how == "none":
        return None
    if how == "guard":
        arguments = [
            "-m",
            "server.superlink.proxy",
            "--kit",
            str(kit),
            "--listen",
            f"{host}:{port}",
            "--superlink",
            superlink,
        ]
        child = Child.start("guard", arguments, logs / "guard.log")
    else:
        path = kit / "private" / "nginx.conf"
        write_whole(path, nginx_config(kit, superlink).encode())
        child = Child.start("nginx", [nginx_program(), "-c", str(path), "-p", str(kit)], logs / "guard.log")
    child.await_port(port, host="127.0.0.1" if host == "0.0.0.0" else host)  # noqa: S104 — compared, not bound
    return child


def nginx_program() -> str:
    """Where nginx is.

    Raises
    ------
    MachineError : this machine has none.
    """
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        raise MachineError(
            "there is no nginx here", where="PATH",
            next_step="install the package nginx-light, or use the plain guard: --front guard",
        )  # fmt: skip
    return program


def nginx_config(kit: Path, superlink: str) -> str:
    """A whole configuration for nginx, to be run in the foreground by whoever starts the coordinator."""
    host, port = listens_on(kit)
    codes = (
        "certificate_missing", "certificate_unknown", "certificate_expired", "certificate_revoked", "route",
        "too_large",
    )  # fmt: skip
    refused = {code: Refusal(code) for code in codes}
    pages = Environment(
        loader=PackageLoader("server.superlink"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 — a configuration, from our own values
        keep_trailing_newline=True,
    )
    return pages.get_template("nginx.conf.jinja").render(
        kit=kit.resolve(), listen=f"{host}:{port}", superlink=superlink, routes=sorted(ROUTES),
        most_mib=MOST_BODY_BYTES >> 20, certificate=CERTIFICATE, refused_header=REFUSED,
        refusals={code: each.body().decode().replace("'", "\\'") for code, each in refused.items()},
    )  # fmt: skip
