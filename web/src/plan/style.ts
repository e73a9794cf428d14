/** The frame of the page's sections. */
export const card = "rounded-xl border border-line bg-panel p-4 sm:p-5";
