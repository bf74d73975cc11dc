// Vercel AI SDK 6 (npm: ai@6 zod) and 7 (npm: ai@7 @ai-sdk/otel zod), with the model of ai/test.
import * as ai from "ai";
import * as models from "ai/test";
import { z } from "zod";
import { record } from "./recording.mjs";

const isSix = models.MockLanguageModelV4 === undefined;
const LanguageModel = isSix ? models.MockLanguageModelV3 : models.MockLanguageModelV4;
const EmbeddingModel = isSix ? models.MockEmbeddingModelV3 : models.MockEmbeddingModelV4;
const threeSteps = (ai.stepCountIs ?? ai.isStepCount)(3);
const usage = {
  inputTokens: { total: 100, noCache: 70, cacheRead: 30, cacheWrite: undefined },
  outputTokens: { total: 7, text: 5, reasoning: 2 },
};
const call = { type: "tool-call", toolCallId: "call-1", toolName: "weather", input: '{"city":"Bern"}' };
const text = { type: "text", text: "It is sunny." };
const answers = [
  { content: [call], finishReason: { unified: "tool-calls" }, usage, warnings: [] },
  { content: [text], finishReason: { unified: "stop" }, usage, warnings: [] },
];

const traced = (functionId) =>
  isSix ? { experimental_telemetry: { isEnabled: true, functionId } } : { telemetry: { functionId } };

function model({ fails, delayMs = 0 } = {}) {
  let calls = 0;
  const answer = () => {
    if (fails) throw fails;
    return answers[calls++];
  };
  return new LanguageModel({
    provider: "openai.chat",
    modelId: "gpt-4o-mini",
    doGenerate: async () => answer(),
    doStream: async () => {
      const { content, finishReason } = answer();
      const parts = content[0] === call ? [call] : ["text-start", "text-delta", "text-end"].map((type) => ({ type, id: "1", delta: text.text }));
      const chunks = [{ type: "stream-start", warnings: [] }, ...parts, { type: "finish", finishReason, usage }];
      return { stream: ai.simulateReadableStream({ chunks, initialDelayInMs: delayMs, chunkDelayInMs: delayMs }) };
    },
  });
}

const weather = (fails) =>
  ai.tool({
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => {
      if (fails) throw new Error("no such city");
      return { city, sky: "sunny" };
    },
  });
const ask = (functionId, fails) => ({
  model: model(),
  tools: { weather: weather(fails) },
  stopWhen: threeSteps,
  prompt: "Weather in Bern?",
  ...traced(functionId),
});
const failing = (fails) => ({ model: model({ fails }), prompt: "Hello", maxRetries: 0 });

const programs = {
  generate: () => ai.generateText(ask("weather-agent")),
  unnamed: () => ai.generateText(ask()),
  toolFails: () => ai.generateText(ask("weather-agent", true)),
  stream: async () => {
    for await (const _ of ai.streamText(ask("stream-agent")).textStream);
  },
  abortedStream: async () => {
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 500);
    const more = { abortSignal: abort.signal, onError: () => {}, ...traced("aborted-agent") };
    for await (const _ of ai.streamText({ model: model({ delayMs: 300 }), prompt: "Hello", ...more }).textStream);
  },
  embed: () => {
    const doEmbed = async () => ({ embeddings: [[0.1, 0.2]], usage: { tokens: 5 }, warnings: [] });
    const embedder = new EmbeddingModel({ provider: "openai.embedding", modelId: "text-embedding-3-small", doEmbed });
    return ai.embed({ model: embedder, value: "a text", ...traced("embedder") });
  },
  modelFails: () => ai.generateText({ ...failing(new Error("quota exceeded")), ...traced("failing-agent") }),
  aborted: () => ai.generateText({ ...failing(new DOMException("This operation was aborted", "AbortError")), ...traced("aborted-agent") }),
};

await record(programs, async () => {
  if (!isSix) ai.registerTelemetry(new (await import("@ai-sdk/otel")).OpenTelemetry());
});
