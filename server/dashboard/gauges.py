"""The same figures for Prometheus, computed when it asks.

Invariant: names carry their unit, as Prometheus asks for; a figure that isn't known is left out.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.dashboard.overview import Overview

PHASES = ("starting", "training", "evaluating", "finished", "interrupted", "stopped", "failed")


def exposition(view: Overview) -> bytes:
    """The text that Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(_OneLook(view))
    return generate_latest(registry)


class _OneLook(Collector):
    def __init__(self, view: Overview) -> None:
        self._found = view

    def collect(self) -> Iterable[Metric]:
        """All figures of one look at the run."""
        yield from _of_run(self._found)
        yield from _of_sites(self._found)


def _of_run(view: Overview) -> Iterable[Metric]:
    last = view["history"][-1] if view["history"] else {}
    plain = (
        ("hansa_rounds_done", "Rounds that lie on the disk", view["round"]),
        ("hansa_rounds_planned", "Rounds that the contract names", view["rounds"]),
        ("hansa_loss", "Mean training loss of the last round", view["loss"]),
        ("hansa_validation_ndcg_at_20", "Mean of the sites in the last round", view["metric"]),
        ("hansa_left_seconds", "Time until the last round, as it goes", view["left_s"]),
        ("hansa_round_seconds", "Length of the last round", last.get("seconds")),
    )  # fmt: skip
    for name, text, value in plain:
        if value is not None:
            yield GaugeMetricFamily(name, text, value=float(value))
    phase = GaugeMetricFamily("hansa_phase", "1 for the phase that the run is in", labels=["phase"])
    for phase_name in PHASES:
        phase.add_metric([phase_name], float(view["phase"] == phase_name))
    yield phase
    moved = CounterMetricFamily("hansa_vector_bytes", "Updates and models moved", labels=["direction"])
    for way, count in view["bytes"].items():
        moved.add_metric([way], float(count))
    yield moved
    if view["privacy"]:
        yield GaugeMetricFamily(
            "hansa_epsilon_spent", "By the contract's noise", value=view["privacy"]["spent"]
        )
        yield GaugeMetricFamily(
            "hansa_epsilon_budget", "Of a site for the run", value=view["privacy"]["epsilon"]
        )


def _of_sites(view: Overview) -> Iterable[Metric]:
    seen = GaugeMetricFamily(
        "hansa_site_seen_timestamp_seconds", "When a site last answered", labels=["site"]
    )
    took = GaugeMetricFamily("hansa_site_answer_seconds", "How long its last training took", labels=["site"])
    quarantined = CounterMetricFamily("hansa_site_quarantined", "Rounds it was left out of", labels=["site"])
    there = GaugeMetricFamily("hansa_site_present", "1 while it takes part", labels=["site"])
    for site in view["sites"]:
        label = [site["name"]]
        if site["seen"] is not None:
            seen.add_metric(label, site["seen"])
        if site["seconds"] is not None:
            took.add_metric(label, site["seconds"])
        quarantined.add_metric(label, site["quarantined"])
        there.add_metric(label, float(site["state"] in ("ready", "working")))
    yield from (seen, took, quarantined, there)
