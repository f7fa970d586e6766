import { useId, useState, type ReactElement } from "react";
import { texts } from "../texts";
import { Dialog } from "./Dialog";
import { useMedia } from "./hooks";
import { Icon } from "./Icon";

/** The image that the chat is about; a press enlarges it, and on a narrow page it can be folded away. */
export function ImagePanel({ url, alt }: { url: string; alt: string }): ReactElement {
  const id = useId();
  const foldable = useMedia("(max-width: 819px)");
  const [large, setLarge] = useState(false);
  const [folded, setFolded] = useState(false);
  const hidden = foldable && folded;
  const description = alt || texts.image.noAlt;
  return (
    <div className="image-panel">
      <figure id={id} data-testid="chat-image" hidden={hidden}>
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
      {foldable && (
        <button
          type="button"
          className="fold-button"
          aria-expanded={!folded}
          aria-controls={id}
          data-testid="image-fold"
          onClick={() => {
            setFolded(!folded);
          }}
        >
          <Icon name={folded ? "down" : "up"} />
          <span>{folded ? texts.image.unfold : texts.image.fold}</span>
        </button>
      )}
    </div>
  );
}
