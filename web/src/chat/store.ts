import { reduce, type Action } from "./reducer";
import type { ChatState } from "./state";

const frameEvery = 50; // ms between two redraws of an answer under way; longer for a longer one, parsed each time
const longestTimer = 2 ** 31 - 1;

/** Store holds the chat's state, reports changes of it for drawing and lets what is over expire:
 * requests for the user, and the agent's use of the desktop. */
export class Store {
  #chat: ChatState;
  #redraw: ReturnType<typeof setTimeout> | undefined;
  #expiry: ReturnType<typeof setTimeout> | undefined;
  readonly #draw: () => void;

  constructor(initial: ChatState, draw: () => void) {
    this.#chat = initial;
    this.#draw = draw;
  }

  get chat(): ChatState {
    return this.#chat;
  }

  /** dispatch applies the action and draws: immediately, or soon with other changes. */
  dispatch(action: Action, soon = false): void {
    const before = this.#chat;
    this.#chat = reduce(before, action);
    if (this.#chat === before) return;
    const { approvals, inquiries, acting } = this.#chat;
    if (approvals !== before.approvals || inquiries !== before.inquiries || acting !== before.acting)
      this.#watchExpiry();
    if (!soon) this.draw();
    else this.#redraw ??= setTimeout(() => this.draw(), frameEvery + this.#answerLength / 200);
  }

  draw(): void {
    clearTimeout(this.#redraw);
    this.#redraw = undefined;
    this.#draw();
  }

  stop(): void {
    clearTimeout(this.#redraw);
    clearTimeout(this.#expiry);
  }

  get #answerLength(): number {
    return this.#chat.runs.reduce((n, r) => n + r.text.length, 0);
  }

  #watchExpiry(): void {
    clearTimeout(this.#expiry);
    const { approvals, inquiries, acting } = this.#chat;
    const next = Math.min(...[...approvals, ...inquiries].map((p) => p.expiresAt), ...acting.map((r) => r.until));
    if (next === Infinity) return;
    const ms = Math.min(Math.max(0, next - Date.now()), longestTimer);
    this.#expiry = setTimeout(() => this.dispatch({ type: "expired", now: Date.now() }), ms);
  }
}
