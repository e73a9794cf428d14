import { useState, type ReactNode } from "react";
import type { Instance } from "@/api/client";
import { ConfirmDialog } from "@/ui";
import { useStop } from "./commands";
import { interrupted } from "./stopping";

/** Stopping a desktop: it asks first if that interrupts the agent. The dialog belongs beside the control. */
export function useStopping(i: Instance): { stop: () => void; busy: boolean; dialog: ReactNode } {
  const stop = useStop();
  const [asking, ask] = useState<string[]>(); // as they were at the press: what is read stays
  const press = () => {
    const ends = interrupted(i);
    if (ends.length > 0) ask(ends);
    else stop.mutate({ instance: i, arg: undefined });
  };
  const dialog = (
    <ConfirmDialog
      open={asking !== undefined}
      onClose={() => ask(undefined)}
      title={`Stop ${i.name}?`}
      action="Stop"
      onConfirm={async () => {
        await stop.mutateAsync({ instance: i, arg: undefined });
      }}
    >
      {asking?.map((sentence) => (
        <p key={sentence} className="mb-2">
          {sentence}
        </p>
      ))}
      <p>Programs on the desktop are closed. The files on its disk are kept, and you can start it again.</p>
    </ConfirmDialog>
  );
  return { stop: press, busy: stop.isPending, dialog };
}
