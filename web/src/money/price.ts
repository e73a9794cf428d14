// What a desktop of a size costs, in a sentence.
import { price } from "./money";
import type { Prices } from "./queries";

/** Returns what a desktop of a type costs. A local one has neither a disk nor an address of its own. */
export function priceWords(type: string, prices: Prices): string {
  const hourly = prices.types.find((t) => t.instance_type === type)?.hourly_micros;
  if (type === "local" && !hourly) return "Nothing is charged.";
  const disk = prices.disk_gib * prices.disk_gib_month_micros;
  const unknown = "The price of this size is not known.";
  if (hourly == null) return disk > 0 ? `${unknown} Its disk costs ${price(disk)} a month.` : unknown;
  const all = [`Costs about ${price(hourly)} an hour while running`];
  if (disk > 0) all.push(`${price(disk)} a month for its disk`);
  if (type !== "local" && prices.address_hourly_micros > 0)
    all.push(`and ${price(prices.address_hourly_micros)} an hour for its public address`);
  return `${all.join(", ")}.`;
}
