// Loaded later: what a desktop of the size costs that is created if its user chooses none.
import { useQuery } from "@tanstack/react-query";
import { typesQuery } from "@/api/queries";
import { PriceLine } from "./PriceLine";

export function DefaultPrice() {
  const types = useQuery(typesQuery).data;
  return types ? <PriceLine type={types.default} /> : null;
}
