import type { Instance } from "@/api/client";

const chats = (n: number) => (n === 1 ? "in one chat" : `in ${n} chats`);

/** Returns what a stop would interrupt, in sentences; none if the agent does nothing or that is not known. */
export function interrupted({ agent_state: state }: Pick<Instance, "agent_state">): string[] {
  const { runs = 0, approvals = 0, questions = 0 } = state ?? {}; // older servers do not report runs
  const all: string[] = [];
  if (runs > 0)
    all.push(`The agent is working ${chats(runs)}. Its work ends there; what it has written so far is kept.`);
  if (approvals > 0)
    all.push(
      approvals === 1
        ? "An action waits for your approval. It will be denied."
        : `${approvals} actions wait for your approval. They will be denied.`,
    );
  if (questions > 0)
    all.push(
      questions === 1
        ? "A question waits for your answer. It will be withdrawn."
        : `${questions} questions wait for your answer. They will be withdrawn.`,
    );
  return all;
}
