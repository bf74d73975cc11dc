// OpenAI (npm: openai). INSTRUMENTATION: the package of an instrumentation, one of
// @arizeai/openinference-instrumentation-openai, @traceloop/instrumentation-openai, @opentelemetry/instrumentation-openai.
const { trace } = require("@opentelemetry/api");
const { registerInstrumentations } = require("@opentelemetry/instrumentation");
const { OpenAIInstrumentation } = require(process.env.INSTRUMENTATION);

const model = "gpt-4o-mini";
const messages = [{ role: "user", content: "Weather in Bern?" }];
const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object", properties: {} } } }];
const result = { role: "tool", tool_call_id: "call_1", content: "sunny" };

function programsOf(client) {
  const chat = (more) => client.chat.completions.create({ model, messages, ...more });
  return {
    chat,
    inSpan: () =>
      trace.getTracer("app").startActiveSpan("answer a question", async (span) => {
        const { choices } = await chat({ tools });
        await chat({ tools, messages: [...messages, choices[0].message, result] });
        span.end();
      }),
    stream: async () => {
      for await (const _ of await chat({ stream: true, stream_options: { include_usage: true } }));
    },
    embed: () => client.embeddings.create({ model: "text-embedding-3-small", input: "a text" }),
    responses: () => client.responses.create({ model, input: "Weather in Bern?" }),
    modelFails: () => chat({ messages: [{ role: "user", content: "Please fail" }] }),
  };
}

import("./recording.mjs").then(({ record }) => {
  const programs = {};
  return record(programs, (tracerProvider) => {
    const instrumentation = new OpenAIInstrumentation();
    registerInstrumentations({ tracerProvider, instrumentations: [instrumentation] });
    const { OpenAI } = require("openai"); // after its instrumentation
    instrumentation.manuallyInstrument?.(OpenAI);
    const client = new OpenAI({ apiKey: "none", maxRetries: 0, baseURL: `${process.env.MODEL_URL}/v1` });
    Object.assign(programs, programsOf(client));
  });
});
