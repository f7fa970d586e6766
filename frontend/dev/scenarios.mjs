/** Scripts of what the server says, one for each thing worth looking at. */

import { markdownScenarios } from "./markdown-scenarios.mjs";

export const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

const BUCKETS = [
  {
    value: "contradiction",
    name: "Contradicts itself",
    description: "Says something that does not agree with what it said earlier in the chat.",
  },
  {
    value: "off_topic",
    name: "Off topic",
    description: "Does not react to what you wrote, or changes the subject for no reason.",
  },
  {
    value: "repetitive",
    name: "Repeats itself",
    description: "Says again, in the same or in similar words, what has been said already.",
  },
  {
    value: "nonsense",
    name: "Hard to understand",
    description: "Grammar or meaning are so poor that it is not clear what is meant.",
  },
  {
    value: "rude",
    name: "Rude or unsafe",
    description: "Could hurt or offend somebody, or advises something dangerous.",
  },
  { value: "none_all_good", name: "None of these, all good", description: "Nothing is wrong with the reply." },
];

export const annotation = {
  question: "Which of these apply to the reply? Tick all that do.",
  show_line_breaks: false,
  buckets: BUCKETS,
};

export const config = {
  task_description: `<h2>Chat with a partner</h2><p>You will have a short conversation in English with a chat partner, which
is a computer program. It takes about five minutes.</p><ol><li>Chat naturally, as you would with somebody you have just
met.</li><li>After each reply, tick the boxes that apply to it.</li><li>At the end, rate the conversation.</li></ol>
<h3>Please note</h3><ul><li>Don't give any personal information.</li><li>Your partner may say things that are wrong or
strange; that is what this study is about. <a href="https://example.org/">More about the study</a></li></ul>
<img src="icon.svg" width="32" alt="" onerror="window.hacked = true"><script>window.hacked = true</script>`,
  left_pane_text: `<h3>How it works</h3><p>Write a message, wait for the reply, mark it, and continue from there. After the last
reply you rate the conversation.</p><p class="persona">[persona_string_1]</p><p class="persona">[persona_string_2]</p>
<h3>Tips</h3><ul><li>Ask questions, and answer those of your partner.</li><li>Give no personal information.</li></ul>`,
  chat_title: "Chat with a partner",
  annotation,
  final_rating_questions: [
    "How good was your chat partner overall?",
    "How much would you like to chat with this partner again?",
  ],
  num_turns: 3,
  max_resp_time: 180,
  max_onboard_time: 300,
  max_message_length: 2000,
  use_onboarding: false,
  block_mobile: false,
  image_chat: false,
};

const PERSONAS = ["I grow chillies on my balcony.", "I have never seen the <b>sea</b>."];
const REPLIES = [
  "Hi there! How is your day going so far?",
  "That sounds lovely. I like to cook on rainy days, mostly soups. What do you like to eat?",
  "Tea is a good choice! I drink about four cups a day.",
  "It was nice to talk to you. Have a good evening!",
];

/** A conversation as the real world runs it: opening, exchanges, final ratings. */
export async function chat(agent, options = {}) {
  const {
    replies = REPLIES,
    seeds = null,
    personas = [],
    turns = 3,
    delay = 0.6,
    seconds = 180,
    annotate = true,
    start = {},
    questions = 2,
    stopBefore = Infinity,
  } = options;
  let next = 0;
  const reply = async () => {
    await pause(delay);
    agent.say(1, replies[next % replies.length]);
    next += 1;
  };
  agent.setStatus("in task");
  agent.control("start", { agent_display_name: "Speaker 1", personas, num_turns: turns, ...start });
  if (seeds !== null) seeds.forEach((text, index) => agent.say(index % 2, text, { fakeStart: true }));
  else {
    agent.say(0, "Hi!", { fakeStart: true });
    await reply();
  }
  const taken = new Set();
  const receive = async (turn_idx, ask) => {
    const last = agent.updates.filter((update) => update.task_data.control === undefined).at(-1);
    const needsTicks = annotate && last.task_data.agent_idx === 1 && !last.fake_start;
    agent.control("your_turn", { turn_idx, num_turns: turns, seconds, ask, live_update_requested: true });
    for (;;) {
      const packet = await agent.receive();
      const { message_id, problem_data_for_prior_message: ticks, final_rating, turn_idx: forTurn } = packet.task_data;
      const refuse = (code, reason) => agent.control("refused", { message_id, code, reason });
      if (taken.has(message_id)) continue;
      if (forTurn !== undefined && forTurn !== turn_idx) refuse("not_your_turn", "Please wait for the reply.");
      else if (needsTicks && !Object.values(ticks ?? {}).some(Boolean))
        refuse("annotation_missing", "Please tick a box.");
      else if (ask === "message" && packet.text.trim() === "") refuse("empty", "Your message is empty.");
      else if (/refuse me/.test(packet.text) && !/please/.test(packet.text))
        refuse("empty", "Your message has no content that counts. Please write something.");
      else if (ask === "final_rating" && final_rating?.length !== questions)
        refuse("rating_count", "Please answer every question.");
      else {
        taken.add(message_id);
        return { packet, last, needsTicks };
      }
    }
  };
  for (let turn = 0; turn < turns; turn += 1) {
    if (turn >= stopBefore) return;
    const { packet, last, needsTicks } = await receive(turn, "message");
    const { message_id, problem_data_for_prior_message: problem_data } = packet.task_data;
    agent.say(0, packet.text, {
      message_id,
      ...(needsTicks ? { problem_data, annotated_utterance_idx: last.task_data.utterance_idx } : {}),
    });
    await options.beforeReply?.(turn, agent);
    await reply();
  }
  await receive(turns, "final_rating");
  agent.control("ended", { outcome: "complete", reason: "", task_done: true });
}

/** A conversation that has happened already: said at once, with the worker's part made up. */
export function past(agent, said, { start = {}, turns = 6, personas = [], marks = {} } = {}) {
  agent.setStatus("in task");
  agent.control("start", { agent_display_name: "Speaker 1", personas, num_turns: turns, ...start });
  said.forEach(([agentIdx, text, fakeStart = false], index) => {
    const annotated = marks[index - 1];
    agent.say(agentIdx, text, {
      fakeStart,
      ...(agentIdx === 0 && !fakeStart ? { message_id: `past-${index}` } : {}),
      ...(annotated
        ? {
            problem_data: Object.fromEntries(annotated.map((bucket) => [bucket, true])),
            annotated_utterance_idx: index - 1,
          }
        : {}),
    });
  });
}

const yourTurn = (turn_idx, more = {}) => ({
  turn_idx,
  num_turns: 6,
  seconds: 180,
  ask: "message",
  live_update_requested: true,
  ...more,
});

const MIDWAY = [
  [0, "Hi!", true],
  [1, "Hi there! How is your day going so far?"],
  [0, "Quite well, thank you. It rains, so I stay in and read."],
  [1, "That sounds lovely. I like to cook on rainy days, mostly soups. What do you read?"],
  [0, "A book about the deep sea. Did you know that most of it has never been seen by anyone?"],
  [1, "I did not know that! I would love to see it one day. Which creature in your book do you find the strangest?"],
];

const LONG = "This reply is very long. ".repeat(79) + "It ends here after 2,000 characters.";
const CODE =
  'Here is a way to do it:\n\n```python\ndef greet(name: str) -> str:\n\tif not name:\n\t\treturn "Hello!"\n\treturn f"Hello, {name}! <b>This is no markup</b>"\n```\n\nCall greet("Ada"), and you get a greeting.\n  1. indented\n    2. more';
const ODD = [
  [0, "שלום! איך עובר עליך היום? (RTL with some English inside)"],
  [1, "مرحبا! أنا بخير، شكرًا لك.\nAnd a line in English.\nعودة إلى العربية."],
  [0, "👩‍👩‍👧‍👦 🎉🎉🎉 👍🏽 日本語のテキストもあります。"],
  [
    1,
    `Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft${"x".repeat(160)} https://example.org/${"a/".repeat(60)}`,
  ],
  [0, "<img src=x onerror=alert(1)> & <b>no markup</b> [persona_string_1]"],
  [1, CODE],
  [0, "Thanks."],
  [1, LONG],
];

const PICTURE = `data:image/svg+xml;base64,${Buffer.from(
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 420"><defs><linearGradient id="s" x2="0" y2="1"><stop stop-color="#8fc4ea"/><stop offset="1" stop-color="#f7e3c4"/></linearGradient></defs><rect width="640" height="420" fill="url(#s)"/><circle cx="480" cy="120" r="46" fill="#fff3c9"/><path d="M0 300 150 150l110 110 90-80 160 140 130-70v170H0z" fill="#6d8a78"/><path d="M0 350q160-60 320-10t320-20v100H0z" fill="#3f6b58"/></svg>`,
).toString("base64")}`;

const ONBOARDING = {
  kind: "onboarding",
  annotation,
  dialogs: [
    [
      { agent_idx: 0, text: "Hello! Do you have any pets?" },
      { agent_idx: 1, text: "Yes, a dog. I have never had an animal in my life." },
      { agent_idx: 0, text: "Oh, which breed?" },
      { agent_idx: 1, text: "A beagle. She is three years old and very curious." },
    ],
    [
      { agent_idx: 0, text: "What did you do at the weekend?" },
      { agent_idx: 1, text: "Photosynthesis is how plants make sugar from light." },
    ],
    [
      { agent_idx: 0, text: "I am a bit tired today." },
      { agent_idx: 1, text: "I am sorry to hear that. Did you sleep badly?" },
    ],
  ],
};

async function onboarding(agent, { passAfter = 2, tries = 2, explanations = [], wrong = [] } = {}) {
  agent.setStatus("onboarding");
  agent.control("onboarding_start", { tries_left: tries, seconds: 300 });
  for (let left = tries - 1, tryNumber = 1; ; left -= 1, tryNumber += 1) {
    await agent.receive();
    await pause(0.4);
    if (tryNumber >= passAfter) {
      agent.control("onboarding_passed");
      return;
    }
    if (left === 0) {
      agent.control("onboarding_failed", {
        reason: "Your answers differed too often from the guidelines, so this task is not open to you.",
      });
      agent.failure = "You are not currently qualified to work on this task...";
      return;
    }
    agent.control("onboarding_retry", {
      tries_left: left,
      reason: `Some answers differ from the guidelines. You have ${left === 1 ? "one try" : `${left} tries`} left.`,
      explanations,
      wrong,
    });
  }
}

const turnedAway = (failure) => ({
  config,
  run: async (agent) => {
    agent.failure = failure;
  },
});
const withStatus = (status) => ({
  config,
  run: async (agent) => {
    past(agent, MIDWAY);
    agent.setStatus(status);
  },
});
const midway = { turns: 6, personas: PERSONAS, marks: { 1: ["none_all_good"], 3: ["contradiction", "off_topic"] } };

/** The path at which scripts are told to go on: /go-on?scenario=… */
const GO_ON = "/go-on";

/**
 * A script that waits for whoever looks at the page, however fast or slow page and machine are.
 * @param {(untilTold: () => Promise<void>) => Record<string, any>} scenario
 */
function held(scenario) {
  const waiting = [];
  return {
    ...scenario(() => new Promise((resolve) => waiting.push(resolve))),
    http: (path, { response }) => {
      if (path !== GO_ON) return false;
      for (const goOn of waiting.splice(0)) goOn();
      response.end();
      return true;
    },
  };
}

export const scenarios = {
  chat: { config, run: (agent) => chat(agent, { personas: PERSONAS }) },
  "chat-held": held((untilTold) => ({ config, run: (agent) => chat(agent, { delay: 0, beforeReply: untilTold }) })),
  preview: { config },
  loading: { config, run: async () => undefined },
  midway: {
    config,
    run: async (agent) => {
      past(agent, MIDWAY, midway);
      agent.control("your_turn", yourTurn(2));
      await agent.receive();
    },
  },
  "midway-lines": {
    config: { ...config, annotation: { ...annotation, show_line_breaks: true } },
    run: async (agent) => {
      past(agent, MIDWAY, midway);
      agent.control("your_turn", yourTurn(2, { seconds: 20 }));
    },
  },
  "no-annotation": {
    config: { ...config, annotation: null, final_rating_questions: ["How good was your chat partner?"] },
    run: (agent) => chat(agent, { annotate: false, questions: 1 }),
  },
  thinking: {
    config,
    run: async (agent) => {
      past(agent, [...MIDWAY, [0, "The anglerfish, for sure."]], {
        ...midway,
        marks: { ...midway.marks, 5: ["none_all_good"] },
      });
    },
  },
  odd: {
    config,
    run: async (agent) => {
      past(agent, ODD, { turns: 6, marks: { 1: ["repetitive"] } });
      agent.control("your_turn", yourTurn(4));
    },
  },
  seeds: {
    config,
    run: (agent) =>
      chat(agent, {
        seeds: ["I love going to the sea in winter.", "So do I, it is so quiet then. Do you live near the coast?"],
        personas: PERSONAS,
      }),
  },
  refused: {
    config,
    run: async (agent) => {
      past(agent, MIDWAY, midway);
      for (;;) {
        agent.control("your_turn", yourTurn(2));
        const packet = await agent.receive();
        await pause(0.3);
        agent.control("refused", {
          message_id: packet.task_data.message_id,
          code: "empty",
          reason: "Your message is empty. Please write something.",
        });
      }
    },
  },
  rating: {
    config,
    run: async (agent) => {
      past(agent, MIDWAY, { ...midway, turns: 2 });
      agent.control("your_turn", yourTurn(2, { ask: "final_rating", num_turns: 2 }));
      await agent.receive();
      await pause(0.5);
      agent.control("ended", { outcome: "complete", reason: "", task_done: true });
    },
  },
  image: {
    config: { ...config, image_chat: true },
    run: async (agent) => {
      past(
        agent,
        [
          [0, "Hi!", true],
          [1, "What a peaceful view! I would like to walk up that ridge."],
        ],
        { start: { image: PICTURE, image_alt: "Green hills in front of grey mountains under a low sun" }, turns: 6 },
      );
      agent.control("your_turn", yourTurn(0));
    },
  },
  finished: {
    config,
    run: async (agent) => {
      past(agent, MIDWAY);
      agent.control("ended", { outcome: "complete", reason: "", task_done: true });
    },
  },
  incomplete: {
    config,
    run: async (agent) => {
      past(agent, MIDWAY);
      agent.control("ended", {
        outcome: "incomplete",
        reason:
          "The chat has a technical problem and can't continue. This is not your fault: please submit what you have done; it counts in full.",
        task_done: true,
      });
    },
  },
  "nothing-left": {
    config,
    run: async (agent) => {
      agent.control("ended", {
        outcome: "incomplete",
        reason: "All chats of this task have been given out in the meantime. Please submit; thank you for coming.",
        task_done: true,
      });
    },
  },
  "model-failed": {
    config,
    run: async (agent) => {
      past(agent, MIDWAY);
      agent.control("model_failed", {
        reason:
          "The chat partner has a technical problem and can't continue. This is not your fault: please submit what you have done; it counts in full.",
      });
      agent.control("ended", { outcome: "incomplete", reason: "", task_done: true });
    },
  },
  timeout: withStatus("timeout"),
  disconnected: withStatus("disconnect"),
  returned: withStatus("returned"),
  expired: withStatus("expired"),
  "no-work": turnedAway("There is currently no available work, please try again later..."),
  blocked: turnedAway("You are not currently qualified to work on this task..."),
  gone: turnedAway(
    "You appear to have already completed this task, or have disconnected long enough for your session to clear...",
  ),
  "mobile-blocked": { config: { ...config, block_mobile: true }, run: (agent) => chat(agent) },
  onboarding: {
    config,
    kind: "onboarding",
    initData: { task_data: ONBOARDING },
    run: (agent) =>
      onboarding(agent, {
        explanations: [
          {
            dialog_idx: 0,
            utterance_idx: 1,
            text: "The two sentences contradict each other: somebody with a dog has had an animal.",
          },
          { dialog_idx: 2, utterance_idx: 1, text: "This is a kind answer to what was said." },
        ],
        wrong: [
          { dialog_idx: 0, utterance_idx: 1 },
          { dialog_idx: 1, utterance_idx: 1 },
        ],
      }),
    next: { config, run: (agent) => chat(agent) },
  },
  ...markdownScenarios({ config, past, yourTurn, pause, held }),
  "onboarding-failed": {
    config,
    kind: "onboarding",
    initData: { task_data: ONBOARDING },
    run: (agent) => onboarding(agent, { passAfter: 9, tries: 1 }),
  },
};
