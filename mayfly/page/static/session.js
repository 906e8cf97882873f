// One machine's card: made once, then changed in place, so that focus and a chat stay where they are.
import { post, show } from "./api.js";
import { draw } from "./chart.js";
import { Chat } from "./chat.js";
import { clock, count, day, gb, make, say, seconds, span, usd } from "./words.js";

const DONE = { keep: "is kept", release: "is released", connect: "is connected", disconnect: "is disconnected" };
const STATES = { serving: "good", seeded: "good", failed: "bad", ended: "over" };
const ENDS = { leased: "Kept for", starting: "Starting for" };

function rate({ hourly_usd, rate_date, rate_warning }) {
  if (hourly_usd === null) return "rate not known";
  const since = rate_date ? `as of ${day(rate_date)}` : "undated";
  return `${usd(hourly_usd)}/h, ${since}${rate_warning ? ": over 30 days old" : ""}`;
}

export class Card {
  #row = null;
  #phase = "";

  constructor(row, { confirm, changed, news }) {
    this.element = document.getElementById("session").content.firstElementChild.cloneNode(true);
    this.element.dataset.vm = row.vm_id;
    this.element.dataset.session = row.session;
    this.news = news;
    this.machine = { session: row.session, vm_id: row.vm_id };
    const title = `card-${row.vm_id}`;
    this.#at("h3").id = title;
    this.element.setAttribute("aria-labelledby", title);
    this.#at(".talk").setAttribute("aria-label", `Conversation with ${row.session}`);
    this.#at(".stages").setAttribute("aria-label", `Stages of ${row.session}`);
    new Chat(this.#at(".chat"), this.machine);
    for (const button of this.element.querySelectorAll("[data-act]")) {
      const act = button.dataset.act;
      button.setAttribute("aria-label", `${button.textContent} ${row.session}`);
      button.addEventListener("click", async () => {
        if (act === "down" && !(await confirm(this.#row, this.#cost()))) return;
        await this.#act(act, button);
        await changed();
        if (button.hidden) this.#at(`[data-act=${act === "connect" ? "disconnect" : act === "disconnect" ? "connect" : "keep"}]`).focus();
      });
    }
  }

  #at(selector) {
    return this.element.querySelector(selector);
  }

  async #act(act, button) {
    button.setAttribute("aria-busy", "true");
    button.disabled = true;
    try {
      const more = act === "keep" ? { span: this.#at("select").value } : {};
      await post(`/${act}`, { ...this.machine, ...more });
      show(this.#at(".card > .trouble"), null);
      this.news(act === "down" ? `${this.machine.session} is being ended` : `${this.machine.session} ${DONE[act]}`);
    } catch (error) {
      show(this.#at(".card > .trouble"), error);
    } finally {
      button.disabled = false;
      button.removeAttribute("aria-busy");
      button.focus();
    }
  }

  update(row, now) {
    this.#row = row;
    this.#row.seen = now;
    const serving = row.phase === "serving" && row.status === "RUNNING";
    say(this.#at("h3"), ["session", row.session].includes(row.layer) ? row.session : `${row.session} (${row.layer})`);
    const running = row.status === "RUNNING";
    const phase = running ? row.phase : row.status.toLowerCase();
    say(this.#at(".phase"), phase);
    this.element.dataset.state = running ? STATES[phase] ?? "under-way" : "over";
    if (this.#phase && phase !== this.#phase) this.news(`${row.session}: ${phase}`);
    this.#phase = phase;
    const offers = row.mode ? `mode ${row.mode}, ${count(row.max_model_len)} tokens` : null;
    say(this.#at(".what"), [row.profile, offers, row.zone, row.provisioning, row.started_by && `started by ${row.started_by}`].filter(Boolean).join(" · "));
    say(this.#at(".rate"), rate(row));
    say(this.#at(".why"), row.reason);
    say(this.#at(".end-name"), running ? ENDS[row.verdict] ?? "Ends by itself" : "Machine");
    say(this.#at(".until"), row.deadline ? `its deadline, ${clock(row.deadline)}` : "");
    say(this.#at(".speed"), row.tok_s == null ? "–" : `${count(row.tok_s)} tok/s`);
    say(this.#at(".load"), row.requests_running == null ? "" : `${row.requests_running} running, ${row.requests_waiting} waiting`);
    // What a serving machine says of itself stands in the line above, but for why it offers less.
    const message = serving && row.mode !== "safe" ? "" : row.message ?? "";
    say(this.#at(".message"), message);
    this.#at(".message").hidden = !message;
    for (const element of this.element.querySelectorAll("[data-running]")) element.hidden = !running;
    this.#at("[data-act=release]").hidden = row.verdict !== "leased";
    this.#at("[data-act=connect]").hidden = Boolean(row.base_url) || !serving;
    this.#at("[data-act=disconnect]").hidden = !row.base_url;
    this.#at(".address").hidden = !row.base_url;
    say(this.#at(".address"), row.base_url ? `On this machine: ${row.base_url} (for the key: mayfly connect --show-key)` : "");
    this.#at(".chat").hidden = !serving;
    draw(this.#at(".chart"), row.speeds, now);
    this.#stages(row.timeline ?? [], now, serving);
    this.#going(row.down);
    this.tick(now);
  }

  #cost(now = this.#row.seen) {
    const { cost_usd, hourly_usd, status, seen } = this.#row;
    if (cost_usd === null || status !== "RUNNING") return cost_usd;
    return cost_usd + (hourly_usd * Math.max(0, now - seen)) / 3600;
  }

  // Every second, between two looks.
  tick(now) {
    const { ends_at, deadline, verdict } = this.#row;
    const left = (stamp) => (stamp ? span(seconds(stamp) - now) : "?");
    const running = this.#row.status === "RUNNING";
    const starting = verdict === "starting";
    say(this.#at(".cost"), usd(this.#cost(now)));
    say(this.#at(".ends"), running ? this.#ends(now) : "has ended");
    say(this.#at(".deadline"), left(deadline));
    const soon = running && !starting && Boolean(ends_at) && seconds(ends_at) - now < 300;
    this.#at(".ends").classList.toggle("soon", soon);
    this.#life(now, running && !starting ? seconds(ends_at) : null);
    return running ? this.#row.hourly_usd ?? 0 : 0;
  }

  // A start has its own limit, but each sign of life moves the end on: what counts is how long it takes.
  #ends(now) {
    const { created_at, ends_at, verdict } = this.#row;
    if (verdict === "starting") return span(now - seconds(created_at));
    if (!ends_at) return "?";
    return seconds(ends_at) > now ? span(seconds(ends_at) - now) : "now";
  }

  // From its birth to its deadline: what is over, and where it ends if nothing happens.
  #life(now, ends) {
    const { created_at, deadline, status } = this.#row;
    this.#at(".life").hidden = status !== "RUNNING" || !deadline;
    if (!deadline) return;
    const [born, last] = [seconds(created_at), seconds(deadline)];
    const share = (at) => `${Math.min(100, Math.max(0, ((at - born) / Math.max(1, last - born)) * 100))}%`;
    this.#at(".lived").style.setProperty("--long", share(now));
    this.#at(".mark").hidden = !ends;
    this.#at(".mark").style.setProperty("--from", share(Math.max(now, ends)));
    say(this.#at(".began"), `began ${clock(created_at)}`);
    say(this.#at(".next"), ends ? `| ${clock(1000 * Math.max(now, ends))} if nothing happens` : "");
    say(this.#at(".last"), `${clock(deadline)} at the latest`);
  }

  #stages(stages, now, serving) {
    const start = this.#at(".start");
    start.hidden = !stages.length;
    if (!start.dataset.met) {
      start.dataset.met = "yes";
      start.open = !serving;
    }
    if (!stages.length) return;
    const times = stages.map((s) => [seconds(s.started_at), s.ended_at ? seconds(s.ended_at) : now]);
    const began = Math.min(...times.map(([from]) => from));
    const whole = Math.max(1, ...times.map(([, to]) => to - began));
    const how = serving ? `How it started, in ${span(whole)}` : "How it starts";
    const state = this.element.dataset.state;
    say(start.querySelector("summary"), ["bad", "over"].includes(state) ? "How far it came" : how);
    const list = this.#at(".stages");
    const lines = stages.map((stage, n) => {
      const [from, to] = times[n];
      const line = make("li");
      const state = stage.ended_at === null ? "running" : stage.ok === false ? "failed" : "done";
      line.dataset.state = state;
      const track = make("span", undefined, "track");
      const bar = make("span", undefined, "bar");
      // Through the object model: a style attribute is forbidden by the page's own policy.
      bar.style.setProperty("--from", `${((from - began) / whole) * 100}%`);
      bar.style.setProperty("--long", `${Math.max(0.6, ((to - from) / whole) * 100)}%`);
      track.append(bar);
      track.setAttribute("aria-hidden", "true");
      const rate = state === "done" && stage.bytes > 1e10 ? ` at ${gb(stage.bytes / Math.max(1, to - from))}/s` : "";
      const size = stage.bytes ? `${gb(stage.bytes)}${rate}, ` : "";
      const took = state === "running" ? `${size}${span(to - from)} …` : `${state === "failed" ? "failed, " : ""}${size}${span(to - from)}`;
      line.append(make("span", stage.stage, "stage"), track, make("span", took, "took"));
      return line;
    });
    list.replaceChildren(...lines);
  }

  #going(down) {
    const going = this.#at(".going");
    going.hidden = !down;
    if (!down) return;
    const words = { running: "Being ended …", done: "It is gone.", failed: "It could not be ended; it may still cost money." };
    say(going.querySelector("p"), words[down.state]);
    say(going.querySelector("pre"), down.lines.join("\n"));
    going.querySelector("pre").hidden = !down.lines.length;
    this.#at("[data-act=down]").disabled = down.state === "running";
  }
}
