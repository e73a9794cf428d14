// An invitation code comes after the # of a URL, so it reaches no server and no log.

/** Returns the code in the fragment of a URL, "" if there is none. */
export function inviteIn(hash: string): string {
  const code = new URLSearchParams(hash.replace(/^#/, "")).get("invite") ?? "";
  return code.trim().slice(0, 100);
}
