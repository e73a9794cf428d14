// The files of a message of the user. The agent hands no file out that it got, so small pictures come from this browser.
import { createContext, useContext, useEffect, useState } from "react";
import { part, usePart } from "@/ui/later";
import { isPicture } from "./files";
import type { Kind } from "./frames";
import type { Uploads } from "./uploads";

/** What is needed only once there are files. */
export const tray = part(() => import("./tray"));

/** Where the small pictures come from. */
export const FilesFrom = createContext<Pick<Uploads, "thumbs"> | undefined>(undefined);

/** Files shows the files of the message with this key. */
export function Files({ files, message }: { files: Kind[] | undefined; message: string | undefined }) {
  const from = useContext(FilesFrom);
  const { value } = usePart(tray, files !== undefined);
  const [thumbs, setThumbs] = useState<string[]>([]);
  const wanted = files?.some(isPicture) === true;
  useEffect(() => {
    if (!from || !wanted || message === undefined) return undefined;
    let here = true;
    from.thumbs(message).then(
      (found) => here && setThumbs(found),
      () => undefined, // they are shown by name
    );
    return () => {
      here = false;
    };
  }, [from, wanted, message]);
  if (!files) return null;
  if (value) return <value.Sent files={files} thumbs={thumbs} />;
  return <p className="text-xs text-muted">{files.map((f) => f.name).join(", ")}</p>;
}
