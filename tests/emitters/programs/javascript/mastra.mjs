// Mastra (npm: @mastra/core @mastra/observability @mastra/otel-exporter zod), which makes its spans itself.
import { Agent } from "@mastra/core/agent";
import { Mastra } from "@mastra/core/mastra";
import { createTool } from "@mastra/core/tools";
import { createStep, createWorkflow } from "@mastra/core/workflows";
import { Observability } from "@mastra/observability";
import { OtelExporter } from "@mastra/otel-exporter";
import { z } from "zod";

const program = process.argv[2];
const usage = {
  inputTokens: { total: 100, noCache: 70, cacheRead: 30 },
  outputTokens: { total: 7, text: 5, reasoning: 2 },
};
const call = { type: "tool-call", toolCallId: "call-1", toolName: "weather", input: '{"city":"Bern"}' };
let calls = 0;

function nextAnswer() {
  if (program === "modelFails") throw new Error("quota exceeded");
  return calls++ === 0
    ? { content: call, finishReason: { unified: "tool-calls" } }
    : { content: { type: "text", text: "It is sunny." }, finishReason: { unified: "stop" } };
}

const model = {
  specificationVersion: "v3",
  provider: "openai.chat",
  modelId: "gpt-4o-mini",
  supportedUrls: {},
  async doGenerate() {
    const { content, finishReason } = nextAnswer();
    return { content: [content], finishReason, usage, warnings: [] };
  },
  async doStream() {
    const { content, finishReason } = nextAnswer();
    const deltas = ["text-start", "text-delta", "text-end"].map((type) => ({ type, id: "1", delta: content.text }));
    const parts = content === call ? [call] : deltas;
    const finish = { type: "finish", finishReason, usage };
    return { stream: ReadableStream.from([{ type: "stream-start", warnings: [] }, ...parts, finish]) };
  },
};

const city = z.object({ city: z.string() });
const weather = createTool({
  id: "weather",
  description: "the weather",
  inputSchema: city,
  execute: async () => {
    if (program === "toolFails") throw new Error("no such city");
    return { sky: "sunny" };
  },
});
const agent = new Agent({ id: "weather-agent", name: "Weather Agent", instructions: "Be brief", model, tools: { weather }, maxRetries: 0 });
const answer = z.object({ text: z.string() });
const execute = async ({ mastra }) => ({ text: (await mastra.getAgent("agent").generate("Weather in Bern?")).text });
const step = createStep({ id: "ask", inputSchema: city, outputSchema: answer, execute });
const flow = createWorkflow({ id: "weather-flow", inputSchema: city, outputSchema: answer }).then(step).commit();
const endpoint = process.env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT;
const exporter = new OtelExporter({ provider: { custom: { endpoint, protocol: "http/json" } } });
const observability = new Observability({ configs: { otel: { serviceName: "app", exporters: [exporter] } } });
const mastra = new Mastra({ agents: { agent }, workflows: { flow }, observability, logger: false });

const programs = {
  generate: () => mastra.getAgent("agent").generate("Weather in Bern?"),
  stream: async () => {
    for await (const _ of (await mastra.getAgent("agent").stream("Weather in Bern?")).textStream);
  },
  workflow: async () => (await mastra.getWorkflow("flow").createRun()).start({ inputData: { city: "Bern" } }),
};

try {
  await (programs[program] ?? programs.generate)();
} catch (problem) {
  console.log(`${problem.name}: ${problem.message}`);
}
await observability.shutdown();
process.exit(0);
