import { useQuery } from "@tanstack/react-query";
import { priceWords } from "./price";
import { pricesQuery } from "./queries";

/** What a desktop of a size costs, before it is created. */
export function PriceLine({ type }: { type: string }) {
  const prices = useQuery(pricesQuery).data;
  return prices ? <span className="block text-muted">{priceWords(type, prices)}</span> : null;
}
