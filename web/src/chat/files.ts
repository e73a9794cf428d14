// Files that the user sends with a message: their limits, and how they travel.
import { num, rec, type Kind, type Rec } from "./frames";

/** Attached is a file that waits in the composer or to be sent. */
export interface Attached extends Kind {
  blob: Blob;
  origin: "paste" | "file";
  thumb?: string; // a data: URL of a small picture
  was?: number; // bytes before the picture was scaled down
}

export interface Limits {
  bytes: number; // of a file
  image: number; // of a picture
  frame: number; // of a whole message, with files in base64
}

export const mostFiles = 10; // of a message
const usual: Limits = { bytes: 19_464_192, image: 6_291_456, frame: 26_214_400 };

const least = (v: unknown, most: number) => Math.max(0, Math.min(num(v) ?? most, most));

/** limitsIn reads the limits of the agent's hello. Those of the way to it are not exceeded. */
export function limitsIn(policy: Rec): Limits {
  const said = rec(policy.attachments);
  const frame = least(policy.maxPayload, usual.frame);
  return { bytes: least(said.maxBytes, usual.bytes), image: least(said.maxImageBytes, usual.image), frame };
}

export const isPicture = (f: Kind) => f.type.startsWith("image/");

/** kindOf returns what is said of a file in the outbox. */
export const kindOf = ({ name, type, bytes }: Kind): Kind => ({ name, type, bytes });

/** Returns the length in UTF-8. */
export const lengthOf = (text: string) => new TextEncoder().encode(text).length;

const around = 2_048; // bytes of a frame around its text and files
const aroundFile = 512;

/** frameOf returns how many bytes a message takes at most on its way. */
export const frameOf = (text: string, files: readonly Kind[]) =>
  around +
  lengthOf(JSON.stringify(text)) +
  files.reduce((n, f) => n + aroundFile + 3 * f.name.length + 4 * Math.ceil(f.bytes / 3), 0);

/** mb returns bytes in megabytes, or smaller units, rounded down. */
export const mb = (bytes: number) =>
  bytes < 1_000_000
    ? `${Math.max(1, Math.floor(bytes / 1_000))} KB`
    : `${(Math.floor(bytes / 100_000) / 10).toFixed(1)} MB`;

/** objection returns why a file is not accepted; "": it is. */
export function objection(f: Kind, limits: Limits): string {
  if (f.bytes === 0) return `“${f.name}” is empty, or a folder. Put a folder into a zip file first.`;
  if (isPicture(f) && f.bytes > limits.image)
    return `“${f.name}” has ${mb(f.bytes)}, and a picture can have ${mb(limits.image)}. Make it smaller and attach it again.`;
  if (f.bytes > limits.bytes)
    return `“${f.name}” has ${mb(f.bytes)}, and a file can have ${mb(limits.bytes)}. Compress or split it, or download it on the desktop.`;
  return "";
}

/** tooMuch returns why a text and its files do not fit in one message; "": they do. */
export function tooMuch(text: string, files: readonly Kind[], limits: Limits): string {
  if (files.length > mostFiles)
    return `A message can have ${mostFiles} files. Send the others in another message, or put them into a zip file.`;
  const over = frameOf(text, files) - limits.frame;
  if (over <= 0) return "";
  const most = Math.floor(((limits.frame - around - lengthOf(text)) * 3) / 4);
  return `The files of a message can have ${mb(most)} together, and these have ${mb(files.reduce((n, f) => n + f.bytes, 0))}. Remove one and send it in another message.`;
}
