"""A Status as the text of /metrics."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from energyws.control.admin.definitions import Definition
from energyws.control.admin.metrics import DEFINITIONS
from energyws.control.admin.samples import Totals
from energyws.control.children.status import Status


def exposition(status: Status, accept: str) -> tuple[str, bytes]:
    """The content type and the text that an Accept header asks for (Prometheus or OpenMetrics)."""
    encoder, content_type = choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(status))
    return content_type, encoder(registry)


class _Scrape(Collector):
    def __init__(self, status: Status) -> None:
        self._totals = Totals(status)

    def collect(self) -> Iterable[Metric]:
        return [_family(definition, self._totals) for definition in DEFINITIONS]


def _family(definition: Definition, totals: Totals) -> Metric:
    name, text, labels = definition.name, definition.help, definition.labels
    if definition.kind == "histogram":
        histogram = HistogramMetricFamily(name, text, labels=labels)
        for values, sample in definition.read(totals):
            assert isinstance(sample, tuple)
            histogram.add_metric(values, *sample)
        return histogram
    make = CounterMetricFamily if definition.kind == "counter" else GaugeMetricFamily
    family = make(name, text, labels=labels)
    for values, sample in definition.read(totals):
        assert not isinstance(sample, tuple)
        family.add_metric(values, sample)
    return family
