"""Odd values in the environment that belong to OpenTelemetry: nothing raises, runs are recorded, one warning at most."""

import pytest
from on_disk import journal_lines
from programs import run_noisy_host

CLIENT = """
import logging
logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
from otel_agent_telemetry import TelemetryClient
client = TelemetryClient()
with client.track_run("agent", "job", run_id="by client") as run:
    run.log_event("event")
client.close()
"""

INSTRUMENT = """
import logging
logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
from otel_agent_telemetry import TelemetryClient, instrument
instrument()
client = TelemetryClient()
with client.track_run("agent", "job", run_id="by client") as run:
    run.log_event("event")
client.close()
"""

ODD = {
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "abc",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "-1",
    "OTEL_SPAN_EVENT_COUNT_LIMIT": "1e3",
    "OTEL_SPAN_LINK_COUNT_LIMIT": "",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "many",
    "OTEL_TRACES_SAMPLER": "nonsense",
    "OTEL_TRACES_SAMPLER_ARG": "nonsense",
    "OTEL_ID_GENERATOR": "nonsense",
    "OTEL_PYTHON_ID_GENERATOR": "nonsense",
    "OTEL_RESOURCE_ATTRIBUTES": "a,b=,=c,%zz=%zz,service.name=",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "nonsense,otel",
    "OTEL_PROPAGATORS": "nonsense",
    "OTEL_PYTHON_CONTEXT": "nonsense",
    "OTEL_PYTHON_TRACER_PROVIDER": "nonsense",
    "OTEL_PYTHON_METER_PROVIDER": "nonsense",
    "OTEL_PYTHON_LOGGER_PROVIDER": "nonsense",
    "OTEL_BSP_SCHEDULE_DELAY": "soon",
    "OTEL_BSP_MAX_QUEUE_SIZE": "-5",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "soon",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "ht tp://[",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "nonsense",
    "OTEL_EXPORTER_OTLP_HEADERS": "no header",
    "OTEL_EXPORTER_OTLP_CERTIFICATE": "/missing",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "nonsense",
    "OTEL_LOG_LEVEL": "nonsense",
    "OTEL_SDK_DISABLED": "perhaps",
    "OTEL_CONFIG_FILE": "/missing.yaml",
    "TRACEPARENT": "nonsense",
    "BAGGAGE": "%zz=%zz;;,,",
}

EXPORTING = {"TELEMETRY_OTLP_ENABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


CASES = [
    *((name, INSTRUMENT) for name in ODD),
    *((name, CLIENT) for name in ODD if name.endswith(("LIMIT", "PROVIDER", "PROPAGATORS", "QUEUE_SIZE", "PROTOCOL"))),
]


@pytest.mark.parametrize(("name", "code"), CASES, ids=lambda value: "client" if value is CLIENT else value[:40].strip())
def test_an_odd_value(config, name, code):
    """The client and instrument() go on without it."""
    env = {
        **(EXPORTING if "EXPORTER" in name or "BSP" in name else {}),
        name: ODD[name],
        "TELEMETRY_EXIT_TIMEOUT_S": "0.5",
    }
    _, err = run_noisy_host(config, code, env=env, options=())

    assert {line["run_id"] for line in journal_lines(config, "run") if line["status"] == "success"} == {"by client"}
    ours = [line for line in err.splitlines() if line.startswith("otel_agent_telemetry")]
    ours = [line for line in ours if "exporter is missing" not in line]  # of an install without the extra for it
    assert len({line.partition(" ")[2] for line in ours}) <= 1, err
    assert code is INSTRUMENT or len(ours) <= 1, err  # it reads the environment beside the client
