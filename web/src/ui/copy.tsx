import { useEffect, useState } from "react";
import { Button } from "./button";
import { CheckIcon, CopyIcon } from "./icons";
import { toast } from "./toast";

/** Copies text; where the browser refuses, it says so. */
export function CopyButton({ text, label = "Copy", children = "Copy" }: { text: string; label?: string; children?: string }) {
  const [done, setDone] = useState(false);
  useEffect(() => {
    if (!done) return;
    const timer = setTimeout(() => setDone(false), 2_000);
    return () => clearTimeout(timer);
  }, [done]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setDone(true);
    } catch {
      toast({ tone: "warn", title: "The browser does not allow copying", detail: "Select the text and copy it by hand." });
    }
  };
  return (
    <Button size="small" onClick={() => void copy()} aria-label={label}>
      {done ? <CheckIcon className="size-4" /> : <CopyIcon className="size-4" />}
      <span aria-live="polite">{done ? "Copied" : children}</span>
    </Button>
  );
}
