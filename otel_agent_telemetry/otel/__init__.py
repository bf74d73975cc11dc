"""Between OpenTelemetry and our records: names, mapping, processor, exporter."""
