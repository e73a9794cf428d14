import { Popover } from "@base-ui/react/popover";
import { Toolbar } from "@base-ui/react/toolbar";
import { useRef, useState } from "react";
import { Button, IconButton } from "@/ui";
import { ClipboardIcon } from "@/ui/icons";
import type { ClipboardProblem, ClipboardState } from "./clipboard";
import type { Desktop } from "./Desktop";

/** The clipboard by hand: for browsers that refuse access, and to see what was transferred. */
export function ClipboardButton({
  desktop,
  state,
  connected,
  container,
}: {
  desktop: Desktop;
  state: ClipboardState;
  connected: boolean;
  container: HTMLElement | null;
}) {
  const isNew = connected && state.waiting;
  const automatic = connected && state.automatic;
  // The visible "Auto" is part of it.
  const name = `Clipboard${automatic ? " Auto" : ""}${isNew ? ": new text from the desktop" : automatic ? ": what you copy is sent to this desktop" : ""}`;
  return (
    <Popover.Root>
      <Popover.Trigger
        disabled={!connected}
        render={
          <Toolbar.Button
            disabled={!connected}
            render={
              <IconButton
                label={name}
                className={`relative data-disabled:cursor-not-allowed data-disabled:opacity-50 ${automatic ? "bg-accent-soft text-accent-ink" : ""}`}
              >
                <ClipboardIcon className={automatic ? "mb-2 size-4" : "size-5"} />
                {automatic && (
                  <span
                    aria-hidden="true"
                    className="absolute inset-x-0 bottom-px text-center text-[0.625rem] leading-none font-semibold"
                  >
                    Auto
                  </span>
                )}
                {isNew && (
                  <span aria-hidden="true" className="absolute top-1 right-1 size-2 rounded-full bg-accent-ink" />
                )}
              </IconButton>
            }
          />
        }
      />
      <Popover.Portal {...(container ? { container } : {})}>
        <Popover.Positioner align="end" sideOffset={6} collisionPadding={8} className="z-50">
          <Popover.Popup className="flex w-[min(22rem,calc(100vw-1rem))] flex-col gap-2.5 rounded-lg border border-line bg-raised p-3 text-sm text-ink shadow-lg">
            <Popover.Title className="font-semibold">Clipboard</Popover.Title>
            <Contents desktop={desktop} state={state} />
          </Popover.Popup>
        </Popover.Positioner>
      </Popover.Portal>
    </Popover.Root>
  );
}

function Contents({ desktop, state }: { desktop: Desktop; state: ClipboardState }) {
  const [draft, setDraft] = useState<string>(); // undefined: show the last transferred text
  const [said, setSaid] = useState("");
  const field = useRef<HTMLTextAreaElement>(null);
  const text = draft ?? state.text;
  const copy = async () => {
    if (await desktop.clipboard.take()) {
      setSaid("Copied.");
    } else {
      field.current?.select();
      setSaid("The browser refused. The text is selected; copy it with the keyboard.");
    }
  };
  const send = () => {
    if (desktop.clipboard.send(text, true) === "long") {
      setSaid(""); // the problem is shown below, and the draft stays
      return;
    }
    setDraft(undefined);
    setSaid("Sent. Paste it on the desktop.");
  };
  const switchAutomatic = async () => {
    const on = !state.automatic;
    await desktop.clipboard.setAutomatic(on);
    if (on && !desktop.clipboard.state.automatic)
      setSaid("The browser did not allow it. Text is sent when you paste it on the desktop.");
    else setSaid("");
  };
  return (
    <>
      <label className="flex flex-col gap-1">
        <span className="text-xs text-muted">
          {state.from === "desktop" && draft === undefined ? "Copied on the desktop" : "Text for the desktop"}
        </span>
        <textarea
          ref={field}
          value={text}
          onChange={(e) => setDraft(e.target.value)}
          rows={4}
          spellCheck={false}
          className="w-full resize-y rounded-md border border-outline bg-panel px-2 py-1.5 font-mono text-base sm:text-xs"
        />
      </label>
      <div className="flex flex-wrap gap-2">
        <Button
          size="small"
          variant="primary"
          onClick={send}
          disabled={text === "" || (text === state.text && state.from === "desktop")}
        >
          Send to the desktop
        </Button>
        <Button size="small" onClick={() => void copy()} disabled={state.text === "" || state.from !== "desktop"}>
          Copy to this device
        </Button>
      </div>
      <output className="text-xs text-muted empty:hidden">{said}</output>
      {state.problem && (
        <p role="alert" className="text-xs text-warn">
          {problemLine(state.problem)}
        </p>
      )}
      {state.latinOnly && (
        <p className="text-xs text-muted">This desktop's server accepts only Western European letters.</p>
      )}
      {state.mayRead === "prompt" || state.mayRead === "granted" ? (
        <div className="flex flex-col items-start gap-1.5 text-xs text-muted">
          {state.automatic
            ? "Whatever you copied elsewhere is sent to this desktop, and to its agent, each time you return to it."
            : "Text copied elsewhere is sent to the desktop when you paste it there."}
          <Button size="small" variant="quiet" onClick={() => void switchAutomatic()}>
            {state.automatic ? "Send only when I paste" : "Send automatically"}
          </Button>
        </div>
      ) : (
        <p className="text-xs text-muted">
          Copy and paste with the keyboard on the desktop.{" "}
          {state.mayRead === "denied"
            ? "To send text automatically, allow this page to read the clipboard in your browser's site settings."
            : "Your browser doesn't let pages read the clipboard automatically."}
        </p>
      )}
    </>
  );
}

export function problemLine(p: ClipboardProblem): string {
  if (p.kind === "long" && p.from === "here")
    return "The text is longer than 1 MiB, so it was not sent and nothing was pasted.";
  if (p.kind === "long")
    return `The text copied on the desktop${p.bytes > 0 ? ` (${p.bytes < 1e6 ? `${Math.round(p.bytes / 1000)} kB` : `${(p.bytes / 1e6).toFixed(1)} MB`})` : ""} is too long to transfer. You can still paste it on the desktop.`;
  if (p.kind === "revoked")
    return "Your browser no longer lets this page read the clipboard. Automatic sending is off; paste on the desktop to send text.";
  const few = p.characters.slice(0, 12).join(" ");
  return `The desktop received “?” instead of ${few}${p.characters.length > 12 ? " and others" : ""}.`;
}
