const controls = /\p{Cc}|[\u202a-\u202e\u2066-\u2069]/u;

/** Returns what is wrong with a desktop's name, in the server's words. */
export function nameError(name: string, may0 = false): string | undefined {
  const n = Array.from(name.trim()).length;
  if (n === 0 && !may0) return "Enter a name.";
  if (n > 64) return "Use at most 64 characters.";
  return controls.test(name) ? "Control characters are not allowed." : undefined;
}
