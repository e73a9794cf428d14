import { TextField } from "@/ui";

/** Asks for the account's password again. */
export function CurrentPassword({
  label,
  email,
  value,
  onChange,
  error,
}: {
  label: string;
  email: string;
  value: string;
  onChange: (password: string) => void;
  error: string | undefined;
}) {
  return (
    <>
      {/* Tells password managers which account the password belongs to. */}
      <input type="email" name="email" autoComplete="username" value={email} readOnly hidden />
      <TextField
        label={label}
        type="password"
        name="current-password"
        autoComplete="current-password"
        value={value}
        onChange={onChange}
        error={error}
      />
    </>
  );
}
