/** An id that nobody else has. crypto.randomUUID is there in secure contexts only, and a server may be reached by plain HTTP. */
export const newID = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
