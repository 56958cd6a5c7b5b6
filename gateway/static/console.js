// The operators' console: bare. Lists the sales, shows one's counts as they change, opens, pauses, resumes, ends, sets the pace.

const $ = (id) => document.getElementById(id);
const EVERY_MS = 1000;
const STATES = ["joined", "waiting", "admitted", "reserved", "confirmed", "declined", "sold_out", "released", "left", "lapsed"];
const FIELDS = { // of the form: the sale's name for it, and what a number looks like, so that no other reads as "no limit"
  rate: ["rate_per_s", /^(\d+(,\d{1,2})?|\d*\.\d+)$/, "50 or 2.5"], capacity: ["capacity", /^\d+$/, "200"], said: ["message"],
};
const MOVES = { draft: ["open", "end"], open: ["pause", "end"], paused: ["resume", "end"] };

const store = { // may be forbidden: then the key is kept until the page is loaded again
  read() { try { return sessionStorage.getItem("fairline:key") ?? ""; } catch { return ""; } },
  write(value) { try { sessionStorage.setItem("fairline:key", value); } catch { /* as above */ } },
};

let key = store.read();
let shown = "";      // the sale on the page
let version = -1;    // of the sale whose values are in the form
let held = {};       // those values as they were put there
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

async function call(method, path, body) { // what was answered, or nothing and the words that say why
  try {
    const answer = await fetch(`/admin${path}`, {
      method, cache: "no-store", signal: AbortSignal.timeout(15000),
      headers: { authorization: `Bearer ${key}`, ...(body ? { "content-type": "application/json" } : {}) },
      body: body && JSON.stringify(body),
    });
    const said = await answer.json().catch(() => ({}));
    const words = answer.ok ? "" : said.detail ?? `The gateway answered ${answer.status}.`;
    if (answer.status === 401) forget(words);
    return { said: answer.ok ? said : null, words };
  } catch {
    return { said: null, words: "The gateway does not answer." };
  }
}

function trouble(words) {
  text("trouble", words);
  $("trouble").hidden = !words;
}

function forget(words = "") {
  key = "";
  store.write("");
  route();
  trouble(words);
}

function route() {
  clearTimeout(timer);
  try { shown = decodeURIComponent(location.hash.slice(1)); } catch { shown = ""; }
  version = -1;
  trouble("");
  text("done", "");
  $("login").hidden = Boolean(key);
  $("sales").hidden = !key || Boolean(shown);
  $("back").hidden = !key || !shown;
  $("sale").hidden = true;
  if (key) (shown ? drawSale : drawSales)();
}

async function drawSales(after = "") {
  const { said: page, words } = await call("GET", `/sales?limit=100${after && `&after=${encodeURIComponent(after)}`}`);
  if (shown || !key) return;
  trouble(words);
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
  const [{ said: sale, words }, { said: counts, words: more }] = await Promise.all([
    call("GET", `/sales/${encodeURIComponent(asked)}`), call("GET", `/sales/${encodeURIComponent(asked)}/stats`),
  ]);
  if (asked !== shown || !key) return;
  trouble(words || more);
  if (sale) drawHead(sale);
  if (counts) drawCounts(counts);
  clearTimeout(timer);
  timer = setTimeout(() => (document.hidden ? 0 : drawSale()), EVERY_MS);
}

function drawHead(sale, anyhow = false) {
  $("sale").hidden = false;
  text("name", sale.name);
  text("state", sale.state);
  text("id", sale.sale_id);
  $("room").href = `/room/${encodeURIComponent(sale.sale_id)}`;
  text("version", sale.version);
  text("known", sale.acknowledged ? "known to Postgres" : "not yet known to Postgres");
  for (const button of document.querySelectorAll("[data-act]")) button.hidden = !MOVES[sale.state]?.includes(button.dataset.act);
  $("pace").hidden = !MOVES[sale.state];
  if (anyhow || (sale.version !== version && !$("pace").contains(document.activeElement))) {
    version = sale.version;
    $("rate").value = sale.rate_per_s ?? "";
    $("capacity").value = sale.capacity ?? "";
    $("said").value = sale.message ?? "";
    for (const id of Object.keys(FIELDS)) held[id] = $(id).value;
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

async function change(method, path, body, done) { // what came of it stays to be read, while the sale is read on
  const asked = shown;
  text("done", "One moment …");
  const { said, words } = await call(method, `/sales/${encodeURIComponent(asked)}${path}`, body);
  if (asked !== shown || !key) return;
  text("done", said ? done(said) : words);
  if (said) drawHead(said, method === "PATCH");
}

function act(action) {
  if (action === "end" && !confirm(`End ${shown} for good? Everybody in line is sent away.`)) return;
  change("POST", `/${action}`, undefined, (sale) => `Done: ${sale.state}.`);
}

function set() {
  const body = {}; // only what was changed here: the rest may have been changed elsewhere meanwhile
  for (const [id, [name, number, like]] of Object.entries(FIELDS)) {
    const given = $(id).value.trim();
    if ($(id).value === held[id]) continue;
    if (given && number && !number.test(given)) {
      text("done", `“${given}” is no number like ${like}. Nothing was changed.`);
      return $(id).focus();
    }
    body[name] = !given ? null : number ? Number(given.replace(",", ".")) : $(id).value;
  }
  if (!Object.keys(body).length) return text("done", "There is nothing to set.");
  change("PATCH", "", body, () => "Set.");
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = $("key").value.trim();
  $("key").value = "";
  if (!/^[ -~]+$/.test(given)) return trouble("That is no key: no key has such characters."); // nor may a header have them
  key = given;
  store.write(key);
  route();
});
$("pace").addEventListener("submit", (event) => { event.preventDefault(); set(); });
for (const button of document.querySelectorAll("[data-act]")) button.addEventListener("click", () => act(button.dataset.act));
$("more").addEventListener("click", () => drawSales(next));
$("out").addEventListener("click", () => forget());
addEventListener("hashchange", route);
document.addEventListener("visibilitychange", () => { if (!document.hidden && key) (shown ? drawSale : drawSales)(); });
route();
