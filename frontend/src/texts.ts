/**
 * Every text that a worker sees and that does not come from the requester or the server. To translate the page, translate
 * this file (and set `language`).
 */

function minutesAndSeconds(seconds: number): string {
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

function spokenTime(seconds: number): string {
  if (seconds < 60) return seconds === 1 ? "1 second" : `${seconds} seconds`;
  const minutes = Math.floor(seconds / 60);
  const rest = seconds % 60;
  const spokenMinutes = minutes === 1 ? "1 minute" : `${minutes} minutes`;
  return rest === 0 ? spokenMinutes : `${spokenMinutes} ${spokenTime(rest)}`;
}

function many(count: number, one: string, several: string): string {
  return count === 1 ? `1 ${one}` : `${count.toLocaleString("en")} ${several}`;
}

export const texts = {
  language: "en",
  /** Of the replies and of the worker's own messages, which browsers are told not to translate. */
  conversationLanguage: "en",

  defaultTitle: "Chat",
  youSaid: "You said:",
  partnerSaid: "Chat partner said:",
  close: "Close",

  header: {
    showPane: "Show task information",
    hidePane: "Hide task information",
    soundOn: "Sound on new replies: on",
    soundOff: "Sound on new replies: off",
    turns: (done: number, all: number) => `Turn ${done} of ${all}`,
    turnsLeft: (left: number) => (left === 0 ? "last turn" : `${many(left, "turn", "turns")} to go after this`),
    rating: "Final questions",
  },

  time: {
    left: "Time left",
    short: minutesAndSeconds,
    spoken: (seconds: number) => `${spokenTime(seconds)} left`,
    runningOut: (seconds: number) => `Less than ${spokenTime(seconds)} left.`,
    over: "The time is up.",
  },

  moreTime: {
    offer: "The time for this turn is almost up. Do you need more?",
    ask: (seconds: number) => `Give me ${spokenTime(seconds)} more`,
    last: "The time for this turn is almost up. After that the chat ends.",
    given: (seconds: number) => `You have more time now: ${spokenTime(seconds)}.`,
  },

  pane: {
    label: "Task information",
    heading: "About this chat",
    description: "Read the full task description",
    descriptionTitle: "Task description",
  },

  image: {
    heading: "Image",
    noAlt: "The image that this chat is about",
    zoom: "Enlarge the image",
    dialog: "The image, enlarged",
    fold: "Hide the image",
    unfold: "Show the image",
  },

  log: {
    label: "Conversation",
    alreadySaid: "Already said before you joined",
    sending: "Sending…",
    sendingOffline: "Waiting for the connection…",
    thinking: "Chat partner is writing",
    newReply: "New reply",
    /** In the place of an image of a reply, which is not loaded. */
    image: (alt: string) => (alt === "" ? "[image]" : `[image: ${alt}]`),
    yourAnnotation: "Your marks:",
    titleOnReply: "New reply",
  },

  annotation: {
    fallbackQuestion: "Which of these apply to the reply?",
    about: (name: string) => `What does “${name}” mean?`,
  },

  composer: {
    label: "Your message",
    placeholder: "Write your message…",
    send: "Send",
    keys: "Enter sends, Shift + Enter makes a new line",
    keysWithBoxes: "Enter sends · Shift + Enter: new line · Esc, then a number: tick a box",
    counter: (length: number, most: number) =>
      `${length.toLocaleString("en")} of ${most.toLocaleString("en")} characters`,
  },

  block: {
    over: "The chat is over.",
    pending: "Your message is on its way.",
    elsewhere: "You have just answered in another tab. Please wait a moment.",
    not_your_turn: "You can send when your chat partner has replied.",
    annotation_missing: "First tick at least one box for the last reply.",
    empty: "Write a message first.",
    too_long: (over: number) => `${many(over, "character", "characters")} too long.`,
    comparison_missing: "First choose which reply is better.",
    choices_missing: (left: number) => `${many(left, "question", "questions")} still to answer.`,
    rating_missing: (left: number) => `${many(left, "question", "questions")} still to answer.`,
    answers_missing: (left: number) => `${many(left, "question", "questions")} still to answer.`,
    onboarding_missing: (left: number) => `${many(left, "reply", "replies")} still without a tick.`,
  },

  notice: {
    overtaken:
      "This turn was answered from another tab. What you wrote here was not sent; it is below in case you want to use it.",
    refusedFallback: "That was not taken. Please check it and send it again.",
  },

  rating: {
    title: "The chat is over. How was it?",
    intro: "Please answer the questions below. There are no right or wrong answers.",
    lowest: "lowest",
    highest: "highest",
    option: (rating: number, lowest: string, highest: string) =>
      rating === 1 ? `1, ${lowest}` : rating === 5 ? `5, ${highest}` : String(rating),
    send: "Send answers",
    sending: "Sending…",
  },

  study: {
    step: (index: number, all: number) => `Step ${index} of ${all}`,
    consentTitle: "Taking part in this study",
    questionsTitle: "A few questions",
    textTitle: "Please read",
    replyTitle: "About the last reply",
    accept: "I agree to take part",
    decline: "I do not want to take part",
    next: "Continue",
    saving: "Saving…",
    optional: "optional",
    notApplicable: "Does not apply",
    other: "Other",
    otherLabel: "Other, please say what",
    point: (value: number, low: string, high: string, points: number) =>
      value === 1 && low !== "" ? `1, ${low}` : value === points && high !== "" ? `${points}, ${high}` : String(value),
    characters: (length: number, most: number) =>
      `${length.toLocaleString("en")} of at most ${most.toLocaleString("en")} characters`,
    atLeast: (least: number) => `at least ${many(least, "character", "characters")}`,
    range: (least: number | null, most: number | null) =>
      least !== null && most !== null
        ? `A number from ${least} to ${most}`
        : least !== null
          ? `A number, at least ${least}`
          : most !== null
            ? `A number, at most ${most}`
            : "A number",
    sliderUnset: "Not set yet. Click, tap or use the arrow keys.",
    sliderUnsetSpoken: "not set",
    ranking: {
      hint: "Choose the options in your order, the best first. You can move them afterwards.",
      left: "Not placed yet",
      placed: "Your order",
      place: (option: string, next: number) => `Place “${option}” as number ${next}`,
      up: (option: string) => `Move “${option}” up`,
      down: (option: string) => `Move “${option}” down`,
      remove: (option: string) => `Take “${option}” out of the order`,
      moved: (option: string, place: number, all: number) => `“${option}” is number ${place} of ${all}.`,
      removed: (option: string) => `“${option}” is out of the order.`,
    },
    bestWorst: {
      best: "Best",
      worst: "Worst",
      isBest: (option: string) => `Best: ${option}`,
      isWorst: (option: string) => `Worst: ${option}`,
    },
    highlight: {
      hint: "Mark the words: click or tap them, or draw over several with the mouse. With the keyboard: arrow keys move, Space marks.",
      label: "Words of the reply",
      clear: "Remove all marks",
      marked: (count: number) => (count === 0 ? "Nothing is marked." : `${many(count, "word", "words")} marked.`),
    },
    problems: {
      missing: "Please answer this question.",
      too_short: "Please write a little more.",
      too_long: "Please shorten your text.",
      not_a_number: "Please write a number.",
      out_of_range: "This number is outside of the range.",
      rows_missing: "Please answer every row.",
      other_missing: "Please say what else it is.",
    },
  },

  comparison: {
    title: "Your chat partner has two replies",
    reply: (number: number) => `Reply ${number}`,
    question: "Which reply is better?",
    answer: (pick: "left" | "right" | "tie" | "both_bad", strength: number | null, points: number) => {
      if (pick === "tie") return "About the same";
      if (pick === "both_bad") return "Both are bad";
      const degrees = points < 5 ? ["better"] : ["slightly better", ...(points < 7 ? [] : ["better"]), "much better"];
      return `Reply ${pick === "left" ? 1 : 2} is ${degrees[(strength ?? 1) - 1] ?? "better"}`;
    },
    keys: "Keys: 1 or 2 chooses a reply, the arrow keys change the answer",
    reason: "Why? (optional)",
    send: "Continue",
  },

  chats: {
    number: (number: number, all: number) => `Chat ${number} of ${all}`,
    first: "You will have two chats, each with another partner. Afterwards you compare them.",
    second: "This is a new chat partner, who knows nothing of your first chat.",
    toSecond: "Go on to the second chat",
    toQuestions: "Go on to the questions",
    over: "This chat is over. Read the last reply before you go on.",
    title: "Compare the two chats",
    intro: "Here are both chats again. For each question below, choose the chat that did better.",
    chat: (number: number) => `Chat ${number}`,
    answer: (pick: "left" | "right" | "tie" | "both_bad", strength: number | null, points: number) => {
      if (pick === "tie") return "About the same";
      if (pick === "both_bad") return "Bad in both";
      const degrees = points < 5 ? ["Better"] : ["Slightly better", ...(points < 7 ? [] : ["Better"]), "Much better"];
      return `${degrees[(strength ?? 1) - 1] ?? "Better"} in chat ${pick === "left" ? 1 : 2}`;
    },
    keys: "Keys: 1 or 2 chooses a chat, the arrow keys change the answer",
    send: "Send answers",
  },

  onboarding: {
    title: "Before you start: a short practice",
    intro:
      "Read the conversations below and tick every box that applies to each reply of the chat partner. This shows whether the task suits you.",
    glossary: "What the boxes mean",
    dialog: (index: number, all: number) => `Conversation ${index} of ${all}`,
    tries: (left: number) => (left === 1 ? "This is your last try" : `${left} tries left`),
    progress: (done: number, all: number) => `${done} of ${many(all, "reply", "replies")} marked`,
    submit: "Check my answers",
    checking: "Checking…",
    retryTitle: "Not quite yet",
    wrongReplies: "Your boxes differed from the guidelines for:",
    wrongReply: (dialog: number, reply: number, replies: number) =>
      replies === 1 ? `Conversation ${dialog}` : `Conversation ${dialog}, reply ${reply}`,
    wrong: "The boxes that you ticked for this reply differed from the guidelines.",
    right: "The boxes that you ticked for this reply were right.",
    explanation: (text: string) => `Explanation: ${text}`,
    passedTitle: "Well done!",
    passed: "You have passed. The chat opens in a moment.",
  },

  connection: {
    lost: "The connection is lost. Reconnecting… Nothing that you wrote is lost.",
    back: "Connected again.",
  },

  screens: {
    loading: { title: "Loading…", text: "One moment, please." },
    /** Part of index.html: seen before the page's own program has arrived, which takes a while on a slow line. */
    beforeScript: {
      title: "Loading…",
      text: "The task opens here in a moment. If nothing happens for a minute, please reload the page.",
      noScript: "This page needs JavaScript. Please allow it for this page, and reload it.",
    },
    waiting: { title: "Preparing your chat…", text: "This takes a few seconds. The chat opens by itself." },
    unreachable: {
      title: "The server can’t be reached",
      text: "Please check your internet connection. The page tries again by itself; you can also reload it.",
      action: "Reload",
    },
    preview: {
      title: "Preview",
      banner: "This is a preview. Accept the task on the platform to start.",
      end: "When you are ready, accept the task. The chat then opens on this page.",
    },
    mobileBlocked: {
      title: "Please come back on a computer",
      text: "This task needs a larger screen and a keyboard. Open the same link on a laptop or a desktop computer; nothing has been started or used up on this phone.",
    },
    noWork: {
      title: "There is no work at the moment",
      text: "You can close this page or return the task. Nothing counts against you.",
      /** By the server's code of the reason. */
      titles: {
        nothing_new: "You have done all there is",
        maximum: "You have done your share",
        concurrent: "You have another chat open",
        practising: "You have the practice open elsewhere",
        no_id: "This address does not say who you are",
        unfilled_id: "This address is not complete",
        doubled_id: "This address is not right",
        invalid_id: "This address is not right",
        link_invalid: "This address is not right",
        link_expired: "Please open the study again",
        link_used: "Please open the study again",
        technical: "This page has a technical problem",
        trouble: "The chat has technical problems",
        all_taken: "All chats are taken just now",
        all_done: "All chats have been done",
      },
    },
    blocked: {
      title: "This task isn’t open to you",
      text: "You can close this page or return the task. Work that you have handed in is paid as agreed, and your standing elsewhere is not affected.",
    },
    onboardingFailed: {
      title: "Thank you for trying",
      fallback: "Your answers differed too often from the guidelines, so this task isn’t open to you.",
      text: "You can close this page or return the task. This does not affect your standing.",
    },
    timeout: {
      title: "The time is up",
      text: "There was no message from you within the time for this turn, so the chat has ended. Please return the task; it doesn’t count against you.",
    },
    disconnected: {
      title: "The chat has ended",
      text: "Your page was away for too long, so the chat could not continue. Please return the task; it doesn’t count against you.",
    },
    stopped: {
      title: "The study was stopped",
      fallback: "The researchers have stopped the study. This is not your fault: what you have done is saved.",
    },
    timeUp: { title: "The time is up" },
    unreachableStudy: {
      title: "The study can’t be reached any more",
      reason:
        "Its server has not answered for some minutes, so it was probably stopped. This is not your fault, and all messages that were shown as sent are saved.",
      text: "You can submit what you have done. The page keeps trying: if the server answers, the chat continues.",
    },
    panelUnreachable: {
      title: "The study can’t be reached any more",
      reason:
        "Its server has not answered for some minutes. This is not your fault, and all messages that were shown as sent are saved.",
      text: "Please keep this page open for a while: it goes on trying, and continues by itself. If nothing happens, write to the researchers from the page that you came from; they can see what you have done.",
    },
    ending: {
      title: "The chat has ended",
      /** By the server's kind of the ending. */
      titles: {
        complete: "All done. Thank you!",
        incomplete: "The chat has ended early",
        screened_out: "Thank you for trying",
        declined: "You are not taking part",
        no_work: "There is no chat left for you",
        model_failed: "The chat can’t go on",
        timed_out: "The time is up",
        blocked: "This study isn’t open to you",
      } as Record<string, string>,
      code: "Your code:",
      copy: "Copy the code",
      copied: "The code is copied.",
      selected: "The code is selected: copy it with your keyboard.",
      goBack: "Go back now",
      returning: (seconds: number) => `You are taken back in ${spokenTime(seconds)}.`,
      stay: "Stay on this page",
    },
    studyOver: {
      title: "This chat can’t continue",
      reason:
        "The study was stopped or started again while you were away. This is not your fault, and all messages that were shown as sent are saved.",
      text: "Press the button to hand in what you have done.",
    },
    renewed: {
      title: "This is a new chat",
      text: "The study was stopped and started again, so your earlier chat has ended. What you did there is saved; this is not your fault. A new chat begins here, from the first turn.",
      action: "Start the new chat",
    },
    returned: {
      title: "You have returned this task",
      text: "The chat has ended. You can close this page.",
    },
    expired: {
      title: "This task has expired",
      text: "It is no longer open. You can close this page or return the task; it doesn’t count against you.",
    },
    gone: {
      title: "This task is no longer open here",
      text: "You have finished it already, or the page was away for too long. You can close it.",
    },
    modelFailed: {
      title: "The chat can’t continue",
      fallback: "Your chat partner has a technical problem. This isn’t your fault: please submit what you have done.",
    },
    finished: {
      title: "All done. Thank you!",
      incompleteTitle: "The chat has ended",
      declinedTitle: "You are not taking part",
      declinedText: "Press the button to leave, or return the task. It doesn’t count against you.",
      declinedSubmit: "Leave",
      nothingTitle: "There is no chat left for you",
      text: "Press the button to hand in your work.",
      submit: "Submit",
      submitting: "Submitting…",
      failed: "Handing in did not work. Please check your connection and press the button again.",
      doneTitle: "Your work is handed in",
      done: "Thank you for taking part. You can close this page.",
      again: "Nothing happened? Submit to the platform again",
    },
    error: {
      title: "Something went wrong on this page",
      text: "Please reload it. Your chat and your draft are kept.",
      action: "Reload",
    },
  },
};
