"use strict";
// Texts of workers and models only ever become text nodes here: nothing in them is markup.
(function () {
  const PER_PAGE = 10;
  const source = document.getElementById("conversation-data");
  const list = document.getElementById("conversation-list");
  if (!source || !list) return;
  const data = JSON.parse(source.textContent);
  const controls = ["model", "worker", "bucket", "rating"].map((name) => document.getElementById("filter-" + name));
  const text = document.getElementById("filter-text");
  const status = document.getElementById("conversation-status");
  const previous = document.getElementById("previous-page");
  const next = document.getElementById("next-page");
  let page = 0;

  function element(tag, className, content) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (content !== undefined) made.textContent = content;
    return made;
  }

  // With the reply that was not taken, where two were compared.
  function texts(turn) {
    const sides = turn.compared ? [turn.compared.left.text, turn.compared.right.text] : [];
    return [turn.text, ...sides.filter((said) => said !== null)];
  }

  function fits(conversation) {
    const [model, worker, bucket, rating] = controls.map((control) => (control ? control.value : ""));
    if (model && !conversation.models.includes(model)) return false;
    if (worker && conversation.worker !== worker) return false;
    if (bucket) {
      const number = data.buckets.findIndex((entry) => entry.key === bucket);
      if (!conversation.turns.some((turn) => ticksOf(turn).includes(number))) return false;
    }
    if (rating === "none" && conversation.ratings) return false;
    if (rating && rating !== "none" && !(conversation.ratings || []).includes(Number(rating))) return false;
    const wanted = text.value.trim().toLowerCase();
    return !wanted || conversation.turns.some((turn) => texts(turn).some((said) => said.toLowerCase().includes(wanted)));
  }

  const PICKS = { left: "left preferred", right: "right preferred", tie: "tie", both_bad: "both bad" };
  const CHAT_PICKS = { ...PICKS, left: "first chat preferred", right: "second chat preferred" };

  function marksOf(numbers) {
    const ticks = element("ul", "ticks");
    for (const number of numbers) {
      const bucket = data.buckets[number];
      ticks.append(element("li", bucket.key === data.good ? "good" : "", bucket.name));
    }
    return ticks;
  }

  function ticksOf(turn) {
    const sides = turn.compared ? [...turn.compared.left.ticks, ...turn.compared.right.ticks] : [];
    return [...(turn.ticks || []), ...sides];
  }

  function comparison(judged) {
    const block = element("div", "compared");
    if (judged.question) block.append(element("p", "quiet", judged.question));
    const sides = element("div", "sides");
    for (const side of ["left", "right"]) {
      const reply = element("div", judged.pick === side ? "side picked" : "side");
      const marks = judged.question === null ? [] : [side === "left" ? "First chat" : "Second chat"];
      marks.push(judged[side].model);
      if (judged.pick === side) marks.push("preferred");
      if (judged.continued === side) marks.push("continued");
      reply.append(element("p", "quiet", marks.join(" · ")));
      if (judged[side].text !== null) reply.append(element("p", "", judged[side].text));
      if (judged[side].ticks.length) reply.append(marksOf(judged[side].ticks));
      sides.append(reply);
    }
    block.append(sides);
    const facts = [(judged.question === null ? PICKS : CHAT_PICKS)[judged.pick]];
    if (judged.strength) facts.push("strength " + judged.strength);
    if (judged.reason) facts.push("reason: " + judged.reason);
    block.append(element("p", "quiet", facts.join(" · ")));
    return block;
  }

  function said(turn) {
    const human = turn.agent === 0;
    const row = element("div", human ? "turn human" : "turn");
    row.append(element("span", "who", human ? "Worker" : turn.compared ? "Two replies" : turn.model || "Model"));
    if (turn.compared) row.append(comparison(turn.compared));
    else row.append(element("p", "", turn.text));
    const isInSides = turn.compared && (turn.compared.left.ticks.length || turn.compared.right.ticks.length);
    if (turn.ticks && turn.ticks.length && !isInSides) {
      if (turn.compared) row.append(element("span", "who", "Marked in the reply of " + turn.model + ":"));
      row.append(marksOf(turn.ticks));
    }
    return row;
  }

  function shown(conversation) {
    const card = element("article", "conversation");
    card.append(element("h3", "", "Conversation " + conversation.idx + ": " + conversation.model));
    const facts = ["worker " + conversation.worker];
    if (conversation.hit) facts.push("HIT " + conversation.hit);
    const chats = [0, 1].map((number) => conversation.turns.filter((turn) => turn.chat === number));
    if (conversation.ratings) facts.push("rated " + conversation.ratings.join(", "));
    else facts.push(chats[0].length ? "chats compared" : "not rated");
    card.append(element("p", "quiet", facts.join(" · ")));
    if (conversation.context) card.append(element("p", "context", conversation.context));
    card.append(...conversation.turns.filter((turn) => turn.chat === undefined).map(said));
    if (chats[0].length) {
      const sides = element("div", "sides");
      chats.forEach((turns, number) => {
        if (!turns.length) return;
        const chat = element("section", "chat");
        chat.append(element("h4", "", (number ? "Second chat: " : "First chat: ") + turns[0].model));
        chat.append(...turns.map(said));
        sides.append(chat);
      });
      card.append(sides);
    }
    for (const judged of conversation.compared || []) card.append(comparison(judged));
    return card;
  }

  function draw() {
    const found = data.conversations.filter(fits);
    const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
    page = Math.min(page, pages - 1);
    const here = found.slice(page * PER_PAGE, (page + 1) * PER_PAGE);
    list.replaceChildren(...here.map(shown));
    status.textContent = found.length
      ? found.length + " of " + data.conversations.length + " conversations fit; page " + (page + 1) + " of " + pages + "."
      : "No conversation fits these filters.";
    previous.disabled = page === 0;
    next.disabled = page >= pages - 1;
  }

  function turnTo(step) {
    page += step;
    draw();
    document.getElementById("conversations").scrollIntoView();
  }

  for (const control of [...controls, text]) {
    if (control) control.addEventListener("input", () => { page = 0; draw(); });
  }
  previous.addEventListener("click", () => turnTo(-1));
  next.addEventListener("click", () => turnTo(1));
  draw();
})();
