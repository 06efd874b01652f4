"""The rules, the dashboard and the pages name metrics and labels that there are."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from spooky.observe.metrics import PREFIX, TABLE, Kind
from spooky.observe.reference_metrics import NAMES

OPERATIONS = Path("docs/operations")
RULES = sorted((OPERATIONS / "prometheus").glob("*.yml"))
PAGES = [
    OPERATIONS / name for name in ("grafana/spooky.json", "alerts.md", "capacity.md", "metrics.md")
]
METRIC = re.compile(rf"\b{PREFIX}[a-z0-9_]+\b")
# Sums over upstreams or backends: they fall when one is removed, which a rate takes for a restart.
FALLING = re.compile(
    rf"{PREFIX}(?:requests_(?:success|failure)|request_validation_rejects|policy_denied"
    r"|backend_timeouts|backend_errors|overload_shed|overload_shed_by_reason|upstream_requests"
    r"|worker_requests(?:_success|_failure)?)_total"
)
FACT = re.compile(r'Fact\(\s*"([a-z_]+)"')


def exposed() -> set[str]:
    """Return every name that a page of metrics may have."""
    sources = [path.read_text() for path in Path("spooky").rglob("*.py")]
    names = {fact for source in sources for fact in FACT.findall(source)}
    names |= set(NAMES)
    for metric in TABLE:
        suffixes = ("_bucket", "_count", "_sum", "") if metric.kind is Kind.HISTOGRAM else ("",)
        names |= {metric.name + suffix for suffix in suffixes}
    return {PREFIX + name for name in names}


def rules() -> Iterator[dict[str, object]]:
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


@pytest.mark.parametrize("path", [*RULES, *PAGES], ids=str)
def test_every_metric_that_is_named_exists(path: Path) -> None:
    named = set(METRIC.findall(path.read_text()))
    assert named
    assert named - exposed() == set()


def test_every_recorded_name_that_is_used_is_recorded() -> None:
    recorded = {str(rule["record"]) for rule in rules() if "record" in rule}
    expressions = [str(rule["expr"]) for rule in rules()]
    used = {name for text in expressions for name in re.findall(r"spooky:[a-z0-9_:]+", text)}
    assert used <= recorded


@pytest.mark.parametrize("path", [*RULES, *PAGES[:-1]], ids=str)
def test_no_rate_is_over_what_falls_when_a_backend_is_removed(path: Path) -> None:
    assert FALLING.findall(path.read_text()) == []


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    alerts = {str(rule["alert"]) for rule in rules() if "alert" in rule}
    page = (OPERATIONS / "alerts.md").read_text()
    assert set(re.findall(r"^## (\w+)$", page, re.M)) == alerts
    for rule in rules():
        if "alert" in rule:
            assert rule["annotations"]["runbook"] == f"alerts.md#{rule['alert'].lower()}"  # type: ignore[index]
            assert rule["labels"]["severity"] in ("page", "ticket")  # type: ignore[index]


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads((OPERATIONS / "grafana/spooky.json").read_text())
    identities = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(identities)) == len(identities) > 10
    assert all(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_takes_the_rules() -> None:
    command = ["promtool", "check", "rules", *map(str, RULES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
