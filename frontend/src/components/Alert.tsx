import type { ReactElement } from "react";
import { Icon } from "./Icon";

/** A warning, told to screen readers as soon as it appears. */
export function Alert({ text, testId }: { text: string | null; testId?: string }): ReactElement {
  return (
    <div role="alert">
      {text !== null && (
        <p className="alert" data-testid={testId}>
          <Icon name="warning" />
          <span>{text}</span>
        </p>
      )}
    </div>
  );
}
