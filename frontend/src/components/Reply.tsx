import { createContext, memo, useContext, useEffect, useMemo, useRef, type ReactElement } from "react";
import type { ReplyRenderer } from "../lib/replyRenderer";
import { texts } from "../texts";
import { PlainText } from "./PlainText";

/** How replies are shown: null for plain text. */
export const ReplyFormat = createContext<{ render: ReplyRenderer; links: boolean } | null>(null);

/** What the model has said, in the format of the study; the same for every model and for each reply, growing ones included. */
export function Reply({ text, growing = false }: { text: string; growing?: boolean }): ReactElement {
  const format = useContext(ReplyFormat);
  const blocks = useMemo(() => format?.render(text, format.links) ?? null, [format, text]);
  const content = useRef<HTMLDivElement>(null);
  useWideParts(content, blocks, growing);
  if (blocks === null) return <PlainText text={text} />;
  return (
    <div ref={content} className="markdown" dir="auto" translate="no" lang={texts.conversationLanguage}>
      {blocks.map((html, index) => (
        <Block key={index} html={html} />
      ))}
    </div>
  );
}

/** One block. While others are added below, its elements stay, with what is selected or scrolled in them. */
const Block = memo(function Block({ html }: { html: string }): ReactElement {
  const content = useMemo(() => ({ __html: html }), [html]);
  return <div className="block" dir="auto" dangerouslySetInnerHTML={content} />;
});

/** Code and tables that are wider than the bubble get the keyboard's focus, which scrolls them. */
function useWideParts(
  content: React.RefObject<HTMLDivElement>,
  blocks: readonly string[] | null,
  growing: boolean,
): void {
  useEffect(() => {
    const { current } = content;
    if (current === null || blocks === null) return;
    const mark = (): void => {
      for (const part of current.querySelectorAll<HTMLElement>(".wide")) {
        part.tabIndex = !growing && part.scrollWidth > part.clientWidth ? 0 : -1;
      }
    };
    mark();
    if (growing || typeof ResizeObserver === "undefined" || current.querySelector(".wide") === null) return;
    const observer = new ResizeObserver(mark);
    observer.observe(current);
    return () => {
      observer.disconnect();
    };
  }, [content, blocks, growing]);
}
