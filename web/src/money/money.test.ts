import { describe, expect, test } from "vitest";
import { dollars, exactly, mostMicros, parseDollars, plain, price, priceOf } from "./money";

test.each([
  [0, "$0.00", "$0.00"],
  [1, "less than $0.01", "$0.000001"],
  [9_999, "less than $0.01", "$0.009999"],
  [10_000, "$0.01", "$0.01"],
  [19_999, "$0.01", "$0.019999"],
  [277_333, "$0.27", "$0.277333"],
  [3_200_000, "$3.20", "$3.20"],
  [83_200, "$0.08", "$0.0832"],
  [999_999_999, "$999.99", "$999.999999"],
  [1_234_500_000, "$1,234.50", "$1,234.50"],
  [mostMicros, "$1,000,000.00", "$1,000,000.00"],
])("%i micro-dollars are %s, exactly %s", (micros, rounded, all) => {
  expect(dollars(micros)).toBe(rounded);
  expect(exactly(micros)).toBe(all);
});

test.each([
  [83_200, "$0.08"],
  [5_000, "$0.005"],
  [9_999, "$0.009999"],
  [10_400, "$0.01"],
  [166_400, "$0.17"],
  [3_200_000, "$3.20"],
  [3_204_999, "$3.20"],
  [3_205_000, "$3.21"],
])("a price of %i is about %s", (micros, want) => {
  expect(price(micros)).toBe(want);
});

describe("a typed amount", () => {
  test.each([
    ["", null],
    ["  ", null],
    ["0", 0],
    ["5", 5_000_000],
    ["5.", 5_000_000],
    ["$5", 5_000_000],
    [" $ 12.50 ", 12_500_000],
    ["0.1", 100_000],
    ["0.29", 290_000], // 0.29 * 1e6 is 290000.00000000006 or less as a number with a fraction
    ["4.35", 4_350_000],
    ["1.000001", 1_000_001],
    ["1,234.56", 1_234_560_000],
    ["0000000012", 12_000_000],
    ["1000000", mostMicros],
  ])("%j is %s", (text, micros) => {
    expect(parseDollars(text)).toEqual({ micros });
  });

  test.each([
    "a",
    "-1",
    "+1",
    "1e3",
    "5,50",
    "1.2.3",
    "1,23,456",
    "1.0000001",
    "1000000.000001",
    "99999999",
    "5 5",
    "٣",
  ])("%j is refused", (text) => {
    expect(parseDollars(text)).toHaveProperty("wrong");
  });

  test("is read as it is written into the field", () => {
    for (const micros of [0, 1, 290_000, 1_234_567, 1_234_567_891, mostMicros])
      expect(parseDollars(plain(micros))).toEqual({ micros });
  });
});

test.each([
  [83_200, 12_000, 277_333],
  [83_200, 3_600, 83_200],
  [83_200, 1, 23],
  [83_200, 0, 0],
  [1_000_000_000, 365 * 86_400, 8_760_000_000_000],
  [999_999_999_999, 3_599, 999_722_222_221],
])("at %i an hour, %i seconds cost %i", (hourly, seconds, want) => {
  expect(priceOf(hourly, seconds)).toBe(want);
});
