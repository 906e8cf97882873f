// Looks every few seconds while somebody can see the page, and counts the seconds in between.
import { get, show } from "./api.js";
import { fill } from "./ledger.js";
import { Card } from "./session.js";
import { say, usd } from "./words.js";

const LOOK_EVERY_MS = 5000;
const LEDGER_EVERY_MS = 60000;

const at = (id) => document.getElementById(id);
const cards = new Map();
let [ahead, lookedAt, ledgerAt, total] = [0, 0, -Infinity, 0];

const now = () => Date.now() / 1000 + ahead;

async function look() {
  try {
    const seen = await get("/sessions");
    ahead = seen.now - Date.now() / 1000;
    lookedAt = seen.now;
    say(at("project"), seen.project);
    update(seen.sessions);
    show(at("trouble"), null);
  } catch (error) {
    show(at("trouble"), error);
  }
  document.body.dataset.looked = String(Number(document.body.dataset.looked ?? 0) + 1);
}

function update(rows) {
  const there = new Set(rows.map((row) => row.vm_id));
  for (const [id, card] of cards) {
    if (there.has(id)) continue;
    news(`${card.machine.session} is gone`);
    card.element.remove();
    cards.delete(id);
  }
  for (const row of rows) {
    if (!cards.has(row.vm_id)) {
      const card = new Card(row, { confirm, changed: look, news });
      cards.set(row.vm_id, card);
      at("cards").append(card.element);
    }
    cards.get(row.vm_id).update(row, now());
  }
  at("empty").hidden = rows.length > 0;
  tick();
}

function tick() {
  total = [...cards.values()].reduce((sum, card) => sum + card.tick(now()), 0);
  say(at("total"), cards.size ? `${usd(total)} an hour now` : "");
  document.title = cards.size ? `mayfly: ${usd(total)}/h` : "mayfly";
  if (lookedAt) say(at("fresh"), `looked ${Math.max(0, Math.round(now() - lookedAt))} s ago`);
}

async function books() {
  try {
    fill(await get("/ledger"));
  } catch (error) {
    at("ledger-empty").hidden = false;
    say(at("ledger-empty"), (error.lines ?? [String(error)]).join(" "));
  }
}

function news(text) {
  at("news").textContent = text;
}

function confirm(row, cost) {
  const ask = at("ask");
  say(at("ask-title"), `End ${row.session} now?`);
  const spent = cost === null ? "" : ` It has cost ${usd(cost)} so far.`;
  say(at("ask-text"), `Its machine and everything on it go; the weights stay in the bucket.${spent}`);
  return new Promise((resolve) => {
    let answer = false;
    for (const button of ask.querySelectorAll("[data-answer]")) {
      button.onclick = () => {
        answer = button.dataset.answer === "yes";
        ask.close();
      };
    }
    ask.onclose = () => resolve(answer);
    ask.showModal();
  });
}

// Nobody looks at a page in the background, so it asks for nothing.
async function round() {
  if (document.visibilityState !== "visible") return;
  await look();
  if (performance.now() - ledgerAt >= LEDGER_EVERY_MS) {
    ledgerAt = performance.now();
    await books();
  }
}

document.addEventListener("visibilitychange", round);
setInterval(tick, 1000);
for (;;) {
  await round();
  await new Promise((over) => setTimeout(over, LOOK_EVERY_MS));
}
