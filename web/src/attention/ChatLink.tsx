import { Link } from "@tanstack/react-router";
import type { ComponentProps, ReactNode } from "react";
import type { WorkspaceSearch } from "@/search";
import { sideBySide } from "@/views";

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
