/** Loads what renders Markdown replies, once, for pages of studies that have them. */

/** HTML, sanitised, one piece for each block of the reply; null: show it as plain text. */
export type ReplyRenderer = (text: string, links: boolean) => readonly string[] | null;

type Load = () => Promise<ReplyRenderer>;

/** "failed": the page shows plain text until it is reloaded, rather than change what has been read. */
export type Loading = ReplyRenderer | "loading" | "failed";

/** Milliseconds. */
const RETRY_DELAYS = [500, 1_000, 2_000, 4_000];
const PATIENCE = 15_000;

const loadChunk: Load = async () => (await import("./markdown")).renderMarkdown;

export class ReplyRendererLoader {
  private state: Loading = "loading";
  private started = false;
  private readonly subscribers = new Set<() => void>();

  constructor(private readonly load: Load = loadChunk) {}

  readonly subscribe = (subscriber: () => void): (() => void) => {
    this.subscribers.add(subscriber);
    return () => this.subscribers.delete(subscriber);
  };

  readonly getSnapshot = (): Loading => this.state;

  readonly start = (): void => {
    if (this.started) return;
    this.started = true;
    setTimeout(() => {
      this.settle("failed");
    }, PATIENCE);
    void this.tryToLoad();
  };

  private async tryToLoad(): Promise<void> {
    for (const delay of [...RETRY_DELAYS, null]) {
      try {
        this.settle(await this.load());
        return;
      } catch {
        // The network, most often: what is missing is asked for again.
        if (delay !== null) await new Promise((resolve) => setTimeout(resolve, delay));
      }
    }
    this.settle("failed");
  }

  private settle(state: Loading): void {
    if (this.state !== "loading") return;
    this.state = state;
    for (const subscriber of this.subscribers) subscriber();
  }
}

export const replyRenderer = new ReplyRendererLoader();
