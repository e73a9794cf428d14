import type { ConfirmProps, DialogProps } from "./dialog-popup";
import { whenOpen } from "./later";

/** A dialog over the page. Escape and a click beside it close it. */
export const Dialog = whenOpen<DialogProps>(async () => (await import("./dialog-popup")).DialogPopup);

/** Asks before something that cannot be taken back. Cancel has the focus, so Enter cancels. */
export const ConfirmDialog = whenOpen<ConfirmProps>(async () => (await import("./dialog-popup")).ConfirmPopup);
