// Amounts of invoices and prices as text. An amount is a whole number of the smallest unit that Stripe uses for its
// currency. No number with a fraction is used, so every amount is exact.

// Stripe's units are hundredths, but for these. They are not always those of ISO 4217, which the browser knows: Stripe
// counts the Icelandic króna and the Ugandan shilling in hundredths, and the Malagasy ariary in wholes.
const wholes = new Set("BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF".split(" "));
const thousandths = new Set("BHD JOD KWD OMR TND".split(" "));

/** Returns an amount in its currency: "$29.00", "¥500". locale: the user's if absent. */
export function amountWords(units: number, currency: string, locale?: string): string {
  const code = currency.toUpperCase();
  const decimals = wholes.has(code) ? 0 : thousandths.has(code) ? 3 : 2;
  const digits = String(Math.abs(units)).padStart(decimals + 1, "0");
  const whole = digits.slice(0, digits.length - decimals);
  const exact = `${units < 0 ? "-" : ""}${whole}.${digits.slice(digits.length - decimals)}` as `${number}`;
  try {
    const usual = new Intl.NumberFormat(locale, { style: "currency", currency: code }).resolvedOptions();
    return new Intl.NumberFormat(locale, {
      style: "currency",
      currency: code,
      minimumFractionDigits: Math.min(usual.minimumFractionDigits ?? decimals, decimals),
      maximumFractionDigits: Math.max(usual.maximumFractionDigits ?? decimals, decimals),
    }).format(exact);
  } catch {
    return `${exact.replace(/\.$/, "")} ${code}`; // not a code that the browser accepts
  }
}

export type Price = { amount: number; currency: string; interval: string };

/** Returns how often a price is paid: "a month", "every 3 months". */
export function everyWords(interval: string): string {
  const [, count, unit] = /^(\d+) (.+)$/.exec(interval) ?? [];
  return unit ? `every ${count} ${unit}s` : `a ${interval}`;
}

/** Returns a price: "$29.00 a month". */
export const priceWords = ({ amount, currency, interval }: Price, locale?: string) =>
  `${amountWords(amount, currency, locale)} ${everyWords(interval)}`;
