// Runs before the first paint, so that the other theme does not flash.
try {
  const theme = localStorage.getItem("cloudbot.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // no storage: use the system's theme
}
