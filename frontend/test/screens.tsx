/** Screens that live: what the worker does goes through the reducer. */

import { useState, type ReactElement } from "react";
import { ChatScreen } from "../src/components/ChatScreen";
import { OnboardingScreen } from "../src/components/OnboardingScreen";
import type { OnboardingData, TaskConfig } from "../src/protocol";
import { reduce, type Event, type State } from "../src/state/conversation";
import { ANNOTATION, CONFIG, RULES } from "./updates";

export function Chat({
  state: first,
  spy,
  connected = true,
  config = CONFIG,
}: {
  state: State;
  spy?: (event: Event) => void;
  connected?: boolean;
  config?: TaskConfig;
}): ReactElement {
  const [state, setState] = useState(first);
  return (
    <ChatScreen
      config={config}
      state={state}
      connected={connected}
      justBack={false}
      dispatch={(event) => {
        spy?.(event);
        setState((before) => reduce(before, event));
      }}
      onSend={() => {
        setState((before) => reduce(before, { type: "sent", messageId: "m1", at: Date.now() }));
      }}
      onMoreTime={() => undefined}
    />
  );
}

export const ONBOARDING: OnboardingData = {
  annotation: ANNOTATION,
  dialogs: [
    [
      { agent_idx: 0, text: "Hello!" },
      { agent_idx: 1, text: "Goodbye." },
    ],
    [
      { agent_idx: 0, text: "How are you?" },
      { agent_idx: 1, text: "Fine, thanks." },
    ],
  ],
};
export const ONBOARDING_RULES = {
  ...RULES,
  onboarding: ONBOARDING.dialogs.map((dialog) => dialog.map((utterance) => utterance.agent_idx)),
};

/** What the server says comes from outside, what the worker does is kept here. */
export function Onboarding({ state: told }: { state: State }): ReactElement {
  const [events, setEvents] = useState<Event[]>([]);
  const add = (event: Event): void => {
    setEvents((before) => [...before, event]);
  };
  return (
    <OnboardingScreen
      config={CONFIG}
      data={ONBOARDING}
      state={events.reduce(reduce, told)}
      connected
      justBack={false}
      dispatch={add}
      onSend={() => {
        add({ type: "sent", messageId: "o1", at: 1 });
      }}
    />
  );
}
