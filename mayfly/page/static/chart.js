// Tokens a second over time, as the machine's watchdog tells them.
import { count } from "./words.js";

const [WIDTH, HEIGHT] = [600, 80];

export function draw(figure, speeds, now) {
  figure.hidden = speeds.length < 2;
  if (figure.hidden) return;
  const began = speeds[0][0];
  const most = Math.max(1, ...speeds.map(([, speed]) => speed));
  const x = (at) => ((at - began) / Math.max(1, now - began)) * WIDTH;
  const y = (speed) => HEIGHT - 2 - (speed / most) * (HEIGHT - 6);
  const points = [...speeds, [now, speeds.at(-1)[1]]].map(([at, speed]) => `${x(at).toFixed(1)},${y(speed).toFixed(1)}`);
  figure.querySelector(".line").setAttribute("d", `M${points.join("L")}`);
  figure.querySelector(".area").setAttribute("d", `M0,${HEIGHT}L${points.join("L")}L${WIDTH},${HEIGHT}Z`);
  const minutes = Math.max(1, Math.round((now - began) / 60));
  figure.querySelector(".from").textContent = `${minutes} min ago`;
  figure.querySelector("figcaption").textContent =
    `Tokens a second over ${minutes} min: ${count(speeds.at(-1)[1])} now, ${count(most)} at most`;
}
