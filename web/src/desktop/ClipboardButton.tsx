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
  return (
    <Popover.Root>
      <Popover.Trigger
        disabled={!connected}
        render={
          <Toolbar.Button
            disabled={!connected}
            render={
              <IconButton
                label={isNew ? "Clipboard: new text from the desktop" : "Clipboard"}
                className="relative data-disabled:cursor-not-allowed data-disabled:opacity-50"
              >
                <ClipboardIcon />
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
    if (desktop.clipboard.send(text) === "long") {
      setSaid(""); // the problem is shown below, and the draft stays
      return;
    }
    setDraft(undefined);
    setSaid("Sent. Paste it on the desktop.");
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
        <Button size="small" variant="primary" onClick={send} disabled={text === "" || text === state.text}>
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
      {state.mayRead === "prompt" ? (
        <div className="flex flex-col items-start gap-1.5 text-xs text-muted">
          Text copied elsewhere is sent to the desktop when you paste. To send it automatically:
          <Button size="small" variant="quiet" onClick={() => void desktop.clipboard.allow()}>
            Allow clipboard access
          </Button>
        </div>
      ) : (
        <p className="text-xs text-muted">
          {state.mayRead === "granted"
            ? "Text copied elsewhere is sent to the desktop automatically."
            : "Copy and paste with the keyboard on the desktop. Your browser doesn't let pages read the clipboard automatically."}
        </p>
      )}
    </>
  );
}

export function problemLine(p: ClipboardProblem): string {
  if (p.kind === "long")
    return p.from === "desktop"
      ? "The text copied on the desktop is longer than 1 MiB, so it was not transferred."
      : "The text is longer than 1 MiB, so it was not sent and nothing was pasted.";
  const few = p.characters.slice(0, 12).join(" ");
  return `The desktop received “?” instead of ${few}${p.characters.length > 12 ? " and others" : ""}.`;
}
