// What a desktop of a size costs, before it is created.
import { useQuery } from "@tanstack/react-query";
import { price } from "./money";
import { pricesQuery, type Prices } from "./queries";

/** Returns what a desktop of a type costs, as a sentence. */
export function priceWords(type: string, prices: Prices): string {
  const hourly = prices.types.find((t) => t.instance_type === type)?.hourly_micros;
  if (type === "local") {
    // Such a desktop has neither a disk nor an address of its own.
    return hourly
      ? `Costs about ${price(hourly)} an hour while running.`
      : "Costs nothing: it runs on the server's own computer.";
  }
  const disk = prices.disk_gib * prices.disk_gib_month_micros;
  const kept = `${price(disk)} a month for its disk`;
  if (hourly == null) return `The price of this size is not known. Costs ${kept}.`;
  const address = prices.address_hourly_micros;
  const more = address > 0 ? ` and its public address ${price(address)} an hour` : "";
  return `Costs about ${price(hourly)} an hour while running, ${kept}${more}.`;
}

export function PriceLine({ type }: { type: string }) {
  const prices = useQuery(pricesQuery).data;
  return prices ? <span className="block text-muted">{priceWords(type, prices)}</span> : null;
}
