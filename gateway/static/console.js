// The operators' console: bare. Lists the sales, shows one's counts as they change, opens, pauses, resumes, ends, sets the pace.

const $ = (id) => document.getElementById(id);
const EVERY_MS = 1000;
const STATES = ["joined", "waiting", "admitted", "reserved", "confirmed", "declined", "sold_out", "released", "left", "lapsed"];
const MOVES = { draft: ["open", "end"], open: ["pause", "end"], paused: ["resume", "end"] };

let key = sessionStorage.getItem("fairline:key") ?? "";
let shown = "";      // the sale on the page
let version = -1;    // of the sale whose values are in the form
let timer = 0;
let next = null;     // page of the list

const text = (id, words) => { $(id).textContent = words; };
const cell = (tag, words, number = false) => {
  const one = document.createElement(tag);
  one.append(words);
  if (tag === "th") one.scope = "col";
  if (number) one.className = "number";
  return one;
};
const row = (...cells) => { const one = document.createElement("tr"); one.append(...cells); return one; };

async function call(method, path, body) {
  try {
    const answer = await fetch(`/admin${path}`, {
      method, cache: "no-store", signal: AbortSignal.timeout(15000),
      headers: { authorization: `Bearer ${key}`, ...(body ? { "content-type": "application/json" } : {}) },
      body: body && JSON.stringify(body),
    });
    const said = await answer.json().catch(() => ({}));
    if (answer.status === 401) forget();
    trouble(answer.ok ? "" : said.detail ?? `The gateway answered ${answer.status}.`);
    return answer.ok ? said : null;
  } catch {
    trouble("The gateway does not answer. Trying again.");
    return null;
  }
}

function trouble(words) {
  text("trouble", words);
  $("trouble").hidden = !words;
}

function forget() {
  key = "";
  sessionStorage.removeItem("fairline:key");
  route();
}

function route() {
  clearTimeout(timer);
  shown = decodeURIComponent(location.hash.slice(1));
  version = -1;
  $("login").hidden = Boolean(key);
  $("sales").hidden = !key || Boolean(shown);
  $("sale").hidden = true;
  if (key) (shown ? drawSale : drawSales)();
}

async function drawSales(after = "") {
  const page = await call("GET", `/sales?limit=100${after && `&after=${encodeURIComponent(after)}`}`);
  if (shown || !key) return;
  if (page) {
    if (!after) $("rows").replaceChildren();
    for (const sale of page.sales) {
      const link = document.createElement("a");
      link.href = `#${encodeURIComponent(sale.sale_id)}`;
      link.textContent = sale.sale_id;
      $("rows").append(row(cell("td", link), cell("td", sale.name ?? ""), cell("td", sale.state), cell("td", sale.waiting ?? "", true)));
    }
    next = page.next;
    $("more").hidden = !next;
    $("none").hidden = $("rows").children.length > 0;
  }
  clearTimeout(timer);
  if (!after) timer = setTimeout(() => (document.hidden || next ? 0 : drawSales()), 5 * EVERY_MS);
}

async function drawSale() {
  const asked = shown;
  const [sale, counts] = await Promise.all([
    call("GET", `/sales/${encodeURIComponent(asked)}`), call("GET", `/sales/${encodeURIComponent(asked)}/stats`),
  ]);
  if (asked !== shown || !key) return;
  if (sale) drawHead(sale);
  if (counts) drawCounts(counts);
  clearTimeout(timer);
  timer = setTimeout(() => (document.hidden ? 0 : drawSale()), EVERY_MS);
}

function drawHead(sale) {
  $("sale").hidden = false;
  text("name", sale.name);
  text("state", sale.state);
  text("id", sale.sale_id);
  $("room").href = `/room/${encodeURIComponent(sale.sale_id)}`;
  text("version", sale.version);
  text("known", sale.acknowledged ? "known to Postgres" : "not yet known to Postgres");
  for (const button of document.querySelectorAll("[data-act]")) button.hidden = !MOVES[sale.state]?.includes(button.dataset.act);
  $("pace").hidden = !MOVES[sale.state];
  if (sale.version !== version && !$("pace").contains(document.activeElement)) {
    version = sale.version;
    $("rate").value = sale.rate_per_s ?? "";
    $("capacity").value = sale.capacity ?? "";
    $("said").value = sale.message ?? "";
  }
}

function drawCounts(counts) {
  $("totals").replaceChildren(...[...STATES, "admitted_total", "asked", "in_flight", "outbox"].map((name) => {
    const one = document.createElement("div");
    one.append(cell("dt", name.replace("_", " ")), cell("dd", counts[name].toLocaleString()));
    return one;
  }));
  const list = (title, found) => {
    const each = Object.entries(found).map(([code, n]) => `${code} ${n.toLocaleString()}`);
    return each.length ? `${title}: ${each.join(" · ")}` : "";
  };
  text("refused", [list("Refused", counts.refused), list("Declined", counts.declined_by_reason)].filter(Boolean).join(". "));
  const columns = ["stock", "free", ...STATES];
  $("columns").replaceChildren(row(cell("th", "sku"), ...columns.map((name) => cell("th", name.replace("_", " "), true))));
  $("items").replaceChildren(...counts.items.map((item) => row(cell("td", item.sku), ...columns.map((name) => cell("td", item[name].toLocaleString(), true)))));
  text("at", new Date(counts.server_time).toLocaleTimeString());
}

async function act(action) {
  if (action === "end" && !confirm(`End ${shown} for good? Everybody in line is sent away.`)) return;
  text("done", `${action} …`);
  const sale = await call("POST", `/sales/${encodeURIComponent(shown)}/${action}`);
  text("done", sale ? `Done: ${sale.state}.` : "");
  if (sale) drawHead(sale);
}

function number(id) {
  const given = $(id).value.trim().replace(",", ".");
  return given === "" ? null : Number(given);
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  $("key").value = "";
  sessionStorage.setItem("fairline:key", key);
  route();
});
$("pace").addEventListener("submit", async (event) => {
  event.preventDefault();
  document.activeElement.blur();
  const sale = await call("PATCH", `/sales/${encodeURIComponent(shown)}`, { rate_per_s: number("rate"), capacity: number("capacity"), message: $("said").value || null });
  text("done", sale ? "Set." : "");
  if (sale) drawHead(sale);
});
for (const button of document.querySelectorAll("[data-act]")) button.addEventListener("click", () => act(button.dataset.act));
$("more").addEventListener("click", () => drawSales(next));
$("out").addEventListener("click", forget);
addEventListener("hashchange", route);
document.addEventListener("visibilitychange", () => { if (!document.hidden && key) (shown ? drawSale : drawSales)(); });
route();
