import { expect, test } from "vitest";
import { priceWords } from "./price";
import type { Prices } from "./queries";

const prices: Prices = {
  currency: "USD",
  source: "a list",
  date: "2026-11-01",
  region: "us-east-1",
  types: [
    { instance_type: "t3.large", hourly_micros: 83_200 },
    { instance_type: "new.size", hourly_micros: null },
  ],
  disk_gib: 40,
  disk_gib_month_micros: 80_000,
  address_hourly_micros: 5_000,
  excluded: [],
};
const local = (hourly_micros: number | null): Prices => ({
  ...prices,
  region: "local",
  types: [{ instance_type: "local", hourly_micros }],
  disk_gib: 0,
});

test.each([
  [
    "t3.large",
    prices,
    "Costs about $0.08 an hour while running, $3.20 a month for its disk, and $0.005 an hour for its public address.",
  ],
  [
    "t3.large",
    { ...prices, address_hourly_micros: 0 },
    "Costs about $0.08 an hour while running, $3.20 a month for its disk.",
  ],
  ["new.size", prices, "The price of this size is not known. Its disk costs $3.20 a month."],
  ["new.size", { ...prices, disk_gib_month_micros: 0 }, "The price of this size is not known."],
  ["local", local(0), "Nothing is charged."],
  ["local", local(null), "Nothing is charged."],
  ["local", local(36_000_000), "Costs about $36.00 an hour while running."],
])("%s costs what the list says", (type, list, want) => {
  expect(priceWords(type, list)).toBe(want);
});
