import { useEffect, useRef, useState, type ReactElement } from "react";
import type { Ending } from "../protocol";
import { texts } from "../texts";
import { useSecondsLeft } from "./hooks";
import type { IconName } from "./Icon";
import { Notice } from "./Notice";

/** The end of a panel participant's part: what it is, the code to copy, and the way back, which begins by itself. */
export function EndingScreen({
  ending,
  leave = goTo,
}: {
  ending: Ending;
  leave?: (url: string) => void;
}): ReactElement {
  const t = texts.screens.ending;
  return (
    <Notice icon={iconOf(ending)} title={t.titles[ending.kind] ?? t.title}>
      <p data-testid="reason">{ending.text}</p>
      {ending.code !== null && <Code code={ending.code} />}
      {ending.url !== null && <WayBack url={ending.url} seconds={ending.seconds} leave={leave} />}
    </Notice>
  );
}

function goTo(url: string): void {
  location.assign(url);
}

function iconOf({ kind }: Ending): IconName {
  if (kind === "complete") return "done";
  return kind === "timed_out" ? "clock" : "away";
}

function Code({ code }: { code: string }): ReactElement {
  const t = texts.screens.ending;
  const shown = useRef<HTMLElement>(null);
  const [copied, setCopied] = useState<"" | "copied" | "selected">("");
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(code);
      setCopied("copied");
    } catch {
      // Forbidden, or no secure address: what is selected can be copied with the keyboard.
      if (shown.current !== null) getSelection()?.selectAllChildren(shown.current);
      setCopied("selected");
    }
  };
  return (
    <div className="ending-code">
      <p>
        {t.code}{" "}
        <code ref={shown} data-testid="completion-code" translate="no">
          {code}
        </code>
      </p>
      <button type="button" className="quiet-button" data-testid="copy-code" onClick={() => void copy()}>
        {t.copy}
      </button>
      <p role="status">{copied === "" ? "" : t[copied]}</p>
    </div>
  );
}

function WayBack({
  url,
  seconds,
  leave,
}: {
  url: string;
  seconds: number;
  leave: (url: string) => void;
}): ReactElement {
  const t = texts.screens.ending;
  const [deadline, setDeadline] = useState<number | null>(() => (seconds > 0 ? Date.now() + seconds * 1000 : null));
  const left = useSecondsLeft(deadline);
  useEffect(() => {
    if (deadline === null) return;
    const timer = setTimeout(() => {
      leave(url);
    }, deadline - Date.now());
    return () => {
      clearTimeout(timer);
    };
  }, [deadline, leave, url]);
  return (
    <>
      {left !== null && (
        <p>
          {/* Said once, and not each second. */}
          <span aria-hidden="true" data-testid="return-in">
            {t.returning(left)}
          </span>
          <span className="sr-only">{t.returning(seconds)}</span>
        </p>
      )}
      <div className="ending-buttons">
        <button
          type="button"
          className="primary-button large"
          data-testid="return"
          onClick={() => {
            setDeadline(null);
            leave(url);
          }}
        >
          {t.goBack}
        </button>
        {left !== null && (
          <button
            type="button"
            className="quiet-button"
            data-testid="stay"
            onClick={() => {
              setDeadline(null);
            }}
          >
            {t.stay}
          </button>
        )}
      </div>
    </>
  );
}
