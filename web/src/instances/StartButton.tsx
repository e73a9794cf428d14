import type { Instance } from "@/api/client";
import { Button } from "@/ui";
import { PlayIcon } from "@/ui/icons";
import { possible, useStart } from "./commands";

/** Starts a stopped desktop. While it still stops, the button waits; in any other state there is none. */
export function StartButton({ instance: i, size = "normal" }: { instance: Instance; size?: "small" | "normal" }) {
  const start = useStart();
  const waits = i.status === "stopping";
  if (!possible(i).start && !waits) return null;
  return (
    <Button
      variant="primary"
      size={size}
      busy={start.isPending}
      disabled={waits}
      title={waits ? "It can be started once it has stopped" : undefined}
      onClick={() => start.mutate({ instance: i, arg: undefined })}
    >
      <PlayIcon />
      Start<span className="sr-only"> {i.name}</span>
    </Button>
  );
}
