/**
 * Returns a unique id. crypto.randomUUID exists only in secure contexts, and a server may be reached over plain HTTP.
 */
export const newID = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
