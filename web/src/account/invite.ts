// An invitation's code comes behind the # of a URL, which no server and no log gets to see.

/** The code in the fragment of a URL, "" without one. */
export function inviteIn(hash: string): string {
  const code = new URLSearchParams(hash.replace(/^#/, "")).get("invite") ?? "";
  return code.trim().slice(0, 100);
}
