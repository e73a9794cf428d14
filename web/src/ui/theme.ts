// The chosen theme; public/theme.js applies it before the first paint.
export type Theme = "system" | "light" | "dark";

const storageKey = "cloudbot.theme";

export function theme(): Theme {
  const t = localStorage.getItem(storageKey);
  return t === "light" || t === "dark" ? t : "system";
}

export function setTheme(t: Theme) {
  if (t === "system") {
    localStorage.removeItem(storageKey);
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem(storageKey, t);
    document.documentElement.dataset.theme = t;
  }
}
