import { expect, test } from "vitest";
import { factsOf, modelName, needsKey, suggestions } from "./facts";

test.each([
  [{}, { agent: undefined, sees: false, model: undefined }, []],
  [
    { agent: "stand-in", agent_sees: "nothing", model: "none" },
    { agent: "demo", sees: false, model: "" },
    ["/demo", "/ask", "/markdown"],
  ],
  [{ agent: "openclaw" }, { agent: "real", sees: false, model: undefined }, []],
  [{ agent: "openclaw", agent_sees: "desktop", model: "unknown" }, { agent: "real", sees: true, model: undefined }, []],
  [{ agent: "openclaw", agent_sees: "desktop", model: "none" }, { agent: "real", sees: true, model: "" }, []],
  [{ agent: "constructor", agent_sees: "yes", model: 7 }, { agent: undefined, sees: false, model: undefined }, []],
])("%j is reported as %j", (versions, facts, texts) => {
  expect(factsOf(versions)).toEqual(facts);
  expect(suggestions(factsOf(versions)).map((s) => s.text)).toEqual(texts);
});

test("only what the agent can do is suggested, and only the demo sends at once", () => {
  const real = { agent: "openclaw", model: "openrouter/anthropic/claude" };
  const sees = suggestions(factsOf({ ...real, agent_sees: "desktop" }));
  const blind = suggestions(factsOf({ ...real, agent_sees: "nothing" }));
  expect([sees.length, blind.length]).toEqual([3, 3]);
  expect(blind.some((s) => /screen|browser|Desktop/.test(s.text))).toBe(false);
  expect([...sees, ...blind].some((s) => s.send)).toBe(false);
  expect(modelName(real.model)).toBe("claude");
});

test("a key is offered only to the real agent, if it reports no model", () => {
  expect(needsKey(factsOf({ agent: "openclaw", model: "none" }))).toBe(true);
  expect(needsKey(factsOf({ agent: "openclaw", model: "unknown" }))).toBe(false);
  expect(needsKey(factsOf({ agent: "stand-in", model: "none" }))).toBe(false);
});
