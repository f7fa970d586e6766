/** Scripts for Markdown replies, whole and growing. They use what scenarios.mjs gives them, which puts them into its list. */

const REPLY = `## Reading a file line by line

A file is an **iterator**, so there is *no need* to read it whole. Three things to know:

1. \`with\` closes the file
2. \`strip()\` removes the line break
   - and spaces at both ends
3. ~~\`readlines()\`~~ would keep every line in memory

\`\`\`python
def count_words(path: str, encoding: str = "utf-8") -> dict[str, int]:  # a line that is wider than any phone is
    """Count the words of a text."""
    counts = {}
    with open(path, encoding=encoding) as lines:
        for line in lines:
            for word in line.strip().lower().split():
                counts[word] = counts.get(word, 0) + 1
    return counts
\`\`\`

| Way of reading | Memory | Speed | Good for |
|:--|--:|:-:|---|
| \`for line in file\` | one line | fast | files of every size |
| \`file.read()\` | everything | fast | small files |
| \`file.readlines()\` | everything | slower | files that are needed as a list |

> A reply may quote, too.

### More

See [the tutorial](https://docs.python.org/3/tutorial/inputoutput.html) <img src=x onerror="window.hacked = true">
![a diagram](https://example.org/diagram.png)`;

/** Characters at which the growing replies stop: within the code, and within the table. */
const HALVES = { code: REPLY.indexOf("counts[word]"), table: REPLY.indexOf("| everything | fast") };

export function markdownScenarios({ config, past, yourTurn, pause, held }) {
  const given = { ...config, reply_format: "markdown" };
  const before = [
    [0, "Hi!", true],
    [1, "Hello. What would you like to *know*?"],
    [0, "How do I read a file in **Python**?"],
  ];
  const grow = async (agent, until, step, delay, from = 0) => {
    for (let end = from + step, part = from / step + 1; end < until; end += step, part += 1) {
      agent.part(part, REPLY.slice(0, end));
      await pause(delay);
    }
    agent.part(REPLY.length, REPLY.slice(0, until));
  };
  const half = (until) => ({
    config: given,
    run: async (agent) => {
      past(agent, before);
      let open = true;
      agent.receive().catch(() => (open = false));
      while (open) {
        agent.part(1, REPLY.slice(0, until)); // again and again: the page's socket may not be there yet
        await pause(0.2);
      }
    },
  });
  const whole = (more) => ({
    config: { ...given, ...more },
    run: async (agent) => {
      past(agent, [...before, [1, REPLY]]);
      agent.control("your_turn", yourTurn(1));
    },
  });
  return {
    markdown: whole({}),
    "markdown-links": whole({ reply_links: true }),
    "markdown-half-code": half(HALVES.code),
    "markdown-half-table": half(HALVES.table),
    /** Grows up to the code, and from there on when it is told to. */
    "markdown-held": held((untilTold) => ({
      config: given,
      run: async (agent) => {
        past(agent, before);
        let waits = true;
        void untilTold().then(() => (waits = false));
        const half = Math.ceil(HALVES.code / 40) * 40;
        while (waits) {
          agent.part(half / 40, REPLY.slice(0, half)); // again and again: the page's socket may not be there yet
          await pause(0.1);
        }
        await grow(agent, REPLY.length, 40, 0.05, half);
        agent.say(1, REPLY);
        agent.control("your_turn", yourTurn(1));
      },
    })),
    "markdown-live": {
      config: given,
      run: async (agent) => {
        past(agent, before);
        await pause(1);
        await grow(agent, REPLY.length, 40, 0.05);
        agent.say(1, REPLY);
        agent.control("your_turn", yourTurn(1));
      },
    },
  };
}
