import type { ConfirmProps, DialogProps } from "./dialog-popup";
import { soon, whenOpen } from "./later";

const load = () => import("./dialog-popup");
if (typeof window !== "undefined") soon(load);

/** A dialog over the page. Escape and a click beside it close it. */
export const Dialog = whenOpen<DialogProps>(async () => (await load()).DialogPopup);

/** Asks before something that cannot be taken back. Cancel has the focus, so Enter cancels. */
export const ConfirmDialog = whenOpen<ConfirmProps>(async () => (await load()).ConfirmPopup);
