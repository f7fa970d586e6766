import { useCallback, useEffect, useLayoutEffect, useRef, useState, type RefObject } from "react";
import { ApiError, type Api, type EventStream } from "./api";
import type { Overview } from "./types";

/** Milliseconds before the next try, by how many have failed. */
const RETRY_AFTER = [1000, 2000, 5000, 10_000];
/** Without news for this long, the server is asked whether it is still there: a broken line may say nothing. */
const SILENCE = 45_000;

export interface Live {
  overview: Overview | null;
  /** The server isn't reached at present; what is shown may be old. */
  lost: boolean;
  /** Why there is nothing to show. */
  error: string | null;
  refresh: () => void;
}

/** One study as it happens: an overview, and the next ones while it is live and the tab is seen. */
export function useLive(api: Api, study: string): Live {
  const [overview, setOverview] = useState<Overview | null>(null);
  const [lost, setLost] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const refreshNow = useRef<() => void>(() => undefined);

  useEffect(() => {
    let over = false;
    let stream: EventStream | null = null;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let failures = 0;
    let asked = 0;

    const later = (milliseconds: number): void => {
      clearTimeout(timer);
      timer = setTimeout(() => void load(), milliseconds);
    };
    const close = (): void => {
      stream?.close();
      stream = null;
    };
    const failed = (): void => {
      close();
      setLost(true);
      later(RETRY_AFTER[Math.min(failures, RETRY_AFTER.length - 1)] ?? 0);
      failures += 1;
    };
    const take = (said: Overview): void => {
      if (over) return;
      failures = 0;
      setLost(false);
      setError(null);
      setOverview(said);
      if (said.live && !document.hidden) later(SILENCE);
      else close();
    };
    const load = async (): Promise<void> => {
      asked += 1;
      const mine = asked;
      clearTimeout(timer);
      try {
        const said = await api.overview(study);
        if (over || mine !== asked) return;
        take(said);
        if (said.live && stream === null && !document.hidden) {
          stream = api.events(study, take, () => {
            if (!over) failed();
          });
        }
      } catch (problem) {
        if (over || mine !== asked) return;
        const status = problem instanceof ApiError ? problem.status : 0;
        if (status === 0 || status >= 500 || status === 429) failed();
        else if (problem instanceof ApiError) setError(problem.message);
      }
    };
    const seen = (): void => {
      if (document.hidden) {
        clearTimeout(timer);
        close(); // browsers allow few connections to one server: tabs behind others leave theirs
      } else void load();
    };
    const retry = (): void => void load();
    refreshNow.current = retry;
    document.addEventListener("visibilitychange", seen);
    window.addEventListener("online", retry);
    void load();
    return () => {
      over = true;
      clearTimeout(timer);
      close();
      document.removeEventListener("visibilitychange", seen);
      window.removeEventListener("online", retry);
    };
  }, [api, study]);

  const refresh = useCallback(() => {
    refreshNow.current();
  }, []);
  return { overview, lost, error, refresh };
}

export interface Loaded<T> {
  value: T | null;
  /** Of the last try. */
  error: string | null;
  loading: boolean;
  reload: () => void;
  /** Change what was loaded, after an act. */
  change: (changed: (value: T) => T) => void;
}

/**
 * What `load` gives, anew when `key` changes; an answer that comes too late is dropped. The last value stays in sight
 * while the next one is loaded where `keep` says so.
 */
export function useLoaded<T>(key: string, load: (signal: AbortSignal) => Promise<T>, keep = false): Loaded<T> {
  const [tries, setTries] = useState(0);
  const [settled, setSettled] = useState<{ key: string; tries: number; value: T | null; error: string | null }>({
    key,
    tries: -1,
    value: null,
    error: null,
  });
  const current = useRef(load);
  useEffect(() => {
    current.current = load;
  });
  useEffect(() => {
    const controller = new AbortController();
    current.current(controller.signal).then(
      (value) => {
        if (!controller.signal.aborted) setSettled({ key, tries, value, error: null });
      },
      (problem: unknown) => {
        if (controller.signal.aborted) return;
        const error = problem instanceof ApiError ? problem.message : "This part of the page failed; reload the page.";
        setSettled((before) => ({ key, tries, error, value: keep || before.key === key ? before.value : null }));
      },
    );
    return () => {
      controller.abort();
    };
  }, [key, tries, keep]);
  const reload = useCallback(() => {
    setTries((before) => before + 1);
  }, []);
  const change = useCallback((changed: (value: T) => T) => {
    setSettled((before) => (before.value === null ? before : { ...before, value: changed(before.value) }));
  }, []);
  const loading = settled.key !== key || settled.tries !== tries;
  return {
    value: keep || settled.key === key ? settled.value : null,
    error: loading ? null : settled.error,
    loading,
    reload,
    change,
  };
}

/** The width of an element in pixels; `first` until it is known. */
export function useWidth<T extends HTMLElement>(first: number): [RefObject<T>, number] {
  const ref = useRef<T>(null);
  const [width, setWidth] = useState(first);
  useEffect(() => {
    const element = ref.current;
    if (element === null || typeof ResizeObserver === "undefined") return;
    const observer = new ResizeObserver(() => {
      if (element.clientWidth > 0) setWidth(element.clientWidth);
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
    };
  }, []);
  return [ref, width];
}

const WRITES =
  "input:not([type=checkbox], [type=radio], [type=button], [type=submit]), textarea, select, [contenteditable]";

/** Calls the function of a pressed key, unless it is meant for a field, a dialog, the browser or a screen reader. */
export function useKeys(keys: Record<string, () => void>, on: boolean): void {
  const current = useRef(keys);
  // With what is shown, and not a moment later: a key is for what its presser sees.
  useLayoutEffect(() => {
    current.current = keys;
  });
  useLayoutEffect(() => {
    if (!on) return;
    const pressed = (event: KeyboardEvent): void => {
      if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
      if (document.querySelector("dialog[open]") !== null) return;
      const target = event.target instanceof Element ? event.target : null;
      if (target?.closest(WRITES) != null) return;
      const action = Object.hasOwn(current.current, event.key) ? current.current[event.key] : undefined;
      if (action === undefined) return;
      event.preventDefault();
      if (!event.repeat || event.key === "j" || event.key === "k") action();
    };
    document.addEventListener("keydown", pressed);
    return () => {
      document.removeEventListener("keydown", pressed);
    };
  }, [on]);
}

/** A switch that a browser remembers, where it may. */
export function useRemembered(name: string, first: boolean): [boolean, (on: boolean) => void] {
  const [on, setOn] = useState(() => {
    try {
      const kept = localStorage.getItem(name);
      return kept === null ? first : kept === "true";
    } catch {
      return first; // forbidden by the browser's settings
    }
  });
  const change = (now: boolean): void => {
    setOn(now);
    try {
      localStorage.setItem(name, String(now));
    } catch {
      // It holds until the page is reloaded.
    }
  };
  return [on, change];
}
