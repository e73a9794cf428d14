import { useEffect, useState } from "react";
import { Button } from "./button";
import { CheckIcon, CopyIcon } from "./icons";
import { toast } from "./toast";

/** Copies a text and reports the outcome for two seconds. */
export function useCopy(text: string): { outcome: "" | "copied" | "refused"; copy: () => Promise<boolean> } {
  const [outcome, setOutcome] = useState<"" | "copied" | "refused">("");
  useEffect(() => {
    if (!outcome) return;
    const timer = setTimeout(() => setOutcome(""), 2_000);
    return () => clearTimeout(timer);
  }, [outcome]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setOutcome("copied");
      return true;
    } catch {
      setOutcome("refused");
      return false;
    }
  };
  return { outcome, copy };
}

/** Copies text; reports if the browser refuses. */
export function CopyButton({
  text,
  label = "Copy",
  children = "Copy",
}: {
  text: string;
  label?: string;
  children?: string;
}) {
  const { outcome, copy } = useCopy(text);
  const done = outcome === "copied";
  const press = async () => {
    if (!(await copy()))
      toast({
        tone: "warn",
        title: "The browser does not allow copying",
        detail: "Select the text and copy it by hand.",
      });
  };
  return (
    <Button size="small" onClick={() => void press()} aria-label={label}>
      {done ? <CheckIcon className="size-4" /> : <CopyIcon className="size-4" />}
      <span aria-live="polite">{done ? "Copied" : children}</span>
    </Button>
  );
}
