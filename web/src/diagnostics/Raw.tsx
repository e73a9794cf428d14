import { useState } from "react";
import { Button } from "@/ui";
import { CopyButton } from "@/ui/copy";

/** A machine's text as it is. */
export function Text({ text, name }: { text: string; name: string }) {
  return (
    <pre
      tabIndex={0}
      role="region"
      aria-label={`${name}, text`}
      className="max-h-96 overflow-auto rounded-md border border-line bg-sunken p-3 font-mono text-xs leading-relaxed whitespace-pre-wrap [overflow-wrap:anywhere]"
    >
      {text}
    </pre>
  );
}

/** The whole report behind a button, to read, copy or save. */
export function Raw({ text, name, file }: { text: string; name: string; file: string }) {
  const [open, show] = useState(false);
  return (
    <div className="mt-4">
      <div className="flex flex-wrap gap-2">
        <Button size="small" aria-expanded={open} onClick={() => show(!open)}>
          {open ? "Hide" : "Show"} {name}
        </Button>
        {open && <CopyButton text={text} label={`Copy ${name}`} />}
        {open && (
          <Button size="small" onClick={() => save(text, file)} aria-label={`Download ${name}`}>
            Download
          </Button>
        )}
      </div>
      {open && (
        <div className="mt-2">
          <Text text={text} name={name} />
        </div>
      )}
    </div>
  );
}

function save(text: string, file: string) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // after the download has begun
}
