// The cards over the corner of the desktop's screen: they are within the full-screen element, which shows nothing else.
import { useState } from "react";
import type { ChatConnection } from "@/chat/connection";
import { Prompts } from "@/chat/prompts";
import { Button, IconButton, Spinner } from "@/ui";
import { ChevronIcon, CloseIcon, WarnIcon } from "@/ui/icons";
import { card, Ending, goesOn, StopRun, useSecondsLeft, type At } from "./AtDesktop";

export type CardsProps = {
  at: At;
  connection: ChatConnection;
  /** The prompts are shown here, because the chat is not visible. */
  prompts: boolean;
  /** Shows the chat; undefined: there is no room beside a full screen. */
  onChat: (() => void) | undefined;
};

export function Cards({ at, connection, prompts, onChat }: CardsProps) {
  return (
    <>
      <Offer at={at} />
      <Progress at={at} />
      <Problem at={at} />
      <GoesOn key={at.control?.since} at={at} />
      {at.who === "user" && <Ending at={at} />}
      {prompts && <Asked at={at} connection={connection} onChat={onChat} />}
    </>
  );
}

function Offer({ at: { keeper, state } }: { at: At }) {
  if (!state.offer) return null;
  const keep = () => keeper.keepOffer();
  return (
    <div className={card} onPointerMove={keep} onFocus={keep}>
      <p className="min-w-0 flex-1 basis-40">
        The agent is using the desktop.
        <span className="sr-only"> Press Ctrl, Alt and Shift together to reach the buttons.</span>
      </p>
      <div className="flex flex-wrap gap-2">
        <Button size="small" variant="primary" onClick={() => void keeper.take()}>
          Take control
        </Button>
        <Button size="small" onClick={() => keeper.notNow()}>
          Not now
        </Button>
      </div>
    </div>
  );
}

function Progress({ at: { state } }: { at: At }) {
  if (!state.busy) return null;
  return (
    <div className={card}>
      <Spinner label={state.busy === "take" ? "Taking control…" : "Giving control back…"} />
    </div>
  );
}

function Problem({ at: { keeper, state } }: { at: At }) {
  if (!state.problem) return null;
  return (
    <div role="alert" className={`${card} border-bad`}>
      <WarnIcon className="size-5 shrink-0 self-start text-bad" />
      <p className="min-w-0 flex-1 basis-40 break-words">{state.problem}</p>
      <IconButton label="Close" className="size-8" onClick={() => keeper.dismissProblem()}>
        <CloseIcon className="size-4" />
      </IconButton>
    </div>
  );
}

function GoesOn({ at }: { at: At }) {
  const [read, setRead] = useState(false);
  const words = goesOn(at);
  const ending = useSecondsLeft(at.control) !== undefined; // its card is more urgent, and there is little room
  if (!words || read || ending) return null;
  return (
    <div className={card}>
      <p className="min-w-0 flex-1 basis-40">{words}</p>
      <StopRun at={at} />
      <IconButton label="Close" className="size-8" onClick={() => setRead(true)}>
        <CloseIcon className="size-4" />
      </IconButton>
    </div>
  );
}

/** What the agent asks, to be answered beside the desktop. It shrinks to a button and comes back with a new request. */
function Asked({ at: { chat, open }, connection, onChat }: Omit<CardsProps, "prompts">) {
  const [put, putAside] = useState<readonly string[]>([]); // ids
  const all = [...chat.approvals, ...chat.inquiries];
  if (all.length === 0) return null;
  const waiting = all.filter((p) => !p.over);
  if (all.every((p) => put.includes(p.id)))
    return (
      <Button size="small" className="pointer-events-auto border-warn! shadow-lg" onClick={() => putAside([])}>
        <WarnIcon className="size-4 text-warn" />
        {waiting.length > 1 ? `${waiting.length} answers are needed` : "Your answer is needed"}
      </Button>
    );
  return (
    <section
      aria-label="Your answer"
      className="pointer-events-auto flex min-h-0 w-full flex-col rounded-lg border border-line bg-raised text-sm text-ink shadow-lg"
    >
      <div className="flex shrink-0 items-center gap-2 py-1 pr-1 pl-3">
        <h2 className="min-w-0 flex-1 font-semibold">
          {waiting.length > 0 ? "Your answer is needed" : "The agent no longer waits"}
        </h2>
        <IconButton label="Make this smaller" onClick={() => putAside(all.map((p) => p.id))}>
          <ChevronIcon />
        </IconButton>
      </div>
      <div className="flex min-h-0 flex-col overflow-y-auto pb-3 *:max-h-none! *:px-2! *:pt-0!">
        <Prompts connection={connection} chat={chat} open={open} onDone={() => {}} />
      </div>
      {/* Always there: a card that changed its size at a press would move its buttons away from under the pointer. */}
      <div className="flex shrink-0 flex-wrap items-center justify-between gap-2 border-t border-line px-3 py-1.5 text-xs text-muted">
        <span className="pointer-coarse:hidden">To get here by keyboard, press Ctrl + Alt + Shift.</span>
        {onChat && (
          <Button size="small" onClick={onChat}>
            Show the chat
          </Button>
        )}
      </div>
    </section>
  );
}
