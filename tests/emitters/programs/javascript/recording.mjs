// A tracer provider for record_otlp.py: it exports to OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, and notes on each span
// which attributes it had at its start, and which when its first child began.
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor, NodeTracerProvider } from "@opentelemetry/sdk-trace-node";

class Notes {
  #open = new Map();

  onStart(span) {
    const { spanId } = span.spanContext();
    const above = this.#open.get((span.parentSpanContext ?? {}).spanId ?? span.parentSpanId);
    if (above && above.attributes["recorded.soon"] === undefined) {
      above.setAttribute("recorded.soon", JSON.stringify(Object.keys(above.attributes)));
    }
    span.setAttribute("recorded.start", JSON.stringify([span.name, Object.keys(span.attributes)]));
    this.#open.set(spanId, span);
  }

  onEnd(span) {
    this.#open.delete(span.spanContext().spanId);
  }

  async forceFlush() {}
  async shutdown() {}
}

// Run one of some programs, the one that the command line names, and export its spans whether it throws or not.
export async function record(programs, instrument = () => {}) {
  const provider = new NodeTracerProvider({
    resource: resourceFromAttributes({ "service.name": "app", "telemetry.sdk.language": "nodejs" }),
    spanProcessors: [new Notes(), new BatchSpanProcessor(new OTLPTraceExporter())],
  });
  provider.register();
  await instrument(provider);
  try {
    await programs[process.argv[2]]();
  } catch (problem) {
    console.log(`${problem.name}: ${problem.message}`);
  }
  await new Promise((resolve) => setTimeout(resolve, 300)); // some spans end after their program
  await provider.shutdown();
}
