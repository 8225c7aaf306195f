"""The project file that makes a folder, or a bundle, a Flower app."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Components:
    """An app's name, and its two parts as ``module:object``."""

    name: str
    serverapp: str
    clientapp: str


HANSA = Components("hansa", "server.app:app", "clients.app:app")


def project_file(components: Components, run_config: Mapping[str, str | int | float | bool]) -> str:
    """The content of `pyproject.toml`."""
    settings = "\n".join(f"{key} = {json.dumps(value)}" for key, value in run_config.items())
    return (
        f'[project]\nname = "{components.name}"\nversion = "0.1.0"\ndescription = ""\nlicense = "Apache-2.0"\n'
        'dependencies = []\n\n[tool.flwr.app]\npublisher = "hansa"\nfab-include = ["**/*.py"]\n\n'
        f'[tool.flwr.app.components]\nserverapp = "{components.serverapp}"\nclientapp = "{components.clientapp}"\n\n'
        f"[tool.flwr.app.config]\n{settings}\n"
    )
