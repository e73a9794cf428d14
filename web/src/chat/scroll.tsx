import type { ReactNode } from "react";

/** A box for content that may be larger than the box. It scrolls, so it can be reached by keyboard and has a name. */
export function Scroll({
  label,
  pre,
  className,
  children,
}: {
  label: string;
  pre?: boolean;
  className: string;
  children: ReactNode;
}) {
  const Tag = pre ? "pre" : "div";
  // oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex, jsx-a11y/prefer-tag-over-role
  return (
    <Tag tabIndex={0} role="group" aria-label={label} className={className}>
      {children}
    </Tag>
  );
}
