import { Link } from "@tanstack/react-router";
import type { ComponentProps, ReactNode } from "react";
import type { WorkspaceSearch } from "@/search";
import { sideBySide } from "@/views";
import type { Waiting } from "./waiting";

/** Returns the view of a desktop that shows its chat: with the screen, if there is room. */
export const chatView = (): WorkspaceSearch => ({ view: matchMedia(sideBySide).matches ? "both" : "chat" });

/** A link to a desktop's chat. */
export function ChatLink({
  id,
  children,
  ...rest
}: { id: string; children?: ReactNode } & Pick<ComponentProps<"a">, "className" | "title">) {
  return (
    <Link to="/desktops/$id" params={{ id }} search={chatView} {...rest}>
      {children}
    </Link>
  );
}

/** Returns the view of a desktop in which it waits: its chat, or the view that the user chose. */
export const viewOf = (w: Pick<Waiting, "stops">): WorkspaceSearch => (w.stops ? {} : chatView());

/** A link to the desktop that waits. */
export function WaitsLink({
  of,
  children,
  ...rest
}: { of: Waiting; children?: ReactNode } & Pick<ComponentProps<"a">, "className" | "title">) {
  return (
    <Link to="/desktops/$id" params={{ id: of.id }} search={() => viewOf(of)} {...rest}>
      {children}
    </Link>
  );
}
