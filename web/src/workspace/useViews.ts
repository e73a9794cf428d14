import { useNavigate, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import type { View } from "@/search";
import { useMedia } from "@/ui/media";
import { arrange, sideBySide, stacked, type Arrangement, type Front } from "@/views";

const storageKey = "cloudbot.front";

/** Kept by the tab, so that a reload shows the same part. */
function savedFront(): Front {
  try {
    return sessionStorage.getItem(storageKey) === "chat" ? "chat" : "desktop";
  } catch {
    return "desktop";
  }
}

export interface Views extends Arrangement {
  choose: (view: View) => void;
  /** Is to be called when the user uses one of the two. */
  used: (part: Front) => void;
}

/** The view that the user chose, as far as the window has room for it. */
export function useViews(): Views {
  const { view: chosen } = useSearch({ from: "/signed-in/desktops/$id" });
  const navigate = useNavigate({ from: "/desktops/$id" });
  const [front, setFront] = useState(savedFront);
  const now = arrange(chosen, { sideBySide: useMedia(sideBySide), stacked: useMedia(stacked) }, front);
  const used = (part: Front) => {
    setFront(part);
    try {
      sessionStorage.setItem(storageKey, part);
    } catch {
      // A private window may refuse. A reload then shows the desktop.
    }
  };
  return {
    ...now,
    used,
    choose: (view) => {
      if (now.waits && view !== "both")
        used(view); // both come back when there is room
      else void navigate({ search: (s) => ({ ...s, view }), replace: true });
    },
  };
}
