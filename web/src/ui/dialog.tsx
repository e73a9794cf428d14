import type { ConfirmProps, DialogProps } from "./dialog-popup";
import { whenOpen } from "./later";

/** A dialog over the page. Escape and a click outside close it. */
export const Dialog = whenOpen<DialogProps>(async () => (await import("./dialog-popup")).DialogPopup);

/** Asks before something that cannot be undone. Cancel has the focus, so Enter cancels. */
export const ConfirmDialog = whenOpen<ConfirmProps>(async () => (await import("./dialog-popup")).ConfirmPopup);
