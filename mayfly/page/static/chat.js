// One conversation with one endpoint. It lives in this tab only; the key never does.
import { Trouble, post, show } from "./api.js";
import { count, make, prose } from "./words.js";

export class Chat {
  #section;
  #machine;
  #messages = [];
  #stopper = null;

  constructor(section, machine) {
    this.#section = section;
    this.#machine = machine;
    section.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#send();
    });
    this.#button("stop").addEventListener("click", () => this.#stopper?.abort());
    this.#button("clear").addEventListener("click", () => this.#clear());
  }

  get #box() {
    return this.#section.querySelector("textarea");
  }

  get #talk() {
    return this.#section.querySelector(".talk");
  }

  #button(name) {
    return this.#section.querySelector(`[data-chat=${name}]`);
  }

  #clear() {
    this.#stopper?.abort();
    this.#messages = [];
    this.#talk.replaceChildren();
    this.#box.focus();
  }

  async #send() {
    const text = this.#box.value.trim();
    if (!text || this.#stopper) return;
    this.#box.value = "";
    this.#messages.push({ role: "user", content: text });
    this.#say("You", "mine").append(...prose(text));
    this.#stopper = new AbortController();
    this.#busy(true);
    const answer = new Answer(this.#say("Model", "theirs"), this.#talk);
    try {
      const messages = this.#messages;
      const response = await post("/chat", { ...this.#machine, messages }, this.#stopper.signal);
      await answer.read(response.body);
      answer.end("");
    } catch (error) {
      answer.end(error.name === "AbortError" ? "Stopped." : "");
      if (error.name !== "AbortError") answer.fail(error);
    }
    // What came before a stop or a break was said, and belongs to the conversation.
    if (answer.text && this.#messages.at(-1)?.role === "user") {
      this.#messages.push({ role: "assistant", content: answer.text });
    } else if (this.#messages.at(-1)?.role === "user") {
      this.#messages.pop();
      if (answer.failed) this.#box.value ||= text;
    }
    this.#stopper = null;
    this.#busy(false);
  }

  #say(who, name) {
    const entry = make("div", undefined, name);
    entry.append(make("span", who, "who"));
    this.#talk.append(entry);
    this.#talk.scrollTop = this.#talk.scrollHeight;
    return entry;
  }

  #busy(busy) {
    // Screen readers hear the answer when it is whole, not token by token.
    this.#talk.setAttribute("aria-busy", String(busy));
    const [send, stop] = [this.#section.querySelector("[type=submit]"), this.#button("stop")];
    const had = document.activeElement;
    send.hidden = busy;
    stop.hidden = !busy;
    if (had === send) stop.focus();
    if (had === stop) this.#box.focus();
  }
}

class Answer {
  text = "";
  failed = false;
  #entry;
  #talk;
  #thoughts = null;
  #body = make("div", "…", "text waiting");
  #began = performance.now();
  #first = null;
  #tokens = null;

  constructor(entry, talk) {
    this.#entry = entry;
    this.#talk = talk;
    entry.append(this.#body);
  }

  async read(stream) {
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      const lines = (rest + (value ?? "")).split("\n");
      rest = done ? "" : lines.pop();
      for (const line of lines) this.#line(line.trim());
      if (done) return;
    }
  }

  #line(line) {
    if (!line.startsWith("data:") || line === "data: [DONE]") return;
    const event = JSON.parse(line.slice(5));
    if (event.error) throw new Trouble({ what: event.error.message });
    this.#tokens = event.usage?.completion_tokens ?? this.#tokens;
    const delta = event.choices?.[0]?.delta ?? {};
    this.#think(delta.reasoning ?? delta.reasoning_content ?? "");
    this.#add(delta.content ?? "");
  }

  #think(text) {
    if (!text) return;
    this.#first ??= performance.now();
    if (!this.#thoughts) {
      const folded = make("details", undefined, "thoughts");
      this.#thoughts = make("div", "", "text");
      folded.append(make("summary", "Reasoning"), this.#thoughts);
      this.#entry.insertBefore(folded, this.#body);
    }
    this.#thoughts.append(text);
  }

  #add(text) {
    if (!text) return;
    this.#first ??= performance.now();
    if (!this.text) {
      this.#body.textContent = "";
      this.#body.classList.remove("waiting");
    }
    this.text += text;
    const { scrollHeight, scrollTop, clientHeight } = this.#talk;
    this.#body.append(text);
    if (scrollHeight - scrollTop - clientHeight < 80) this.#talk.scrollTop = this.#talk.scrollHeight;
  }

  end(note) {
    this.#body.replaceWith(...prose(this.text));
    const facts = [note];
    if (this.#first !== null) {
      const took = (performance.now() - this.#first) / 1000;
      facts.push(`first token after ${((this.#first - this.#began) / 1000).toFixed(1)} s`);
      if (this.#tokens) facts.push(`${count(this.#tokens)} tokens, ${count(this.#tokens / Math.max(took, 0.001))} a second`);
    }
    const told = facts.filter(Boolean).join(" · ");
    if (told) this.#entry.append(make("p", told, "quiet"));
    this.#talk.scrollTop = this.#talk.scrollHeight;
  }

  fail(trouble) {
    this.failed = true;
    const told = make("div", undefined, "trouble");
    show(told, trouble);
    this.#entry.append(told);
    this.#talk.scrollTop = this.#talk.scrollHeight;
  }
}
