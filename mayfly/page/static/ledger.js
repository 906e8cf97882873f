// What is gone, and what it has cost.
import { clock, make, span, usd } from "./words.js";

export function fill({ total, by_month, last }) {
  const at = (id) => document.getElementById(id);
  const unknown = total.unknown ? `, ${total.unknown} at an unknown rate` : "";
  at("spent").textContent = total.vms ? `${usd(total.usd)} for ${total.vms} machines${unknown}` : "";
  at("ledger-empty").hidden = Boolean(total.vms);
  at("ledger").hidden = !total.vms;
  const months = [...by_month].reverse().slice(0, 12).map((month) => {
    const entry = make("li");
    entry.append(make("span", month.name ?? "?"), make("strong", usd(month.usd)));
    return entry;
  });
  at("months").replaceChildren(...months);
  document.querySelector("#ledger tbody").replaceChildren(...last.map(row));
}

function row(record) {
  const line = make("tr");
  const name = make("th", record.session ?? record.vm);
  name.scope = "row";
  line.append(
    name,
    make("td", record.created ? clock(record.created) : "?"),
    make("td", span(record.seconds), "number"),
    make("td", record.usd_per_h === null ? "?" : `${usd(record.usd_per_h)}/h`, "number"),
    make("td", usd(record.usd), "number"),
    make("td", `${record.ended_by}: ${record.reason}`),
  );
  return line;
}
