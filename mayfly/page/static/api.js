// The page's own server: JSON, and errors in mayfly's three lines.

export class Trouble extends Error {
  constructor(told) {
    super(told.what);
    this.lines = [told.what, told.meaning, told.remedy].filter(Boolean);
  }
}

const ENDED = {
  what: "mayfly dashboard does not answer.",
  meaning: "What runs goes on, and ends by its own rule.",
  remedy: "Start it again: mayfly dashboard",
};

export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble(ENDED);
  }
  if (!answer.ok) throw new Trouble(await answer.json());
  return answer;
}

export const get = async (path) => (await ask(path)).json();

export function post(path, data, signal) {
  const headers = { "Content-Type": "application/json" };
  return ask(path, { method: "POST", headers, body: JSON.stringify(data), signal });
}

export function show(element, trouble) {
  const lines = trouble?.lines ?? (trouble ? [String(trouble)] : []);
  const text = lines.join("\n");
  if (element.textContent !== text) element.textContent = text;
  element.hidden = !text;
}
