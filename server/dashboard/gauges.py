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


def exposition(found: Overview) -> bytes:
    """The text that Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(_OneLook(found))
    return generate_latest(registry)


class _OneLook(Collector):
    def __init__(self, found: Overview) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        """All figures of one look at the run."""
        yield from _of_run(self._found)
        yield from _of_sites(self._found)


def _of_run(found: Overview) -> Iterable[Metric]:
    last = found["history"][-1] if found["history"] else {}
    plain = (
        ("hansa_rounds_done", "Rounds that lie on the disk", found["round"]),
        ("hansa_rounds_planned", "Rounds that the contract names", found["rounds"]),
        ("hansa_loss", "Mean training loss of the last round", found["loss"]),
        ("hansa_validation_ndcg_at_20", "Mean of the sites in the last round", found["metric"]),
        ("hansa_left_seconds", "Time until the last round, as it goes", found["left_s"]),
        ("hansa_round_seconds", "Length of the last round", last.get("seconds")),
    )  # fmt: skip
    for name, text, value in plain:
        if value is not None:
            yield GaugeMetricFamily(name, text, value=float(value))
    phase = GaugeMetricFamily("hansa_phase", "1 for the phase that the run is in", labels=["phase"])
    for each in PHASES:
        phase.add_metric([each], float(found["phase"] == each))
    yield phase
    moved = CounterMetricFamily("hansa_vector_bytes", "Updates and models moved", labels=["direction"])
    for way, count in found["bytes"].items():
        moved.add_metric([way], float(count))
    yield moved
    if found["privacy"]:
        yield GaugeMetricFamily(
            "hansa_epsilon_spent", "By the contract's noise", value=found["privacy"]["spent"]
        )
        yield GaugeMetricFamily(
            "hansa_epsilon_budget", "Of a site for the run", value=found["privacy"]["epsilon"]
        )


def _of_sites(found: Overview) -> Iterable[Metric]:
    seen = GaugeMetricFamily(
        "hansa_site_seen_timestamp_seconds", "When a site last answered", labels=["site"]
    )
    took = GaugeMetricFamily("hansa_site_answer_seconds", "How long its last training took", labels=["site"])
    gone = CounterMetricFamily("hansa_site_quarantined", "Rounds it was left out of", labels=["site"])
    there = GaugeMetricFamily("hansa_site_present", "1 while it takes part", labels=["site"])
    for site in found["sites"]:
        label = [site["name"]]
        if site["seen"] is not None:
            seen.add_metric(label, site["seen"])
        if site["seconds"] is not None:
            took.add_metric(label, site["seconds"])
        gone.add_metric(label, site["quarantined"])
        there.add_metric(label, float(site["state"] in ("ready", "working")))
    yield from (seen, took, gone, there)
