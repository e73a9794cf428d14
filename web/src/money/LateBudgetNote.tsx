import { part, usePart } from "@/ui/later";

const note = part(async () => (await import("@/usage/BudgetNote")).BudgetNote);

/** That a reached budget keeps a desktop from running; nothing until that is known. */
export function LateBudgetNote(props: { id: string; className?: string }) {
  const { value: Note } = usePart(note, true);
  return Note ? <Note {...props} /> : null;
}
