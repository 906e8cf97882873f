// Numbers and times for people, and text that is only ever text: nothing here makes HTML of it.

export const seconds = (stamp) => (stamp ? Date.parse(stamp) / 1000 : null);

export function span(s) {
  if (s === null) return "?";
  const whole = Math.max(0, Math.floor(s));
  const [h, m] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  if (h) return `${h} h ${m} min`;
  return whole >= 60 ? `${m} min ${String(whole % 60).padStart(2, "0")} s` : `${whole} s`;
}

export const usd = (value) => (value === null ? "?" : `$${value.toFixed(2)}`);

export const gb = (bytes) => (bytes < 1e9 ? `${(bytes / 1e6).toFixed(0)} MB` : `${(bytes / 1e9).toFixed(bytes < 1e10 ? 1 : 0)} GB`);

export const count = (value) => Math.round(value).toLocaleString("en");

export function clock(stamp) {
  const at = new Date(stamp);
  const today = at.toDateString() === new Date().toDateString();
  const hour = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  return at.toLocaleString("en-GB", today ? hour : { day: "numeric", month: "short", ...hour });
}

export const day = (stamp) => new Date(stamp).toLocaleString("en-GB", { day: "numeric", month: "short", year: "numeric" });

export function make(tag, text, name) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}

// Changing a text that is the same would wake screen readers for nothing.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A text with its ``` fences as code.
export function prose(text) {
  return text.split(/^```.*$/m).map((part, n) => {
    const trimmed = part.replace(/^\n+|\n+$/g, "");
    if (n % 2 === 0) return make("div", trimmed, "text");
    const code = make("pre");
    code.tabIndex = 0;
    code.append(make("code", trimmed));
    return code;
  }).filter((node) => node.textContent);
}
