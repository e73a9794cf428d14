// What the composer needs once there are files: it is loaded then. See files.ts for the limits.
import type { ReactNode } from "react";
import { IconButton } from "@/ui";
import { CloseIcon, FileIcon } from "@/ui/icons";
import { isPicture, mb, mostFiles, objection, type Attached, type Limits } from "./files";
import type { Kind } from "./frames";
import { size } from "./words";

const thumbSide = 320; // px
const mostThumb = 64 << 10; // characters

/** take adds files to those there. problem says which are left out, and why. */
export async function take(
  chosen: readonly File[],
  there: readonly Attached[],
  origin: Attached["origin"],
  limits: Limits,
): Promise<{ files: Attached[]; problem: string }> {
  const files = [...there];
  const problems: string[] = [];
  for (const file of chosen) {
    if (files.length >= mostFiles) {
      problems.push(
        `A message can have ${mostFiles} files. Send the others in another message, or put them into a zip file.`,
      );
      break;
    }
    const name = file.name || (file.type.startsWith("image/") ? "picture.png" : "file");
    let one: Attached = { name, type: file.type, bytes: file.size, blob: file, origin };
    if (isPicture(one)) one = await pictured(one, limits);
    const problem = objection(one, limits) || (await unreadable(one));
    if (problem) problems.push(problem);
    else files.push(one);
  }
  return { files, problem: problems.join(" ") };
}

/** A folder looks like a small file until it is read. */
async function unreadable({ blob, name }: Attached): Promise<string> {
  try {
    await blob.slice(0, 1).arrayBuffer();
    return "";
  } catch {
    return `“${name}” can't be read. If it is a folder, put it into a zip file first.`;
  }
}

/** pictured adds a small picture, and scales a picture down that is too large. */
async function pictured(f: Attached, limits: Limits): Promise<Attached> {
  let image: ImageBitmap;
  try {
    image = await createImageBitmap(f.blob);
  } catch {
    return f; // a kind that this browser can't draw
  }
  try {
    const thumb = await drawn(image, Math.min(1, thumbSide / Math.max(image.width, image.height)), 0.8).then(dataURL);
    const with_ = thumb.length <= mostThumb ? { ...f, thumb } : f;
    return f.bytes > limits.image && f.type !== "image/gif" ? await smaller(with_, image, limits.image) : with_;
  } catch {
    return f;
  } finally {
    image.close();
  }
}

/** smaller scales a picture down until it has at most so many bytes. */
async function smaller(f: Attached, image: ImageBitmap, most: number): Promise<Attached> {
  let scale = Math.min(1, 4_096 / Math.max(image.width, image.height));
  for (let tries = 0; tries < 5; tries++) {
    const blob = await drawn(image, scale, 0.85);
    if (blob.size <= most) {
      const name = f.name.replace(/\.[^.]*$/, "") + ".jpg";
      return { ...f, name, type: blob.type, bytes: blob.size, blob, was: f.bytes };
    }
    scale *= Math.min(0.9, Math.sqrt(most / blob.size));
  }
  return f;
}

function drawn(image: ImageBitmap, scale: number, quality: number): Promise<Blob> {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.width * scale));
  canvas.height = Math.max(1, Math.round(image.height * scale));
  const pen = canvas.getContext("2d");
  if (!pen) return Promise.reject(new Error("no canvas"));
  pen.fillStyle = "#fff"; // behind what is transparent: JPEG has no transparency
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve, reject) =>
    canvas.toBlob((b) => (b ? resolve(b) : reject(new Error("no picture"))), "image/jpeg", quality),
  );
}

export function dataURL(blob: Blob): Promise<string> {
  const reader = new FileReader();
  return new Promise((resolve, reject) => {
    reader.addEventListener("load", () => resolve(String(reader.result)));
    reader.addEventListener("error", () => reject(reader.error ?? new Error("unreadable")));
    reader.readAsDataURL(blob);
  });
}

/** Tray shows the files of the message that is being written. */
export function Tray({ files, onRemove }: { files: readonly Attached[]; onRemove: (nth: number) => void }) {
  return (
    <ul aria-label="Attached files" className="mx-auto flex max-w-3xl flex-wrap gap-1.5 pb-1.5">
      {files.map((f, n) => (
        // oxlint-disable-next-line react/no-array-index-key -- two files may be the same
        <li key={`${n} ${f.name}`} className="flex max-w-full min-w-0">
          <Chip file={f} thumb={f.thumb} more={f.was === undefined ? "" : `, scaled down from ${mb(f.was)}`}>
            <IconButton label={`Remove ${f.name}`} className="-my-1 size-7 shrink-0" onClick={() => onRemove(n)}>
              <CloseIcon className="size-3.5" />
            </IconButton>
          </Chip>
        </li>
      ))}
    </ul>
  );
}

/** Sent shows the files of a message that was sent, or waits to be. */
export function Sent({ files, thumbs }: { files: readonly Kind[]; thumbs: readonly string[] }) {
  return (
    <ul aria-label="Files of this message" className="flex max-w-full flex-col items-end gap-1.5">
      {files.map((f, n) => (
        // oxlint-disable-next-line react/no-array-index-key -- they never change
        <li key={n} className="max-w-full min-w-0">
          {thumbs[n] ? (
            <img
              src={thumbs[n]}
              alt={f.name}
              title={`${f.name}, ${size(f.bytes)}`}
              className="max-h-64 max-w-full rounded-lg border border-line object-contain"
            />
          ) : (
            <Chip file={f} />
          )}
        </li>
      ))}
    </ul>
  );
}

type ChipProps = { file: Kind; thumb?: string | undefined; more?: string; children?: ReactNode };

/** Chip is a file's small picture or icon, name and size. */
export function Chip({ file, thumb, more = "", children }: ChipProps) {
  return (
    <span className="flex max-w-full min-w-0 items-center gap-2 rounded-lg border border-line bg-sunken py-1 pr-1.5 pl-1.5 text-left text-xs text-ink">
      {thumb ? (
        <img src={thumb} alt="" className="size-9 shrink-0 rounded-md object-cover" />
      ) : (
        <FileIcon className="size-5 shrink-0 text-muted" />
      )}
      <span className="min-w-0">
        <span className="block truncate">{file.name}</span>
        <span className="block text-muted">
          {size(file.bytes)}
          {more}
        </span>
      </span>
      {children}
    </span>
  );
}
