"""The options of `hansa simulate` as one frozen object.

Invariant: no file is read here. Settings of the league (`overrides`) and of the data source (`data_overrides`) are
separated once, in `parse_set`, and validated by the models to which they belong.

>>> parse_set(["rounds.count=3", "data.users_per_site=40", "model.image=false"])
({'rounds.count': 3, 'model.image': False}, {'users_per_site': 40})
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from common.errors import ConfigError

DataSource = Literal["bazaar", "hm", "completejourney", "ml100k", "folders"]
Engine = Literal["local", "pool", "ray"]
Encoders = Literal["frozen", "scratch"]
Preset = Literal["thin", "rich"]
Setting = str | int | float | bool | list[str]


@dataclass(frozen=True)
class SimulateOptions:
    """One run, as asked for on the command line.

    Parameters
    ----------
    data : where the sites come from; "bazaar" needs no data.
    path : folder of the data source; None where it needs none.
    sites_by : column whose values part the data into sites; empty for the source's own choice.
    run : the run folder to write; it must not hold a run yet.
    engine : this process, a pool of processes, or Flower's own engine on Ray.
    workers : processes of the pool; 0 for one per core.
    address : host:port of a Ray cluster that is up; empty for Ray on this machine.
    rounds, seed, encoders : None keeps the settings' own value.
    preset : size of the bazaar's merchants; None for its default.
    config : settings file (TOML or JSON) that the options above override.
    overrides : dotted settings, e.g. ``{"training.epochs_per_round": 2}``; they win over everything else.
    data_overrides : knobs of the data source, e.g. ``{"users_per_site": 40}``.
    test_day : ISO date of the day to test on; empty for the data source's own split.
    ablation : also measure each modality left out.
    compare : also train local-only and centralised models and fit the baselines.
    report : write report.html at the end.
    dry_run : plan only; train nothing and write nothing.
    quiet : no progress display.
    """

    run: Path
    data: DataSource = "bazaar"
    path: Path | None = None
    sites_by: str = ""
    engine: Engine = "local"
    workers: int = 0
    address: str = ""
    rounds: int | None = None
    seed: int | None = None
    encoders: Encoders | None = None
    preset: Preset | None = None
    config: Path | None = None
    overrides: Mapping[str, Setting] = field(default_factory=dict)
    data_overrides: Mapping[str, Setting] = field(default_factory=dict)
    test_day: str = ""
    ablation: bool = False
    compare: bool = True
    report: bool = True
    dry_run: bool = False
    quiet: bool = False


def parse_set(assignments: Sequence[str]) -> tuple[dict[str, Setting], dict[str, Setting]]:
    """Split ``key=value`` assignments into settings and knobs of the data source (those that begin with ``data.``).

    A value is read as JSON where it is JSON (``3``, ``0.5``, ``true``, ``["a"]``), else as plain text.

    Raises
    ------
    ConfigError : an assignment has no ``=`` or no key.
    """
    settings: dict[str, Setting] = {}
    knobs: dict[str, Setting] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigError(
                f"'{assignment}' is no assignment",
                where="--set",
                next_step="write key=value, e.g. rounds.count=3",
            )
        if key.startswith("data."):
            knobs[key.removeprefix("data.")] = _value(text)
        else:
            settings[key] = _value(text)
    return settings, knobs


def _value(text: str) -> Setting:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, (str, int, float, bool, list)) else text
