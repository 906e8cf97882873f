// One machine's card: made once, then changed in place, so that focus and a chat stay where they are.
import { post, show } from "./api.js";
import { draw } from "./chart.js";
import { Chat } from "./chat.js";
import { clock, count, day, make, say, seconds, span, usd } from "./words.js";

const DONE = { keep: "is kept", release: "is released", connect: "is connected", disconnect: "is disconnected" };

export class Card {
  #row = null;
  #phase = "";

  constructor(row, { confirm, changed, news }) {
    this.element = document.getElementById("session").content.firstElementChild.cloneNode(true);
    this.element.dataset.vm = row.vm_id;
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
    say(this.#at("h3"), row.layer === "session" ? row.session : `${row.session} (${row.layer})`);
    const phase = row.status === "RUNNING" ? row.phase : `${row.phase}, ${row.status.toLowerCase()}`;
    say(this.#at(".phase"), phase);
    this.#at(".phase").dataset.phase = row.phase;
    if (this.#phase && phase !== this.#phase) this.news(`${row.session}: ${phase}`);
    this.#phase = phase;
    const offers = row.mode ? `mode ${row.mode}, ${count(row.max_model_len)} tokens` : null;
    say(this.#at(".what"), [row.profile, offers, row.zone, row.provisioning, row.started_by].filter(Boolean).join(" · "));
    say(this.#at(".rate"), row.hourly_usd === null ? "rate not known" : `${usd(row.hourly_usd)}/h, ${row.rate_date ? `as of ${day(row.rate_date)}` : "undated"}`);
    say(this.#at(".why"), row.reason);
    say(this.#at(".end-name"), row.verdict === "leased" ? "Kept for" : "Ends by itself");
    say(this.#at(".until"), row.deadline ? `its deadline, ${clock(row.deadline)}` : "");
    say(this.#at(".speed"), row.tok_s == null ? "–" : `${count(row.tok_s)} tok/s`);
    say(this.#at(".load"), row.requests_running == null ? "" : `${row.requests_running} running, ${row.requests_waiting} waiting`);
    say(this.#at(".message"), row.message ?? "");
    this.#at(".message").hidden = !row.message;
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
    const { ends_at, deadline } = this.#row;
    const left = (stamp) => (stamp ? span(seconds(stamp) - now) : "?");
    say(this.#at(".cost"), usd(this.#cost(now)));
    say(this.#at(".ends"), ends_at ? left(ends_at) : "?");
    say(this.#at(".deadline"), left(deadline));
    this.#at(".ends").classList.toggle("soon", Boolean(ends_at) && seconds(ends_at) - now < 300);
    return this.#row.status === "RUNNING" ? this.#row.hourly_usd ?? 0 : 0;
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
      const size = stage.bytes ? `, ${(stage.bytes / 1e9).toFixed(2)} GB` : "";
      const took = state === "running" ? `${span(to - from)} …` : `${state === "failed" ? "failed, " : ""}${span(to - from)}${size}`;
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
