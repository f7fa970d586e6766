import { useState, type ReactElement } from "react";
import { texts } from "../texts";
import { Dialog } from "./Dialog";
import { Icon } from "./Icon";

/** The image that the chat is about; a press enlarges it. */
export function ImagePanel({ url, alt }: { url: string; alt: string }): ReactElement {
  const [large, setLarge] = useState(false);
  const description = alt || texts.image.noAlt;
  return (
    <figure className="image-panel" data-testid="chat-image">
      <button
        type="button"
        className="image-button"
        aria-haspopup="dialog"
        onClick={() => {
          setLarge(true);
        }}
      >
        <img src={url} alt={description} />
        <span className="image-zoom">
          <Icon name="zoom" />
          <span className="sr-only">{texts.image.zoom}</span>
        </span>
      </button>
      {large && (
        <Dialog
          title={texts.image.dialog}
          titleHidden
          className="image-dialog"
          onClose={() => {
            setLarge(false);
          }}
        >
          <img src={url} alt={description} />
        </Dialog>
      )}
    </figure>
  );
}
