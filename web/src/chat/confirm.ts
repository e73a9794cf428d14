// Which messages of the outbox have arrived, according to the session's history. A restarted agent no longer knows the
// keys that it accepted: a message that it has would run again.
import { confirmedBy, nextPage } from "./history";

const mostPages = 10;

/**
 * confirm asks for the pages of a history, newest first, until they show all keys or there are no more. unsure are the
 * keys that it did not find in the pages that it may ask for, if there are more.
 */
export async function confirm(
  ask: (offset: number) => Promise<unknown>,
  keys: string[],
): Promise<{ arrived: string[]; unsure: string[] }> {
  const missing = new Set(keys);
  const arrived: string[] = [];
  let offset: number | undefined = 0;
  for (let pages = 0; pages < mostPages && offset !== undefined; pages++) {
    const payload: unknown = await ask(offset);
    for (const key of confirmedBy(payload)) if (missing.delete(key)) arrived.push(key);
    offset = missing.size > 0 ? nextPage(payload, offset) : undefined;
  }
  return { arrived, unsure: offset === undefined ? [] : [...missing] };
}
