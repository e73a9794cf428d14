// Who uses the desktop, in words and with buttons: in the bar, over the screen and above the chat.
import { Toolbar } from "@base-ui/react/toolbar";
import { useEffect, useState, useSyncExternalStore } from "react";
import { useChat } from "@/chat/ChatPanel";
import type { ChatConnection } from "@/chat/connection";
import { works, type Control } from "@/chat/control";
import type { ChatState } from "@/chat/state";
import type { Desktop } from "@/desktop/Desktop";
import { Button, IconButton, toast } from "@/ui";
import { icon } from "@/ui/icons";
import { useNow } from "@/ui/time";
import { Keeper, type KeeperState } from "./keeper";

export const PointerIcon = icon(<path d="m5 3 10.5 6.8-4.7 1L13.4 16l-2 1-2.5-5.2L5.6 15z" />);
const PersonIcon = icon(
  <>
    <circle cx="10" cy="6.5" r="3" />
    <path d="M4 17c.6-3.6 3-5.5 6-5.5s5.4 1.9 6 5.5" />
  </>,
);

/** At is who uses the desktop, and what the user may do about it. */
export interface At {
  who: "agent" | "user" | undefined; // undefined: neither, as far as is known
  control: Control | undefined;
  chat: ChatState;
  open: boolean; // the machine can be asked
  keeper: Keeper;
  state: KeeperState;
  stop: () => Promise<void>;
}

export function useAt(connection: ChatConnection, desktop: Desktop): At {
  const { link, chat } = useChat(connection);
  const [keeper] = useState(
    () =>
      new Keeper(connection, () => toast({ title: "Control went back to the agent after 2 minutes without input." })),
  );
  useEffect(() => keeper.start(), [keeper]);
  useEffect(() => desktop.onUse((use) => keeper.used(use)), [desktop, keeper]);
  const { copied } = chat;
  useEffect(() => {
    if (copied && Date.now() - copied.at < 5_000)
      desktop.clipboard.missed(copied.bytes, desktop.getSnapshot().focused && document.hasFocus());
  }, [desktop, copied]);
  const state = useSyncExternalStore(keeper.subscribe, keeper.getSnapshot);
  const { control } = chat;
  const who = control?.holder === "user" ? "user" : chat.acting.length > 0 ? "agent" : undefined;
  return { who, control, chat, open: link.at === "open", keeper, state, stop: () => connection.stopAll() };
}

/** One line; brief: the second sentence only for screen readers. */
export function WhoLine({ who, brief = false }: { who: At["who"]; brief?: boolean }) {
  const line = "flex min-w-0 items-center gap-1.5 text-xs font-medium";
  if (who === "agent")
    return (
      <span className={`${line} text-accent-ink`}>
        <PointerIcon className="size-4 shrink-0" />
        <span>The agent is using the desktop</span>
      </span>
    );
  if (who === "user")
    return (
      <span className={`${line} text-good`}>
        <PersonIcon className="size-4 shrink-0" />
        <span>
          You have control.
          <span className={brief ? "sr-only" : ""}> The agent can't use mouse and keyboard.</span>
        </span>
      </span>
    );
  return null;
}

/** In the bar, or in a chip over the screen: full screen shows no bar, so the chip has the button. */
export function DesktopLine({ at, place }: { at: At; place: "bar" | "screen" | "full" }) {
  if (!at.who) return null;
  if (place === "bar") return <WhoLine who={at.who} brief />;
  return (
    <div className="flex items-center gap-2 rounded-b-lg border border-t-0 border-line bg-raised/95 px-2.5 py-1 shadow-lg">
      <WhoLine who={at.who} brief={place === "screen"} />
      {place === "full" && at.who === "user" && (
        <span className="pointer-events-auto">
          <GiveBack at={at} />
        </span>
      )}
    </div>
  );
}

const actions = {
  take: { label: "Take control", Icon: PointerIcon },
  give: { label: "Give back control", Icon: PersonIcon },
};

/** In the desktop's toolbar: takes control, or gives it back. brief: an icon. */
export function ControlButton({ at, brief, viewOnly }: { at: At; brief: boolean; viewOnly: boolean }) {
  const what = at.control?.holder === "user" ? "give" : "take";
  if (!at.control || (what === "take" && viewOnly)) return null;
  const { label, Icon } = actions[what];
  const { busy } = at.state;
  const press = () => void (what === "take" ? at.keeper.take() : at.keeper.give());
  return (
    <Toolbar.Button
      disabled={!at.open}
      render={
        brief ? (
          <IconButton
            label={label}
            aria-busy={busy !== undefined || undefined}
            className="data-disabled:cursor-not-allowed data-disabled:opacity-50"
            onClick={press}
          >
            <Icon />
          </IconButton>
        ) : (
          <Button
            size="small"
            busy={busy !== undefined}
            className="mr-1 data-disabled:cursor-not-allowed data-disabled:opacity-50"
            onClick={press}
          >
            {!busy && <Icon className="size-4" />}
            {label}
          </Button>
        )
      }
    />
  );
}

export function GiveBack({ at }: { at: At }) {
  return (
    <Button size="small" busy={at.state.busy === "give"} disabled={!at.open} onClick={() => void at.keeper.give()}>
      Give back control
    </Button>
  );
}

/** The seconds until the hold ends, if there are few. */
export function useSecondsLeft(control: Control | undefined): number | undefined {
  const now = useNow();
  if (control?.holder !== "user") return undefined;
  const seconds = Math.max(0, Math.ceil((control.until - now) / 1000));
  return seconds <= 30 ? seconds : undefined;
}

/** Warns before the hold ends. It changes every second, so only its appearance is announced. */
export function Ending({ at, plain = false }: { at: At; plain?: boolean }) {
  const left = useSecondsLeft(at.control);
  if (left === undefined) return null;
  return (
    <div className={plain ? "flex flex-wrap items-center gap-x-3 gap-y-1" : card}>
      <p className="min-w-0 flex-1 basis-48">
        <span className="sr-only">Control is going back to the agent soon.</span>
        <span aria-hidden="true" className="tabular-nums">
          Going back to the agent in {left} s.
        </span>{" "}
        Move the mouse over the desktop to keep control.
      </p>
      <Button size="small" busy={at.state.busy === "take"} disabled={!at.open} onClick={() => void at.keeper.take()}>
        Keep control
      </Button>
    </div>
  );
}

export const card =
  "pointer-events-auto flex w-full flex-wrap items-center gap-x-3 gap-y-2 rounded-lg border border-line bg-raised p-3 text-sm text-ink shadow-lg";

/** What a hold does not stop, and the one thing that does. */
export function goesOn({ control, chat }: Pick<At, "control" | "chat">): string | undefined {
  if (control?.holder !== "user" || !works(chat)) return undefined;
  return control.leased
    ? "The agent's next use of the computer is refused until you give control back. Its commands and its browser go on."
    : "You hold mouse and keyboard. The agent's commands and its browser go on.";
}

export function StopRun({ at }: { at: At }) {
  const [busy, setBusy] = useState(false);
  const stop = async () => {
    setBusy(true);
    try {
      await at.stop();
    } catch (error) {
      toast({ title: "The run could not be stopped.", detail: (error as Error).message, tone: "bad" });
    }
    setBusy(false);
  };
  return (
    <Button size="small" busy={busy} disabled={!at.open} onClick={() => void stop()}>
      Stop the run
    </Button>
  );
}

/** Above the chat. alone: the desktop, which says the same and more, is not shown. */
export function ChatLine({ at, alone }: { at: At; alone: boolean }) {
  const more = alone ? goesOn(at) : undefined;
  return (
    <div role={alone ? "status" : undefined}>
      {at.who && (
        <div
          className={`flex flex-col gap-1.5 border-b px-3 py-1.5 text-xs sm:px-5 ${at.who === "user" ? "border-good bg-good-soft" : "border-line bg-accent-soft"}`}
        >
          <div className="flex min-h-8 flex-wrap items-center gap-x-3 gap-y-1">
            <div className="min-w-0 flex-1 basis-48">
              <WhoLine who={at.who} />
              {more && <p className="text-ink">{more}</p>}
            </div>
            {more && <StopRun at={at} />}
            {at.who === "user" && <GiveBack at={at} />}
          </div>
          {alone && <Ending at={at} plain />}
        </div>
      )}
    </div>
  );
}
