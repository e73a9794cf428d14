import { expect, it } from "vitest";
import { place } from "./place";
import { isFull, quotaWords } from "./quota";
import { interrupted } from "./stopping";

const state = { approvals: 0, questions: 0, until: null, held: false, viewers: 0, runs: 0 };

it("asks before a stop only if the agent works or waits", () => {
  expect(interrupted({ agent_state: null })).toEqual([]);
  expect(interrupted({ agent_state: { ...state, held: true } })).toEqual([]);
  expect(interrupted({ agent_state: { ...state, runs: 1 } })).toEqual([
    "The agent is working in one chat. Its work ends there; what it has written so far is kept.",
  ]);
  expect(interrupted({ agent_state: { ...state, runs: 2, approvals: 1, questions: 3 } })).toEqual([
    "The agent is working in 2 chats. Its work ends there; what it has written so far is kept.",
    "An action waits for your approval. It will be denied.",
    "3 questions wait for your answer. They will be withdrawn.",
  ]);
});

it("has the server's words for a full quota", () => {
  expect(quotaWords({ held: 3, limit: 3 })).toBe("You have 3 of 3 desktops. Terminate one to create another.");
  expect(quotaWords({ held: 2, limit: 1 })).toBe("You have 2 of 1 desktop. Terminate 2 to create another.");
  expect(isFull({ held: 2, limit: 3 })).toBe(false);
  expect(isFull({ held: 4, limit: 3 })).toBe(true);
  expect(isFull(undefined)).toBe(false);
});

it("says a size only where there is one", () => {
  expect(place({ region: "local", instance_type: "local" })).toBe("");
  expect(place({ region: "eu-central-1", instance_type: "t3.large" })).toBe("t3.large · eu-central-1");
});
