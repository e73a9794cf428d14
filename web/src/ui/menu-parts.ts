// What the menu and its popup share. The popup is loaded later and passes Base UI's menu to the items by context.
import type { Menu as BaseMenu } from "@base-ui/react/menu";
import { createContext, type ReactElement, type ReactNode } from "react";

export const Parts = createContext<typeof BaseMenu | undefined>(undefined);

export type MenuProps = {
  /** A button element that opens it. */
  trigger: ReactElement<Record<string, unknown>>;
  children: ReactNode;
  align?: "start" | "center" | "end";
  /** Where it is drawn: needed within a full-screen element. */
  container?: HTMLElement | null;
};
