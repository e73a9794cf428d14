// The desktop and the chat, and between them who uses the desktop.
import { useSyncExternalStore, type ReactNode } from "react";
import type { ChatConnection } from "@/chat/connection";
import type { Desktop } from "@/desktop/Desktop";
import { DesktopPanel, type Beside } from "@/desktop/DesktopPanel";
import { least } from "@/views";
import { ChatLine, ControlButton, DesktopLine, useAt } from "./AtDesktop";
import { Cards, type CardsProps } from "./Cards";
import { Splitter } from "./Splitter";
import type { Views } from "./useViews";

type Props = {
  connection: ChatConnection;
  desktop: Desktop;
  name: string;
  onEnd: (action: "sign_in" | "leave") => void;
  views: Views;
  /** Shows the chat, beside the desktop if there is room. */
  onChat: () => void;
  /** Cards over a full screen, about what the rest of the page says. */
  warning: ReactNode;
  /** The chat. */
  children: ReactNode;
};

export function Both({ connection, desktop, name, onEnd, views, onChat, warning, children }: Props) {
  const { view, vertical } = views;
  const at = useAt(connection, desktop);
  const { mode } = useSyncExternalStore(desktop.subscribe, desktop.getSnapshot);
  const panel = (
    <DesktopPanel
      desktop={desktop}
      name={name}
      onEnd={onEnd}
      beside={beside({ at, connection, prompts: view === "desktop", onChat, warning }, mode === "view")}
    />
  );
  return (
    <Splitter
      first={view === "chat" ? null : panel}
      second={
        <div className="flex h-full flex-col">
          <ChatLine at={at} alone={view === "chat"} />
          <div className="min-h-0 flex-1">{children}</div>
        </div>
      }
      vertical={vertical}
      only={view === "desktop" ? "first" : view === "chat" ? "second" : undefined}
      smallest={vertical ? [least.desktop.height, least.chat.height] : [least.desktop.width, least.chat.width]}
      onFocus={(part) => views.used(part === "first" ? "desktop" : "chat")}
    />
  );
}

const beside = ({ warning, ...cards }: CardsProps & { warning: ReactNode }, viewOnly: boolean): Beside => ({
  who: cards.at.who,
  line: (place) => <DesktopLine at={cards.at} place={place} />,
  button: (brief) => <ControlButton at={cards.at} brief={brief} viewOnly={viewOnly} />,
  cards: (full) =>
    full ? (
      <>
        {warning}
        <Cards {...cards} prompts onChat={undefined} />
      </>
    ) : (
      <Cards {...cards} />
    ),
});
