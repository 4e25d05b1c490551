"""The alert rules in the form of the Prometheus Operator.

python -m tests.deploy.prometheus_rule      writes config/kubernetes/monitoring/prometheusrule.yaml
"""

from __future__ import annotations

from textwrap import indent
from typing import Final

from tests.deploy.files import ALERTS, PROMETHEUS_RULE

_HEAD: Final = """\
# `python -m tests.deploy.prometheus_rule` writes this from ../../prometheus/alerts.yaml.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: energyws
  labels:
    app.kubernetes.io/name: energyws
spec:
"""


def rendered() -> str:
    """The text of prometheusrule.yaml."""
    rules = ALERTS.read_text()
    return _HEAD + indent(rules[rules.index("groups:\n") :], "  ")


if __name__ == "__main__":
    PROMETHEUS_RULE.write_text(rendered())
