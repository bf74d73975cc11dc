// LangGraph.js and LangChain.js (npm: @langchain/langgraph @langchain/core langchain zod), with a model of their own class.
// INSTRUMENTATION: openinference (npm: @arizeai/openinference-instrumentation-langchain) or
// traceloop (npm: @traceloop/instrumentation-langchain), which needs a span around it.
import * as callbackManagerModule from "@langchain/core/callbacks/manager";
import { BaseChatModel } from "@langchain/core/language_models/chat_models";
import { AIMessage, HumanMessage } from "@langchain/core/messages";
import { StringOutputParser } from "@langchain/core/output_parsers";
import { ChatPromptTemplate } from "@langchain/core/prompts";
import { tool } from "@langchain/core/tools";
import { MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";
import { ToolNode, toolsCondition } from "@langchain/langgraph/prebuilt";
import { SpanStatusCode, trace } from "@opentelemetry/api";
import { createAgent } from "langchain";
import { z } from "zod";
import { record } from "./recording.mjs";

const isTraceloop = process.env.INSTRUMENTATION === "traceloop";
const question = { messages: [new HumanMessage("Weather in Bern?")] };
const inThread = { configurable: { thread_id: "thread-1" } };
const usage_metadata = {
  input_tokens: 100,
  output_tokens: 7,
  total_tokens: 107,
  input_token_details: { cache_read: 30 },
  output_token_details: { reasoning: 2 },
};

class Model extends BaseChatModel {
  constructor({ calls = 0, fails } = {}) {
    super({});
    Object.assign(this, { calls, fails, model: "gpt-4o-mini" });
  }

  _llmType() {
    return "fake";
  }

  bindTools() {
    return this;
  }

  invocationParams() {
    return { model: this.model };
  }

  async _generate() {
    if (this.fails) throw this.fails;
    const call = { id: "call_1", name: "weather", args: { city: "Bern" }, type: "tool_call" };
    const answer = this.calls++ === 0 ? { content: "", tool_calls: [call] } : { content: "It is sunny." };
    const message = new AIMessage({ ...answer, usage_metadata });
    const tokenUsage = { promptTokens: 100, completionTokens: 7, totalTokens: 107 };
    return { generations: [{ text: message.content, message }], llmOutput: { tokenUsage } };
  }
}

const asking = (name, work) => tool(work, { name, description: "the weather", schema: z.object({ city: z.string() }) });
const weather = asking("weather", async ({ city }) => `sunny in ${city}`);
const broken = asking("weather", async () => {
  throw new Error("no such city");
});

function graph(model = new Model()) {
  return new StateGraph(MessagesAnnotation)
    .addNode("model", async ({ messages }) => ({ messages: [await model.invoke(messages)] }))
    .addNode("tools", new ToolNode([weather]))
    .addEdge(START, "model")
    .addConditionalEdges("model", toolsCondition)
    .addEdge("tools", "model")
    .compile({ name: "weather-graph" });
}

const agent = (name, tools) => createAgent({ name, tools, model: new Model(), systemPrompt: "Be brief" });
const abort = new DOMException("This operation was aborted", "AbortError");
const expert = asking("weather", async () => {
  const { messages } = await agent("weather-expert", [weather]).invoke(question);
  return messages.at(-1).content;
});

const programs = {
  graph: () => graph().invoke(question, inThread),
  stream: async () => {
    for await (const _ of await graph().stream(question, inThread));
  },
  agent: () => agent("weather-agent", [weather]).invoke(question, inThread),
  toolFails: () => agent("weather-agent", [broken]).invoke(question, inThread),
  modelFails: () => graph(new Model({ fails: new Error("quota exceeded") })).invoke(question, inThread),
  aborted: () => graph(new Model({ fails: abort })).invoke(question, inThread),
  chain: () =>
    ChatPromptTemplate.fromTemplate("Say {x}").pipe(new Model({ calls: 1 })).pipe(new StringOutputParser()).invoke({ x: "hi" }),
  agentInAgent: () => agent("supervisor", [expert]).invoke(question),
};

const inSpan = (work) => () =>
  trace.getTracer("app").startActiveSpan("answer a question", async (span) => {
    try {
      await work();
    } catch (problem) {
      span.recordException(problem);
      span.setStatus({ code: SpanStatusCode.ERROR, message: problem.message });
    } finally {
      span.end();
    }
  });
const traced = Object.entries(programs).map(([name, work]) => [name, isTraceloop ? inSpan(work) : work]);

await record(Object.fromEntries(traced), async (provider) => {
  if (isTraceloop) {
    const instrumentation = new (await import("@traceloop/instrumentation-langchain")).LangChainInstrumentation();
    instrumentation.setTracerProvider(provider);
    instrumentation.manuallyInstrument({ callbackManagerModule });
  } else {
    const { LangChainInstrumentation } = await import("@arizeai/openinference-instrumentation-langchain");
    new LangChainInstrumentation().manuallyInstrument(callbackManagerModule);
  }
});
