// The state of a chat.
import type { State as Link } from "@/bridge/reconnect";
import type { Acting, Control } from "./control";
import type { Approval, Inquiry, Message, Session, Tool } from "./frames";
import type { Item } from "./outbox";

/** Run is an answer under way in the open session. */
export interface Run {
  id: string;
  phase: string; // of a start; "" once there is text
  text: string;
  tools: Tool[];
  startedAt: number | undefined;
  stopping: boolean;
  chatSeq: number; // of the latest delta
  actSeq: number; // of the latest agent event
  heard: number; // when the last event arrived
}

export interface ChatState {
  main: string;
  current: string; // key of the open session
  sessions: Session[];
  busy: string[]; // keys of other sessions that are being answered
  history: "none" | "loading" | "ready" | "failed";
  earlier: number | undefined; // where earlier messages start, or before: some may repeat; undefined: there are none
  later: boolean; // the newest messages are dropped in favour of the earliest
  messages: Message[];
  runs: Run[];
  ended: string[]; // ids of runs, newest last: their later events are ignored
  approvals: Approval[];
  inquiries: Inquiry[];
  outbox: Item[]; // of the open session
  control: Control | undefined; // undefined: the machine can't hold the agent's mouse and keyboard, as far as is known
  copied: { bytes: number; at: number } | undefined; // a text copied on the desktop that no viewer gets; bytes 0: unknown
  acting: Acting[]; // the runs of any session that use the desktop
}

/** The main session's key until the machine reports it. */
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
  control: undefined,
  copied: undefined,
  acting: [],
};

/** Snapshot is all that a page shows; a new object whenever something changed. */
export interface Snapshot {
  link: Link;
  chat: ChatState;
  everOpen: boolean; // there has been a connection since start
  sending: ReadonlyMap<string, number>; // parts sent of messages with files, by key
}
