// The fields of an idle policy.
import { useId, type ReactNode } from "react";
import { TextField } from "@/ui";
import { choices, own, unitsFor, type Duration, type Fields, type Wrong } from "./form";
import { long } from "./times";

const select = "min-h-10 w-full max-w-full rounded-md border border-outline bg-panel px-3 text-base sm:text-sm";

function DurationField({
  label,
  hint,
  none,
  offered,
  value,
  onChange,
  error,
  shortest,
}: {
  label: string;
  hint?: ReactNode;
  /** What no duration means. */
  none: string;
  offered: readonly number[];
  value: Duration;
  onChange: (d: Duration) => void;
  error: string | undefined;
  shortest: number;
}) {
  const id = useId();
  return (
    <div className="flex flex-col gap-1.5">
      <label htmlFor={id} className="text-sm font-medium">
        {label}
      </label>
      <select
        id={id}
        value={value.choice}
        onChange={(e) => onChange({ ...value, choice: e.target.value })}
        aria-invalid={error && value.choice !== own ? true : undefined}
        aria-describedby={hint ? `${id}-hint` : undefined}
        className={select}
      >
        {offered.map((s) => (
          <option key={s} value={s}>
            {long(s)}
          </option>
        ))}
        <option value={own}>Another time…</option>
        <option value="0">{none}</option>
      </select>
      {value.choice === own ? (
        <div className="grid grid-cols-2 items-start gap-2">
          <TextField
            label={<span className="sr-only">{label}, number</span>}
            inputMode="numeric"
            autoComplete="off"
            value={value.number}
            onChange={(number) => onChange({ ...value, number })}
            error={error}
          />
          <div className="flex flex-col gap-1.5">
            <label htmlFor={`${id}-unit`} className="text-sm font-medium">
              <span className="sr-only">{label}, unit</span>
            </label>
            <select
              id={`${id}-unit`}
              value={value.unit}
              onChange={(e) => onChange({ ...value, unit: e.target.value })}
              className={select}
            >
              {[...new Set([...unitsFor(shortest), value.unit])].map((u) => (
                <option key={u} value={u}>
                  {u}
                </option>
              ))}
            </select>
          </div>
        </div>
      ) : (
        error && (
          <p role="alert" className="text-sm text-bad">
            {error}
          </p>
        )
      )}
      {hint && (
        <p id={`${id}-hint`} className="text-sm text-muted">
          {hint}
        </p>
      )}
    </div>
  );
}

/** withKeep: with a time until which a desktop keeps running. */
export function PolicyFields({
  fields,
  onChange,
  wrong,
  shortest,
  withKeep,
}: {
  fields: Fields;
  onChange: (f: Fields) => void;
  wrong: Wrong;
  shortest: number;
  withKeep: boolean;
}) {
  const name = useId();
  return (
    <div className="flex flex-col gap-5">
      <DurationField
        label="Stop after this time without use"
        none="Never for being idle"
        hint="Use is your input, a chat message, an agent that works, a question to you, and a busy terminal."
        offered={choices.after}
        value={fields.after}
        onChange={(after) => onChange({ ...fields, after })}
        error={wrong.after}
        shortest={shortest}
      />
      <DurationField
        label="Stop after this time without you"
        none="Never"
        hint="Until then, a desktop is never stopped while its agent works. After it, the desktop stops even if the agent works."
        offered={choices.ceiling}
        value={fields.ceiling}
        onChange={(ceiling) => onChange({ ...fields, ceiling })}
        error={wrong.ceiling}
        shortest={shortest}
      />
      <DurationField
        label="Warn this long before"
        none="No warning"
        offered={choices.warn}
        value={fields.warn}
        onChange={(warn) => onChange({ ...fields, warn })}
        error={wrong.warn}
        shortest={shortest}
      />
      {withKeep && (
        <TextField
          label="Keep running until"
          type="datetime-local"
          value={fields.keep}
          onChange={(keep) => onChange({ ...fields, keep })}
          error={wrong.keep}
          hint="Optional. The desktop does not stop by itself before this time; a reached budget stops it all the same."
        />
      )}
      <fieldset>
        <legend className="mb-1.5 text-sm font-medium">When a job of the agent's schedule is due</legend>
        {(
          [
            ["wake", "Start the desktop for it"],
            ["sleep", "Sleep through it; the agent runs it after the next start"],
          ] as const
        ).map(([jobs, label]) => (
          <label key={jobs} className="flex min-h-8 items-center gap-2.5 text-sm">
            <input
              type="radio"
              name={name}
              checked={fields.jobs === jobs}
              onChange={() => onChange({ ...fields, jobs })}
              className="size-4 shrink-0 accent-accent"
            />
            {label}
          </label>
        ))}
      </fieldset>
    </div>
  );
}
