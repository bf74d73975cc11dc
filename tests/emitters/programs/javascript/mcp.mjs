// MCP TypeScript SDK (npm: @modelcontextprotocol/sdk @traceloop/instrumentation-mcp zod), client and server in one process.
import { createRequire } from "node:module";
import { trace } from "@opentelemetry/api";
import { record } from "./recording.mjs";

const require = createRequire(import.meta.url); // the instrumentation patches what it finds by `require`
const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
const { McpServer } = require("@modelcontextprotocol/sdk/server/mcp.js");
const { InMemoryTransport } = require("@modelcontextprotocol/sdk/inMemory.js");
const { McpInstrumentation } = require("@traceloop/instrumentation-mcp");
const { z } = require("zod");

async function ask(execute) {
  const server = new McpServer({ name: "weather-server", version: "1.0.0" });
  server.registerTool("weather", { description: "the weather", inputSchema: { city: z.string() } }, execute);
  const [ours, theirs] = InMemoryTransport.createLinkedPair();
  await server.connect(theirs);
  const client = new Client({ name: "app", version: "1" });
  await trace.getTracer("app").startActiveSpan("ask the server", async (span) => {
    await client.connect(ours);
    await client.listTools();
    await client.callTool({ name: "weather", arguments: { city: "Bern" } });
    span.end();
  });
  await client.close();
}

const programs = {
  call: () => ask(async ({ city }) => ({ content: [{ type: "text", text: `sunny in ${city}` }] })),
  toolFails: () =>
    ask(async () => {
      throw new Error("no such city");
    }),
};

await record(programs, (provider) => {
  const instrumentation = new McpInstrumentation();
  instrumentation.setTracerProvider(provider);
  instrumentation.manuallyInstrument({ Client });
});
