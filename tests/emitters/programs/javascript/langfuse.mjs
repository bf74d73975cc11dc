// Langfuse (npm: @langfuse/tracing): observations without a model behind them.
import { startActiveObservation } from "@langfuse/tracing";
import { record } from "./recording.mjs";

const usageDetails = { input: 100, output: 7, total: 107 };
const model = "gpt-4o-mini";

const answer = (generate) => () =>
  startActiveObservation(
    "weather-agent",
    async (agent) => {
      agent.update({ input: "Weather in Bern?" });
      await generate(agent);
      agent.update({ output: "It is sunny." });
    },
    { asType: "agent" },
  );

const programs = {
  agent: answer(async (agent) => {
    const generation = (name) => agent.startObservation(name, { model }, { asType: "generation" });
    generation("first").update({ output: "call weather", usageDetails, costDetails: { total: 0.003 } }).end();
    agent.startObservation("weather", { input: { city: "Bern" } }, { asType: "tool" }).update({ output: "sunny" }).end();
    generation("second").update({ output: "It is sunny.", usageDetails }).end();
  }),
  modelFails: answer(async (agent) => {
    const generation = agent.startObservation("first", { model }, { asType: "generation" });
    generation.update({ level: "ERROR", statusMessage: "quota exceeded" }).end();
    throw new Error("quota exceeded");
  }),
};

await record(programs);
