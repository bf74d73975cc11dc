// openai-agents (npm: @openai/agents openai zod @arizeai/openinference-instrumentation-openai-agents).
import { OpenAIAgentsInstrumentation } from "@arizeai/openinference-instrumentation-openai-agents";
import * as agents from "@openai/agents";
import OpenAI from "openai";
import { z } from "zod";
import { record } from "./recording.mjs";

agents.setDefaultOpenAIClient(new OpenAI({ apiKey: "none", maxRetries: 0, baseURL: `${process.env.MODEL_URL}/v1` }));
const model = "gpt-4o-mini";
const parameters = z.object({ city: z.string() });
const weather = agents.tool({ name: "weather", description: "the weather", parameters, execute: async () => "sunny" });
const expert = new agents.Agent({ name: "weather-expert", model, tools: [weather] });
const triage = agents.Agent.create({ name: "triage", model, handoffs: [expert] });

const programs = {
  responses: () => agents.run(expert, "Weather in Bern?"),
  chatCompletions: () => {
    agents.setOpenAIAPI("chat_completions");
    return agents.run(expert, "Weather in Bern?");
  },
  stream: async () => {
    const streamed = await agents.run(expert, "Weather in Bern?", { stream: true });
    for await (const _ of streamed);
    await streamed.completed;
  },
  handover: () => agents.run(triage, "Weather in Bern?"),
  modelFails: () => agents.run(expert, "Please fail"), // its root span is never sent
};

await record(programs, (tracerProvider) => new OpenAIAgentsInstrumentation({ tracerProvider }).manuallyInstrument(agents));
