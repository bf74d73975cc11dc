// An agent that knows nothing of this package: two runs, one of which fails, each with a model call and an event.
import { SpanStatusCode, context, trace } from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor, NodeTracerProvider } from "@opentelemetry/sdk-trace-node";

const provider = new NodeTracerProvider({
  resource: resourceFromAttributes({ "service.name": "shop-js", "deployment.environment.name": "prod" }),
  spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())], // to OTEL_EXPORTER_OTLP_ENDPOINT
});
provider.register();
const tracer = trace.getTracer("shop");

function run(basket, problem) {
  const attributes = { "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "buyer", basket };
  return tracer.startActiveSpan("invoke_agent buyer", { attributes }, (root) => {
    root.addEvent("planned", { steps: 2 });
    const chat = tracer.startSpan("chat m-1", {}, context.active());
    chat.setAttributes({
      "gen_ai.operation.name": "chat",
      "gen_ai.response.model": "m-1",
      "gen_ai.usage.input_tokens": 12,
      "gen_ai.usage.output_tokens": 3,
    });
    chat.end();
    if (problem) {
      root.recordException(problem);
      root.setStatus({ code: SpanStatusCode.ERROR, message: problem.message });
    }
    root.end();
    const [seconds, nanoseconds] = root.startTime;
    const startNs = BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds);
    return { ...root.spanContext(), startNs: startNs.toString() };
  });
}

const done = [run(["a", "b"]), run(["c"], new RangeError("no such card"))];
await provider.shutdown();
console.log(JSON.stringify(done.map(({ traceId, spanId, startNs }) => ({ traceId, spanId, startNs }))));
