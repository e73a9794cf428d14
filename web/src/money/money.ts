// Amounts of money as text. An amount is a whole number of micro-dollars: 1,000,000 are a dollar. No number with a
// fraction is used, so every amount is exact.

/** The largest amount that a user can type: a million dollars. */
export const mostMicros = 1_000_000_000_000;

const micro = 1_000_000;
const cent = 10_000;

const grouped = (whole: number) => String(whole).replaceAll(/\B(?=(\d{3})+$)/g, ",");

/** Returns an amount in dollars and cents, rounded down: "$1,234.50". A smaller amount than a cent is named as such. */
export function dollars(micros: number): string {
  if (micros > 0 && micros < cent) return "less than $0.01";
  const cents = Math.floor(micros / cent);
  return `$${grouped(Math.floor(cents / 100))}.${String(cents % 100).padStart(2, "0")}`;
}

/** Returns an amount with all its decimals, at least two: "$0.0832". */
export function exactly(micros: number): string {
  const rest = String(micros % micro)
    .padStart(6, "0")
    .replace(/0{1,4}$/, "");
  return `$${grouped(Math.floor(micros / micro))}.${rest}`;
}

/** Returns a price to the nearest cent, because it is said as about so much; below one cent with all its decimals. */
export function price(micros: number): string {
  return micros < cent ? exactly(micros) : exactly(Math.floor((micros + cent / 2) / cent) * cent);
}

/** Returns an amount as the text of a field: without a sign and without groups. */
export const plain = (micros: number) => exactly(micros).replaceAll(/[$,]/g, "");

/** Reads what a user typed: an amount in micro-dollars, nothing for an empty field, or what is wrong. */
export function parseDollars(text: string): { micros: number | null } | { wrong: string } {
  const trimmed = text.trim();
  if (trimmed === "") return { micros: null };
  const [, whole, rest = ""] = /^\$?\s*(\d+|\d{1,3}(?:,\d{3})+)(?:\.(\d*))?$/.exec(trimmed) ?? [];
  if (whole === undefined) return { wrong: "Enter an amount in dollars, such as 12.50." };
  if (rest.length > 6) return { wrong: "Use at most six decimals." };
  const digits = whole.replaceAll(",", "").replace(/^0+(?=\d)/, "");
  if (digits.length > 7) return { wrong: "Enter at most a million dollars." };
  const micros = Number(digits) * micro + Number(rest.padEnd(6, "0"));
  return micros > mostMicros ? { wrong: "Enter at most a million dollars." } : { micros };
}

/** Returns what some seconds cost at a price for an hour, rounded down. */
export const priceOf = (hourlyMicros: number, seconds: number) =>
  // Split, because the product of a high price and a long time has more digits than a number holds.
  Math.floor(seconds / 3_600) * hourlyMicros + Math.floor(((seconds % 3_600) * hourlyMicros) / 3_600);
