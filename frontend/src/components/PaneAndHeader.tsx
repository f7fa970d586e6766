import { useEffect, useId, useRef, useState, type ReactElement } from "react";
import { isSoundOn, setSoundOn } from "../lib/sound";
import type { TaskConfig } from "../protocol";
import type { State } from "../state/conversation";
import { texts } from "../texts";
import { Header, SoundSwitch } from "./Header";
import { matches, useMedia } from "./hooks";
import { Icon } from "./Icon";
import { RichHtml } from "./RichHtml";
import { Timer } from "./Timer";

/** The bar at the top of the chat, and the requester's side pane, which a narrow page folds away. */
export function PaneAndHeader({
  config,
  state,
  progress,
  onDescribe,
}: {
  config: TaskConfig;
  state: State;
  progress: ReactElement;
  onDescribe: () => void;
}): ReactElement {
  const id = useId();
  const narrow = useMedia("(max-width: 819px)");
  const [open, setOpen] = useState(false);
  const [sound, setSound] = useState(isSoundOn);
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    // With a keyboard the focus goes to the field to write in; on a phone that would bring the keyboard up.
    if (!matches("(pointer: fine)")) heading.current?.focus({ preventScroll: true });
  }, []);
  return (
    <>
      <Header
        title={config.chat_title || texts.defaultTitle}
        headingRef={heading}
        progress={progress}
        left={
          narrow && (
            <button
              type="button"
              className="icon-button"
              aria-expanded={open}
              aria-controls={id}
              aria-label={open ? texts.header.hidePane : texts.header.showPane}
              data-testid="pane-toggle"
              onClick={() => {
                setOpen(!open);
              }}
            >
              <Icon name={open ? "close" : "panel"} />
            </button>
          )
        }
      >
        <Timer deadline={state.pending === null ? (state.view.turn?.deadline ?? null) : null} />
        <SoundSwitch
          on={sound}
          onToggle={() => {
            setSoundOn(!sound);
            setSound(!sound);
          }}
        />
      </Header>
      <aside
        id={id}
        className="pane"
        aria-label={texts.pane.label}
        data-testid="pane"
        hidden={narrow && !open}
        tabIndex={config.task_description === "" ? 0 : undefined}
        onKeyDown={(event) => {
          if (event.key === "Escape" && narrow) setOpen(false);
        }}
      >
        <h2>{config.judging ? texts.judging.heading : texts.pane.heading}</h2>
        <RichHtml html={config.left_pane_text} personas={state.view.personas} />
        {config.task_description !== "" && (
          <button type="button" className="quiet-button" data-testid="description-button" onClick={onDescribe}>
            <Icon name="book" />
            <span>{texts.pane.description}</span>
          </button>
        )}
      </aside>
    </>
  );
}
