// What the agent asks the user: approvals of actions, and questions.
import {
  id,
  limits,
  list,
  num,
  rec,
  str,
  type Approval,
  type Decision,
  type Inquiry,
  type Question,
  type Rec,
} from "./frames";

/** visible escapes characters that would make a text look like another one: the user judges it by its looks. */
export const visible = (text: string) =>
  text.replaceAll(/[\p{Cf}\u2028\u2029]|(?![\n\t])\p{Cc}/gu, (c) => `\\u{${c.codePointAt(0)!.toString(16)}}`);

/** The requests that wait, for the reducer. */
export type Asked =
  { type: "approvals"; kind: "exec" | "plugin"; payload: unknown } | { type: "inquiries"; payload: unknown };

const decisions: Decision[] = ["allow-once", "allow-always", "deny"];

export function approval(v: unknown, kind: "exec" | "plugin"): Approval | undefined {
  const a = rec(v);
  const r = rec(a.request);
  if (!id(a.id)) return undefined;
  const unavailable = [...list(r.unavailableDecisions, 10), ...(r.ask === "always" ? ["allow-always"] : [])];
  const offered = list(r.allowedDecisions, 10);
  const detail = [
    str(r.warningText, 500),
    str(r.description, 600),
    str(r.detail, limits.detail),
    r.cwd ? `in ${str(r.cwd)}` : "",
    r.host && r.host !== "gateway" ? `on ${str(r.host)}` : "", // gateway: this machine
  ];
  return {
    id: id(a.id),
    kind,
    session: id(r.sessionKey) || undefined,
    title: str(r.title) || (kind === "exec" ? "Allow this command to run?" : "Allow this action?"),
    command: visible(
      str(r.command, limits.text) ||
        str(
          list(r.commandArgv, 1_000)
            .map((x) => str(x, limits.text))
            .join(" "),
          limits.text,
        ),
    ),
    detail: detail.filter(Boolean).join("\n"),
    decisions: decisions.filter(
      (d) => d === "deny" || (!unavailable.includes(d) && (offered.length === 0 || offered.includes(d))),
    ),
    // A scheduled job keeps permissions of its own.
    ...(kind === "plugin" ? { always: "plugin" as const } : !r.cronExecutionSource && { always: "command" as const }),
    parts: num(rec(r.commandAnalysis).commandCount) ?? 1,
    call: id(r.toolCallId),
    expiresAt: num(a.expiresAtMs) ?? Infinity,
  };
}

export function inquiry(v: unknown): Inquiry | undefined {
  const r = rec(v);
  const questions = list(r.questions, 10).flatMap((q) => question(rec(q)));
  if (!id(r.id) || questions.length === 0 || (r.status !== undefined && r.status !== "pending")) return undefined;
  return { id: id(r.id), session: id(r.sessionKey) || undefined, questions, expiresAt: num(r.expiresAtMs) ?? Infinity };
}

function question(q: Rec): Question[] {
  if (!id(q.questionId) || !str(q.question)) return [];
  const options = list(q.options, 20)
    .map(rec)
    .flatMap((o) => (id(o.label) ? [{ label: id(o.label), description: str(o.description, 500) }] : []));
  return [
    {
      id: id(q.questionId),
      header: str(q.header),
      text: str(q.question, 2_000),
      options,
      many: q.multiSelect === true,
      other: q.isOther === true || options.length === 0,
      secret: q.isSecret === true,
    },
  ];
}

/** openRequests asks for the requests that wait for the user. */
export async function openRequests(
  ask: (method: string) => Promise<unknown>,
  dispatch: (action: Asked) => void,
): Promise<void> {
  const each = async (method: string, then: (payload: unknown) => Asked) => {
    try {
      dispatch(then(await ask(method)));
    } catch {
      // a viewer without control may not read them
    }
  };
  await Promise.all([
    each("exec.approval.list", (payload) => ({ type: "approvals", kind: "exec", payload })),
    each("plugin.approval.list", (payload) => ({ type: "approvals", kind: "plugin", payload })),
    each("question.list", (payload) => ({ type: "inquiries", payload })),
  ]);
}
