/** Server updates for tests, as docs/protocol.md describes them. */

import { readTaskConfig, readUpdate, type Json, type ServerUpdate, type TaskConfig } from "../src/protocol";
import { initialState, reduce, type Rules, type State } from "../src/state/conversation";
import type { Logged } from "../src/state/view";

export const ANNOTATION = {
  question: "Which of these apply?",
  show_line_breaks: false,
  buckets: [
    { value: "bucket_0", name: "Contradiction", description: "Says the opposite of what was said." },
    { value: "bucket_1", name: "Off topic", description: "Does not react." },
    { value: "none_all_good", name: "None, all good", description: "" },
  ],
};

export const RULES: Rules = { annotation: ANNOTATION, ratingQuestions: 2, maxMessageLength: 40, onboarding: [] };

export const CONFIG: TaskConfig = readTaskConfig({
  task_description: "<h2>What to do</h2><p>Chat.</p>",
  left_pane_text: "<p>Be polite.</p><p>[persona_string_1]</p>",
  chat_title: "A chat",
  annotation: ANNOTATION,
  final_rating_questions: ["How good was it?", "Once more?"],
  num_turns: 3,
  max_resp_time: 180,
  max_message_length: 40,
});

/** Seconds; the clock of the tests starts here. */
export const T0 = 1_700_000_000;

export class Server {
  private count = 0;
  private utterances = 0;

  raw(update: Json): ServerUpdate {
    this.count += 1;
    const read = readUpdate({
      update_id: `u${this.count}`,
      timestamp: T0 + this.count,
      episode_done: false,
      ...update,
    });
    if (read === null) throw new Error("not an update");
    return read;
  }

  say(agentIdx: number, text: string, more: Json = {}, fakeStart = false): ServerUpdate {
    const task_data = { utterance_idx: this.utterances, agent_idx: agentIdx, ...more };
    this.utterances += 1;
    return this.raw({ text, id: `Speaker ${agentIdx + 1}`, ...(fakeStart ? { fake_start: true } : {}), task_data });
  }

  control(control: string, more: Json = {}): ServerUpdate {
    return this.raw({ text: "", task_data: { control, ...more } });
  }

  start(more: Json = {}): ServerUpdate {
    return this.control("start", { agent_display_name: "Speaker 1", personas: [], num_turns: 3, ...more });
  }

  yourTurn(turnIdx: number, more: Json = {}): ServerUpdate {
    return this.control("your_turn", { turn_idx: turnIdx, num_turns: 3, seconds: 60, ask: "message", ...more });
  }
}

export function logged(update: ServerUpdate): Logged {
  return { update, receivedAt: update.timestamp * 1000 };
}

export function play(state: State, ...updates: ServerUpdate[]): State {
  return updates.reduce((before, update) => reduce(before, { type: "update", logged: logged(update) }), state);
}

/** A conversation that stands at the worker's first turn: greeting, reply, turn. */
export function opened(server: Server, rules: Rules = RULES): State {
  return play(
    initialState(rules),
    server.start(),
    server.say(0, "Hi!", {}, true),
    server.say(1, "Hello, how are you?"),
    server.yourTurn(0),
  );
}
