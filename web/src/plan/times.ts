// Dates and times in sentences about plans, in the user's time zone.

const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const time = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });

/** Returns a day: "3 January 2027". */
export const dayWords = (at: string) => day.format(new Date(at));

/** Returns a time as part of a sentence: "14:05 on 3 January 2027". */
export const timeWords = (at: string) => `${time.format(new Date(at))} on ${dayWords(at)}`;

/** Reports whether a time is yet to come. */
export const ahead = (at: string | null | undefined, now: number): at is string => !!at && Date.parse(at) > now;
