"""A kit's files beside its keys: start script, systemd unit, compose file, Dockerfile, and a guide in two languages.

Invariant: these files are for people and for the programs that start Hansa. They hold no secret and no path of the
machine on which they were written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509
from jinja2 import Environment, PackageLoader, StrictUndefined

from common.files import write_whole
from common.provision import kit_files
from common.settings.config import LeagueConfig
from simulations.deployment.plan import LeaguePlan

_PAGES = Environment(
    loader=PackageLoader("simulations.deployment"),
    undefined=StrictUndefined,
    autoescape=False,  # noqa: S701 — scripts and Markdown, from checked names
    keep_trailing_newline=True,
)


def site_papers(kit: Path, plan: LeaguePlan, name: str) -> None:
    """Write a site's papers into its kit, and its guides beside the kit's archive too."""
    party = next(entry for entry in plan.site if entry.name == name)
    ends = x509.load_pem_x509_certificate(
        (kit / kit_files.CLIENT_CERTIFICATE).read_bytes()
    ).not_valid_after_utc
    facts = _facts(plan, name) | {
        "site": True, "unit": "hansa-site.service", "service": "site", "own_keys": bool(party.request),
        "ends": str(ends.date()),
    }  # fmt: skip
    _write(kit, facts, "site")


def coordinator_papers(kit: Path, plan: LeaguePlan) -> None:
    """Write the coordinator's papers into its kit."""
    facts = {"site": False, "unit": "hansa-coordinator.service", "service": "coordinator"}
    _write(kit, _facts(plan, "coordinator") | facts, "coordinator")


def _facts(plan: LeaguePlan, name: str) -> dict[str, Any]:
    place, settings = plan.coordinator, plan.settings
    return {
        "name": name, "league": settings.name, "reached": f"{place.addresses[0]}:{place.port}", "port": place.port,
        "archive": f"{name}.kit.tar.gz", "protection": settings.rounds.protection,
        "privacy": _privacy(settings)[0], "privacy_zh": _privacy(settings)[1],
    }  # fmt: skip


def _privacy(settings: LeagueConfig) -> tuple[str, str]:
    private = settings.privacy
    if private.mode == "off":
        return "and that differential privacy is off", "差分隐私关闭"
    return (
        f"and what each of your users is promised (ε = {private.epsilon:g} for one run)",
        f"对每位用户的承诺（每次训练 ε = {private.epsilon:g}）",
    )


def _write(kit: Path, facts: dict[str, Any], kind: str) -> None:
    pages = {
        "start.sh": "start.sh", facts["unit"]: "unit.service", "compose.yaml": "compose.yaml",
        "Dockerfile": "Dockerfile", "GUIDE.md": f"guide.{kind}.en.md", "GUIDE.zh.md": f"guide.{kind}.zh.md",
    }  # fmt: skip
    for name, template in pages.items():
        text = _PAGES.get_template(f"{template}.jinja").render(facts)
        write_whole(kit / name, text.encode())
        if name.startswith("GUIDE"):
            beside = kit.parents[1] if kind == "site" else kit.parent
            write_whole(beside / f"{facts['name']}.{name}", text.encode())
    (kit / "start.sh").chmod(0o700)
