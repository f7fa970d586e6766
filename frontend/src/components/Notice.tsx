import type { ReactElement, ReactNode } from "react";
import { useFocusOnMount } from "./hooks";
import { Icon, type IconName } from "./Icon";

/** A screen that says one thing. */
export function Notice({
  icon,
  title,
  busy = false,
  children,
}: {
  icon: IconName;
  title: string;
  busy?: boolean;
  children?: ReactNode;
}): ReactElement {
  const heading = useFocusOnMount<HTMLHeadingElement>();
  return (
    <main className="notice">
      <div className="notice-card">
        {busy ? <span className="spinner" aria-hidden="true" /> : <Icon name={icon} className="notice-icon" />}
        <h1 ref={heading} tabIndex={-1}>
          {title}
        </h1>
        {children}
      </div>
    </main>
  );
}
