// The state of a chat.
import type { Approval, Inquiry, Message, Session, Tool } from "./frames";
import type { Item } from "./outbox";

/** Run is an answer under way in the open session. */
export interface Run {
  id: string;
  phase: string; // of a start; "" once there is something to read
  text: string;
  tools: Tool[];
  startedAt: number | undefined;
  stopping: boolean;
  chatSeq: number; // of the latest delta
  actSeq: number; // of the latest agent event
  heard: number; // when it last told something
}

export interface ChatState {
  main: string;
  current: string; // key of the open session
  sessions: Session[];
  busy: string[]; // keys of other sessions that are being answered
  history: "none" | "loading" | "ready" | "failed";
  earlier: number | undefined; // where earlier messages begin, or sooner: they come in between; undefined: there are none
  later: boolean; // the newest messages had to make room for the earliest
  messages: Message[];
  runs: Run[];
  ended: string[]; // ids of runs, newest last: what they still say is ignored
  approvals: Approval[];
  inquiries: Inquiry[];
  outbox: Item[]; // of the open session
}

/** What the main session is called until the machine says so. */
const main = "agent:main:main";

export const empty: ChatState = {
  main,
  current: main,
  sessions: [],
  busy: [],
  history: "none",
  earlier: undefined,
  later: false,
  messages: [],
  runs: [],
  ended: [],
  approvals: [],
  inquiries: [],
  outbox: [],
};
