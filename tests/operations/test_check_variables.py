"""Misspelt variables: the nearest known name is found, and names of other programs are left alone."""

from __future__ import annotations

import pytest

from otel_agent_telemetry.operations.check_variables import check_variables, nearest_name
from otel_agent_telemetry.settings import SETTINGS


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("TELEMETRY_BASEDIR", "TELEMETRY_BASE_DIR"),
        ("TELEMETRY_DATABSE_URL", "TELEMETRY_DATABASE_URL"),
        ("TELEMTRY_API_URL", "TELEMETRY_API_URL"),
        ("telemetry_api_url", "TELEMETRY_API_URL"),
        ("AGENT_METRIC_DIR", "AGENT_METRICS_DIR"),
        ("OTEL_SDK_DISABLE", "OTEL_SDK_DISABLED"),
        ("OTEL_EXPORTER_OTLP_TRACE_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        ("OTEL_RESOURCE_ATTRIBUTE", "OTEL_RESOURCE_ATTRIBUTES"),
        ("OTLP_TRACES_EXPORTER", "OTEL_TRACES_EXPORTER"),
        ("OTEL_EXPORTER_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("OTEL_EXPORTER_OTLP_METRRICS_CERTIFICATE", "OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", None),
        ("OTEL_PYTHON_LOG_CORRELATION", None),
        ("TELEMETRY_OPTOUT", None),
        ("DOTNET_CLI_TELEMETRY_OPTOUT", None),
        ("HOMEBREW_NO_ANALYTICS", None),
        ("HTTP_PROXY", None),
        ("https_proxy", None),
        ("PATH", None),
    ],
)
def test_a_misspelt_name_has_a_nearest_one(name, nearest):
    """By the OpenTelemetry specification's names too; opt-outs of other tools are none of ours."""
    assert nearest_name(name) == nearest


def test_every_setting_is_known():
    """No finding for what the table has."""
    assert list(check_variables({name: "x" for setting in SETTINGS for name in setting.variables})) == []
