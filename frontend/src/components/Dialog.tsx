import { useEffect, useRef, type ReactElement, type ReactNode } from "react";
import { texts } from "../texts";
import { Icon } from "./Icon";

/** A modal dialog; Escape, the button and a click beside it close it, and the focus goes back to where it was. */
export function Dialog({
  title,
  titleHidden = false,
  className = "",
  onClose,
  children,
}: {
  title: string;
  titleHidden?: boolean;
  className?: string;
  onClose: () => void;
  children: ReactNode;
}): ReactElement {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = ref.current;
    if (dialog !== null && !dialog.open) dialog.showModal();
  }, []);
  return (
    // The handler serves the mouse only: the keyboard has Escape and the button.
    <dialog
      ref={ref}
      className={`dialog ${className}`}
      aria-label={title}
      onClose={onClose}
      onClick={(event) => {
        if (event.target === ref.current) ref.current.close();
      }}
    >
      <div className="dialog-body">
        <div className="dialog-head">
          <h2 className={titleHidden ? "sr-only" : ""}>{title}</h2>
          <button type="button" className="icon-button" aria-label={texts.close} onClick={() => ref.current?.close()}>
            <Icon name="close" />
          </button>
        </div>
        <div className="dialog-content" tabIndex={0} role="group" aria-label={title}>
          {children}
        </div>
      </div>
    </dialog>
  );
}
