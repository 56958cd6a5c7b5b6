// The waiting room of one sale: joins once, keeps the place through reloads and lost connections, tells the outcome.
// Progress comes over a WebSocket; where there is none, by asking for the status as often as the server says.

const saleId = decodeURIComponent(location.pathname.split("/").filter(Boolean).pop());
const api = `/sales/${encodeURIComponent(saleId)}`;
const $ = (id) => document.getElementById(id);
const store = {
  name: `fairline:${saleId}`,
  read() { try { return JSON.parse(localStorage.getItem(this.name)) ?? {}; } catch { return {}; } },
  write(value) { try { localStorage.setItem(this.name, JSON.stringify(value)); } catch { /* private mode: until reload */ } },
};

const SALE_EVERY_MS = 5000;      // where no WebSocket tells how the sale stands
const SAY_EVERY_MS = 30000;      // a screen reader hears the place no more often
const LONGEST_WAIT_MS = 30000;   // between two attempts to connect
const FINAL = new Set(["CONFIRMED", "DECLINED", "SOLD_OUT", "LEFT", "LAPSED", "RELEASED"]);
const OUTLOOK = { available: "available", all_reserved: "all reserved, some may come back", sold_out: "sold out" };
const WORDS = {
  WAITING: ["busy", "You are in line", "Your place is taken and kept. Accepted is not yet bought: you will be told here when it is your turn.", ""],
  ADMITTED: ["busy", "It is your turn", "The shop is checking your order now. You need not do anything.", "Stay here; this takes a few seconds."],
  RESERVED: ["busy", "Set aside for you", "It is reserved in your name and nobody else can take it. Your order is being written down; it counts as bought once that is done.", "A moment more."],
  CONFIRMED: ["good", "You have it", "Your order is written down and final.", "Keep the ticket number below, and follow the shop's instructions."],
  DECLINED: ["bad", "Your order was declined", "Nothing was bought, and your place was given up.", ""],
  SOLD_OUT: ["bad", "Sold out", "All units went to people before you in line. Nothing was bought.", "There is nothing more you can do for this item here."],
  LEFT: ["", "You left the line", "Your place went to the next in line. Nothing was bought.", "You may join again, at the back."],
  LAPSED: ["bad", "Your turn has passed", "The shop could not decide about your order in time, so your place was given up. Nothing was bought.", "You may join again, at the back."],
  RELEASED: ["bad", "Your order could not be written down", "What was set aside for you went back on sale. Nothing was bought.", "You may join again, at the back."],
};
const REASONS = {
  payment_declined: "The payment was declined. You may try again with another one.",
  already_bought: "You already have as many of these as one buyer may.",
  over_limit: "Together with what you have, that is more than one buyer may.",
  sale_closed: "The sale ended before it was your turn.",
  not_writable: "It was refused when it was written down, which was not your doing. The shop may put you back at your old place: then it shows here, so keep this page or come back to it.",
  unit_taken: "It turned out that it had been sold to somebody else.",
  cancelled: "The shop cancelled it.",
  not_enough_left: "There are fewer left than you asked for. You may join again and ask for fewer.",
};
const NOT_FOUND = "Your place could not be found any more. Please join again.";
const REFUSALS = {
  already_bought: "You already have as many of these as one buyer may. Nothing more to do: your first order counts.",
  over_limit: "That is more than one buyer may have. Please choose fewer.",
  sold_out: "This one is sold out. Perhaps something else is still available.",
  sale_closed: "This sale has ended.",
  not_open: "The sale has not opened yet. This page will tell you when it does.",
  unknown_sku: "This item is not on sale any more. Please load the page again.",
  invalid_field: "Please check what you typed: 1 to 128 ordinary characters, no space at either end.",
};

let mine = store.read();         // { buyer, sku, quantity, fewer, key, ticket, proved }
let sale = null;                 // the last public state of the sale
let clock = 0;                   // what the server's clock is ahead of ours, ms
let socket = null;
let failures = 0;
let farewell = "";               // what became of a ticket that is not there any more
let timers = {};
let quiet = 0;                   // until then the sale is not to be asked for
let said = { words: "", at: 0 };

const stop = (name) => { clearTimeout(timers[name]); delete timers[name]; };
const later = (name, ms, act) => { stop(name); timers[name] = setTimeout(() => { delete timers[name]; act(); }, ms); };
const jitter = (ms) => ms * (0.75 + Math.random() / 2);
const text = (id, words) => { if ($(id).textContent !== words) $(id).textContent = words; };
const show = (id, on) => { $(id).hidden = !on; };

async function call(method, path, { body, headers = {} } = {}) {
  const given = mine.ticket?.token ? { authorization: `Bearer ${mine.ticket.token}` } : {};
  try {
    const answer = await fetch(path, {
      method, cache: "no-store", signal: AbortSignal.timeout(10000),
      headers: { ...(path === api || body ? {} : given), ...(body ? { "content-type": "application/json" } : {}), ...headers },
      body: body && JSON.stringify(body),
    });
    const said = await answer.json().catch(() => ({}));
    const retry = Number(answer.headers.get("retry-after")) * 1000 || 0;
    return { status: answer.status, said, retry };
  } catch {
    return { status: 0, said: {}, retry: 0 };
  }
}

function trouble({ status, said }) {
  const words = status === 0 ? "No connection at the moment. Trying again; your place is kept."
    : said.code === "recovering" ? "The sale is halted for a moment while it is being checked. Places are kept; nobody is let in meanwhile."
    : status >= 500 || status === 429 ? "Many people are here right now. Trying again; your place is kept." : "";
  text("trouble", words);
  show("trouble", words);
}

// How the sale stands

async function readSale() {
  const answer = await call("GET", api);
  trouble(answer);
  quiet = Date.now() + answer.retry;
  if (answer.status === 200) {
    sale = answer.said;
    clock = Date.parse(sale.server_time) - Date.now();
  } else if (answer.status === 404) {
    return location.reload();
  }
  draw();
  const asking = !document.hidden && !(sale && socket?.readyState === WebSocket.OPEN);
  if (asking) later("sale", Math.max(jitter(SALE_EVERY_MS), answer.retry), readSale);
}

// Joining

function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function join() {
  $("go").disabled = true;
  text("fault", "");
  const answer = await call("POST", `${api}/tickets`, {
    body: { sku: mine.sku, buyer_id: mine.buyer, quantity: mine.quantity, accept_fewer: mine.fewer ?? false },
    headers: { "idempotency-key": mine.key },
  });
  const { status, said } = answer;
  trouble(answer);
  if (status === 200 || status === 202) {
    mine.ticket = { ...said, first: said.position };
    if (!said.token) {
      mine = { buyer: mine.buyer };
      if (!elsewhere()) text("fault", "You are in line already, from another device or browser. Please go on there: only it can show your place.");
    }
    keep();
    if (mine.ticket) follow();
  } else if (status === 0 || status === 429 || status >= 500) {
    return later("join", Math.max(answer.retry, backoff()), join); // with the same key: never a second place
  } else {
    mine = { buyer: mine.buyer };
    keep();
    text("fault", REFUSALS[said.code] ?? said.detail ?? "That did not work. Please load the page again.");
  }
  failures = 0;
  $("go").disabled = false;
  draw();
}

function keep() { store.write(mine); }

function elsewhere() { // whether another window here is in line: its ticket is ours
  const kept = store.read();
  const busy = mine.ticket ? !FINAL.has(mine.ticket.state) : mine.key;
  if (busy || !kept.ticket || FINAL.has(kept.ticket.state)) return false;
  mine = kept;
  text("fault", "");
  follow();
  draw();
  return true;
}

function backoff() { // full jitter: a crowd must not come back at once
  return 250 + Math.random() * Math.min(LONGEST_WAIT_MS, 500 * 2 ** failures++);
}

// My ticket

function follow() {
  if (!mine.ticket) return;
  if (FINAL.has(mine.ticket.state)) return settle();
  connect();
  readTicket();
}

async function readTicket() { // whether it is surely over
  if (!mine.ticket || document.hidden) return;
  const { state: asked, token, ticket_id: id } = mine.ticket;
  const answer = await call("GET", `${api}/tickets/${id}`), told = answer.status === 200;
  if (mine.ticket?.ticket_id !== id) return;
  trouble(answer);
  // An answer to a question of before a change was told may say what was before it.
  if (told && (asked === mine.ticket.state || FINAL.has(answer.said.state))) take(answer.said);
  else if (answer.status === 401) refused(token);
  else if (answer.status === 404) lost(NOT_FOUND);
  else if (answer.status === 410) lost("This sale is long over, and its places are in the archive. What you bought is yours; the shop knows of it.");
  if (!mine.ticket) return;
  const { state, epoch, next_poll_s } = mine.ticket, final = FINAL.has(state);
  const live = final ? !next_poll_s : socket?.readyState === WebSocket.OPEN && epoch === sale?.epoch;
  if (!live) later("ticket", told ? jitter((next_poll_s ?? 2) * 1000) : Math.max(backoff(), answer.retry), readTicket);
  return final && told;
}

function take(news) { // from status or WebSocket: the state is never older than what is known
  const was = mine.ticket;
  if (news.readmitted_as) return readmitted({ ...was, ...news, ...news.readmitted_as });
  const same = was.state === "WAITING" && news.state === "WAITING";
  mine.ticket = { ...was, ...news, token: was.token };
  delete mine.proved; // the token opens it
  // A place grows only in a rebuilt sale, as others come back; else a greater one is older news.
  const grows = sale?.epoch > 0;
  if (same && !grows && was.position && news.position) mine.ticket.position = Math.min(was.position, news.position);
  if (news.state !== "WAITING") mine.ticket.position = null;
  mine.ticket.first = Math.max(mine.ticket.first ?? 0, mine.ticket.position ?? 0);
  keep();
  draw();
  if (FINAL.has(news.state) && news.state !== was.state) settle();
}

function readmitted(ticket) { // the shop gave a new ticket at the old place; its token came with the status
  mine.ticket = { ...ticket, state: "WAITING", reason: null, units: [], position: null, readmitted_as: null, readmitted: true };
  failures = 0;
  hangUp();
  keep();
  follow();
  draw();
}

function progress(frame) {
  trouble(frame.state === "recovering" ? { status: 503, said: { code: "recovering" } } : { status: 200, said: {} });
  const fresh = { state: frame.state, message: frame.message, rate_per_s: frame.rate, epoch: frame.epoch };
  if (sale) {
    const items = sale.items.map((item) => ({ ...item, ...frame.items[item.sku] }));
    sale = { ...sale, ...fresh, items };
  }
  clock = Date.parse(frame.server_time) - Date.now();
  const ticket = mine.ticket, at = frame.items[ticket?.sku];
  if (ticket?.state === "WAITING" && at && ticket.epoch === frame.epoch) {
    const position = Math.max(1, at.older + ticket.number - at.served);
    const all = Object.values(frame.items).reduce((sum, item) => sum + item.waiting, 0);
    const share = at.waiting ? Math.max(1, all / at.waiting) : 1;
    const eta = frame.rate && frame.state === "open" ? ((position - 1) * share) / frame.rate : null;
    return take({ state: "WAITING", position, ahead: position - 1, eta_s: eta });
  }
  if (ticket?.state === "WAITING" && ticket.epoch < frame.epoch && frame.state !== "recovering" && !timers.ticket) later("ticket", Math.random() * 5000, readTicket); // D3: who asks is there
  draw();
}

function hangUp() {
  stop("ticket");
  socket?.close();
  socket = null;
}

function settle() {
  hangUp();
  readSale();
  if (mine.ticket.state === "RELEASED") later("ticket", jitter(1000), readTicket); // there may be a new ticket for it
}

function refused(token) { // its key was taken back: the request that made the ticket brings another one
  if (mine.ticket?.token !== token) return;
  if (!mine.key || mine.proved) return lost(NOT_FOUND);
  hangUp();
  mine = { ...mine, ticket: undefined, proved: true };
  keep();
  join();
}

function lost(words) { // no ticket any more, or the token is not ours: start over
  hangUp();
  mine = { buyer: mine.buyer };
  keep();
  farewell = words;
  text("fault", words);
  draw();
  readSale();
}

function connect() {
  if (socket || document.hidden || !mine.ticket?.ws_url || FINAL.has(mine.ticket.state)) return;
  let one;
  try { one = socket = new WebSocket(mine.ticket.ws_url, ["fairline.v1", mine.ticket.token]); } catch { return; }
  let pause = 0;
  one.onopen = () => { failures = 0; stop("ticket"); };
  one.onmessage = ({ data }) => {
    if (socket !== one) return;
    let frame;
    try { frame = JSON.parse(data); } catch { return; }
    if (frame.type === "ticket") take({ ...frame, position: mine.ticket.position });
    else if (frame.type === "progress") progress(frame);
    else if (frame.type === "bye") pause = frame.retry_after_ms;
  };
  one.onclose = ({ code }) => {
    if (socket !== one) return;
    socket = null;
    if (code === 4401 || code === 4410) return readTicket(); // the status says what is wrong
    // 4404: the status may bring back a ticket that was lost
    later("connect", Math.max(pause, code === 4404 ? jitter(5000) : backoff()), connect);
    later("ticket", jitter(500), readTicket);
    later("sale", jitter(SALE_EVERY_MS), readSale);
  };
}

async function leave() {
  show("sure", false);
  const answer = await call("DELETE", `${api}/tickets/${mine.ticket.ticket_id}`);
  trouble(answer);
  if (answer.status === 200) take(answer.said);
  else if (answer.status === 409) readTicket();
  else text("next", "That did not get through. Please try again.");
}

// What is on the page

function long(seconds) {
  if (seconds < 60) return "less than a minute";
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return minutes === 1 ? "about a minute" : `about ${minutes} minutes`;
  return `about ${Math.round(minutes / 60)} hours`;
}

function tell(words, now = false) { // the status region: state changes at once, numbers seldom
  if (words === said.words || (!now && Date.now() - said.at < SAY_EVERY_MS)) return;
  said = { words, at: Date.now() };
  text("status", words);
}

function draw() {
  const ticket = mine.ticket;
  if (sale) {
    text("name", sale.name);
    text("message", sale.message ?? "");
    show("message", sale.message);
  }
  const draft = sale?.state === "draft", done = sale && (sale.state === "ended" || sale.state === "closed");
  show("before", !ticket && draft);
  show("over", !ticket && done);
  show("join", !ticket && sale && !draft && !done);
  show("line", ticket);
  show("foot", ticket && !FINAL.has(ticket.state));
  if (draft) drawBefore();
  if (done && !ticket) {
    text("over-title", "This sale has ended");
    text("over-words", farewell || "Thank you for coming. Nobody is let in any more.");
    tell("This sale has ended", true);
  }
  if (sale && !ticket) drawForm();
  if (ticket) drawTicket(ticket);
  else document.title = sale ? `${sale.name} · waiting room` : "Waiting room";
}

function drawBefore() {
  const opens = sale.opens_at && Date.parse(sale.opens_at);
  const left = opens ? Math.max(0, Math.ceil((opens - Date.now() - clock) / 1000)) : 0;
  const days = Math.floor(left / 86400), [h, m, s] = [Math.floor(left / 3600) % 24, Math.floor(left / 60) % 60, left % 60];
  const two = (number) => String(number).padStart(2, "0");
  text("countdown", !opens ? "Soon" : days > 1 ? `${days} days` : left >= 3600 ? `${h + 24 * days}:${two(m)}:${two(s)}` : `${m}:${two(s)}`);
  text("opens", opens ? new Date(opens).toLocaleString() : "The shop has not said when. This page will open by itself.");
  if (opens && left === 0) later("sale", Math.max(jitter(700), quiet - Date.now()), readSale);
  later("countdown", 1000, draw);
}

function drawForm() {
  const known = [...$("items").querySelectorAll("input")].map((input) => input.value).join();
  if (known !== sale.items.map((item) => item.sku).join()) {
    $("items").replaceChildren($("items").firstElementChild, ...sale.items.map((item, at) => {
      const [label, input, name, outlook] = ["label", "input", "span", "span"].map((tag) => document.createElement(tag));
      Object.assign(input, { type: "radio", name: "sku", value: item.sku, checked: at === 0 });
      label.className = "item";
      name.textContent = item.name;
      outlook.className = "outlook";
      label.append(input, name, outlook);
      return label;
    }));
    $("quantity").replaceChildren(...Array.from({ length: sale.per_buyer_limit }, (_, at) => new Option(at + 1)));
    show("many", sale.per_buyer_limit > 1);
    $("buyer").value ||= mine.buyer ?? "";
  }
  sale.items.forEach((item, at) => {
    const words = $("items").querySelectorAll(".outlook")[at], wait = item.waiting ? `, ${item.waiting} in line` : "";
    words.textContent = `${OUTLOOK[item.outlook] ?? item.outlook}${item.outlook === "sold_out" ? "" : wait}`;
  });
}

function drawTicket(ticket) {
  const [mood, title, words, next] = WORDS[ticket.state] ?? ["busy", ticket.state, "", ""];
  const waiting = ticket.state === "WAITING", ahead = Math.max(0, (ticket.position ?? 1) - 1);
  const halted = waiting && sale?.state === "paused";
  $("line").dataset.mood = halted ? "" : mood;
  text("state", halted ? "The line is paused" : title);
  const more = REASONS[ticket.reason] ?? (ticket.readmitted && waiting ? "The shop has put you back at your old place." : "");
  text("words", more ? `${words} ${more}` : words);
  text("next", halted ? "Nobody is let in at the moment. Your place is kept." : next);
  show("place", waiting && ticket.position);
  if (waiting && ticket.position) {
    text("position", ticket.position.toLocaleString());
    text("ahead", ahead ? ahead.toLocaleString() : "nobody – you are next");
    text("wait", halted ? "paused" : ticket.eta_s == null ? "not known" : long(ticket.eta_s));
    $("progress").max = Math.max(1, ticket.first);
    $("progress").value = Math.max(0, ticket.first - ticket.position) + (ticket.position === 1 ? 0.9 : 0);
  }
  const what = sale?.items.find((item) => item.sku === ticket.sku)?.name ?? ticket.sku;
  const units = ticket.units?.length && (ticket.state === "CONFIRMED" || ticket.state === "RESERVED") ? `, no. ${ticket.units.join(", ")}` : "";
  const fewer = ticket.quantity < mine.quantity ? ` (you asked for ${mine.quantity})` : "";
  text("what", `${ticket.quantity} × ${what}${units}${fewer}`);
  text("ticket", ticket.ticket_id);
  show("leave", waiting && $("sure").hidden);
  if (!waiting) show("sure", false);
  show("again", FINAL.has(ticket.state) && !["CONFIRMED", "SOLD_OUT"].includes(ticket.state) && ["open", "paused"].includes(sale?.state));
  tell(waiting && ticket.position ? `In line, place ${ticket.position}` : title, !waiting || said.words === "");
  document.title = waiting && ticket.position ? `${ticket.position} · ${sale?.name ?? "in line"}` : `${title} · ${sale?.name ?? ""}`;
}

$("join").addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("go").disabled || elsewhere()) return;
  const form = new FormData($("join")), buyer = form.get("buyer").trim().normalize("NFC");
  if (!buyer) {
    text("fault", "Please say who you are.");
    return $("buyer").focus();
  }
  mine = { buyer, sku: form.get("sku"), quantity: Number(form.get("quantity")) || 1, fewer: form.has("fewer"), key: newKey() };
  keep(); // before it is sent: a reload in between goes on with the same request
  join();
});
$("leave").addEventListener("click", () => { show("sure", true); show("leave", false); $("leave-no").focus(); });
$("leave-no").addEventListener("click", () => { show("sure", false); draw(); $("leave").focus(); });
$("leave-yes").addEventListener("click", leave);
$("again").addEventListener("click", async () => {
  if (elsewhere()) return;
  if (mine.ticket?.state === "RELEASED" && !(await readTicket())) return; // put back meanwhile? Then that is the one to keep
  stop("ticket");
  mine = { buyer: mine.buyer };
  failures = 0;
  keep();
  draw();
  readSale();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden || elsewhere()) return;
  readSale();
  follow();
});
addEventListener("storage", elsewhere);
addEventListener("online", () => { failures = 0; follow(); });

readSale();
if (mine.ticket) follow();
else if (mine.key) join();
draw();
