"use strict";

// A live dashboard: a ticket for the key in this tab, one WebSocket, topics with versions. What was shown stays until it is replaced;
// after a cut the versions say what is missing.

const STALE_MS = 20_000;
const SILENT_MS = 40_000;
const LONGEST_PAUSE_MS = 30_000;
const KEY = "gipos.key";

const main = document.getElementById("content");
const texts = JSON.parse(main.dataset.texts);
const locale = document.documentElement.lang === "id" ? "id-ID" : "en-GB";
const at = (id) => document.getElementById(id);
const say = (key, facts = {}) => texts[key].replace(/\{(\w+)\}/g, (_, name) => facts[name] ?? "");
const number = new Intl.NumberFormat(locale);
const money = new Intl.NumberFormat(locale, { style: "currency", currency: "IDR", currencyDisplay: "narrowSymbol", maximumFractionDigits: 0 });
const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
const clock = (text) => new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit" }).format(new Date(text));
const moment = (text, zone = here) => {
  const then = new Date(text);
  const day = (date) => date.toLocaleDateString("en", { timeZone: zone });
  const isToday = day(then) === day(new Date());
  // Two zones of one name and hour are one; what differs from the viewer's clock is said.
  const offset = (name) => then.toLocaleTimeString("en", { timeZone: name, timeZoneName: "longOffset" }).split("GMT")[1];
  return new Intl.DateTimeFormat(locale, {
    timeZone: zone, hour: "2-digit", minute: "2-digit",
    ...(isToday ? {} : { day: "numeric", month: "short" }),
    ...(offset(zone) === offset(here) ? {} : { timeZoneName: "short" }),
  }).format(then);
};

// A machine that slept counts no time on one of its clocks, and somebody may set the other.
const stamp = () => [performance.now(), Date.now()];
const since = ([ticks, date]) => Math.max(performance.now() - ticks, Date.now() - date);

let socket = null;
let begunAt = stamp();
let heardAt = stamp();
let attempt = 0;
let timer = 0;
let epoch = "";
let freshAt = null;
let isLive = false;
const versions = new Map();
const values = new Map();

// Values.

const merged = (value, patch) => {
  const result = value !== null && typeof value === "object" && !Array.isArray(value) ? { ...value } : {};
  for (const [name, change] of Object.entries(patch)) {
    if (change === null) delete result[name];
    else if (typeof change === "object" && !Array.isArray(change)) result[name] = merged(result[name], change);
    else result[name] = change;
  }
  return result;
};

const quietFor = () => Math.min(since(heardAt), since(begunAt));

const take = (message) => {
  heardAt = stamp();
  switch (message.t) {
    case "hello":
      epoch = message.epoch;
      break;
    case "value":
      values.set(message.topic, message.value);
      versions.set(message.topic, message.version);
      break;
    case "patch":
      if (versions.get(message.topic)?.split("-").pop() !== message.from) {
        versions.delete(message.topic);
        socket?.close();
        return;
      }
      values.set(message.topic, merged(values.get(message.topic), message.patch));
      versions.set(message.topic, message.version);
      break;
    case "ended":
      values.delete(message.topic);
      versions.delete(message.topic);
      break;
    case "hb":
      isLive = message.live;
      break;
    case "error":
      if (message.status === 403) return refuse("problem.forbidden");
      at("problem").textContent = message.status === 429 ? say("problem.many") : "";
      return;
  }
  if (isLive) freshAt = new Date();
  attempt = 0;
  draw();
};

// The connection.

const connect = async () => {
  clearTimeout(timer);
  const key = sessionStorage.getItem(KEY);
  if (!key || socket) return;
  const mine = (socket = {});
  let answer;
  try {
    answer = await fetch("/api/v1/dashboard-tickets", {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
      body: "{}",
      cache: "no-store",
      signal: AbortSignal.timeout(15_000),
    });
    if (socket !== mine) return;
    if (answer.status === 401) return refuse("problem.key");
    if (answer.status === 403) return refuse("problem.forbidden");
    if (!answer.ok) throw new Error(String(answer.status));
    const { ticket } = await answer.json();
    if (socket !== mine) return;
    const line = (socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/api/v1/dashboard`));
    begunAt = stamp();
    line.onopen = () => line.send(JSON.stringify({ ticket, epoch, topics: Object.fromEntries(versions) }));
    line.onmessage = (event) => socket === line && take(JSON.parse(event.data));
    line.onclose = (event) => {
      if (socket !== line) return;
      socket = null;
      isLive = false;
      if (event.code === 4403) return refuse("problem.forbidden");
      again();
    };
  } catch {
    if (socket === mine) socket = null;
    again();
  }
};

const again = () => {
  clearTimeout(timer);
  // Full jitter: after a restart not everybody comes at once.
  timer = setTimeout(connect, Math.random() * Math.min(LONGEST_PAUSE_MS, 500 * 2 ** Math.min(attempt++, 10)));
  sign();
};

// Without waiting for a goodbye of somebody who is not there.
const abandon = () => {
  const line = socket;
  socket = null;
  isLive = false;
  line.close();
  again();
};

const atOnce = () => {
  if (document.visibilityState !== "visible") return;
  if (socket?.readyState === 1 && quietFor() > STALE_MS) abandon();
  if (!socket) connect();
};

const leave = () => {
  clearTimeout(timer);
  const line = socket;
  socket = null;
  line?.close?.();
  sessionStorage.removeItem(KEY);
  epoch = "";
  freshAt = null;
  isLive = false;
  versions.clear();
  values.clear();
  at("board").replaceChildren();
  sign();
};

const refuse = (problem) => {
  leave();
  at("problem").textContent = say(problem);
  at("key").focus();
};

// What is seen.

const sign = () => {
  const isOpen = Boolean(sessionStorage.getItem(KEY));
  at("door").hidden = isOpen;
  at("board").hidden = !isOpen;
  at("leave").hidden = !isOpen;
  const isStale = freshAt !== null && (since(heardAt) > STALE_MS || (socket?.readyState === 1 && !isLive));
  const state = !isOpen ? "" : isStale ? "stale" : isLive && socket?.readyState === 1 ? "live" : freshAt ? "again" : "connecting";
  if (at("state").className !== state) {
    at("state").className = state;
    at("state").textContent = state && say(`state.${state}`);
  }
  main.classList.toggle("is-stale", isOpen && isStale);
  if (at("stale").hidden === isStale) {
    at("stale").hidden = !isStale;
    at("stale").textContent = isStale ? say("stale", { time: clock(freshAt) }) : "";
  }
};

setInterval(() => {
  if (socket && "readyState" in socket && quietFor() > SILENT_MS) abandon();
  sign();
}, 1000);

const h = (name, facts, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(facts ?? {})) {
    if (key === "class") made.className = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== ""));
  return made;
};

const section = (name, ...children) => h("section", { "aria-labelledby": `h-${name}` }, h("h2", { id: `h-${name}` }, say(name)), ...children);
const kind = (name) => [...values].filter(([topic]) => topic.split(":")[0] === name).map(([, value]) => value);
const none = (name) => h("p", { class: "quiet" }, say(`${name}.none`));
const rows = (heads, ...lines) =>
  h("table", null, h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col", ...(head[1] ?? {}) }, head[0])))), h("tbody", null, lines));

const hours = (today) => {
  const most = Math.max(1, ...Object.values(today.hours).map((hour) => hour.total));
  const told = Object.keys(today.hours).sort().map((hour) => `${hour}.00 ${money.format(today.hours[hour].total)}`).join(", ");
  const bars = Array.from({ length: 24 }, (_, hour) => {
    const sold = today.hours[String(hour).padStart(2, "0")];
    const bar = h("span", { class: sold ? "sold" : "" });
    bar.style.height = `${sold ? Math.max(6, Math.round((100 * sold.total) / most)) : 0}%`;
    return bar;
  });
  return [
    h("div", { class: "hours", role: "img", "aria-label": `${say("hours")}: ${told || "–"}` }, bars),
    h("div", { class: "axis", "aria-hidden": "true" }, ["00", "06", "12", "18", "24"].map((hour) => h("span", null, hour))),
  ];
};

const drawToday = () => {
  const tiles = kind("sales.today").sort((a, b) => a.outlet_name.localeCompare(b.outlet_name)).map((today) =>
    h("li", null,
      h("h3", null, today.outlet_name),
      h("p", { class: "big" }, money.format(today.total - today.refunded)),
      h("p", { class: "quiet" }, say("sales", { count: number.format(today.count) }),
        today.refunded ? ` · ${say("refunded", { amount: money.format(today.refunded) })}` : ""),
      hours(today)));
  return tiles.length ? section("today", h("ul", { class: "tiles" }, tiles)) : null;
};

const drawRecent = () => {
  const every = kind("sales.recent");
  if (!every.length) return null;
  const zones = new Map(kind("sales.today").map((today) => [today.outlet_id, today.time_zone]));
  const sales = every.flatMap((value) => Object.entries(value.sales)
    .map(([id, sale]) => ({ id, outlet: value.outlet_name, zone: zones.get(value.outlet_id), sale_time: "", ...sale })))
    .sort((a, b) => (a.sale_time < b.sale_time ? 1 : a.sale_time > b.sale_time ? -1 : a.id < b.id ? 1 : -1)).slice(0, 20);
  const lines = sales.map((sale) => h("tr", null,
    h("td", { class: "short" }, sale.sale_time ? moment(sale.sale_time, sale.zone) : "–"),
    h("td", null, sale.number || sale.id.slice(-6), h("div", { class: "quiet" }, sale.outlet)),
    h("td", { class: "amount" }, money.format(sale.total),
      sale.status === "completed" ? "" : h("div", { class: "quiet" }, say(`status.${sale.status}`)))));
  return section("recent", lines.length ? rows([[say("time"), { class: "short" }], [say("number")], [say("total"), { class: "amount" }]], lines) : none("recent"));
};

const drawLow = () => {
  const low = values.get("stock.low");
  if (!low) return null;
  const products = Object.values(low.products).sort((a, b) => Number(a.available) - Number(b.available) || a.name.localeCompare(b.name));
  if (!products.length) return section("low", none("low"));
  const lines = products.map((one) => h("tr", null,
    h("td", null, one.name, h("div", { class: "quiet" }, one.outlet_name)),
    h("td", { class: `amount${Number(one.available) <= 0 ? " bad" : ""}` }, `${number.format(Number(one.available))} ${one.unit}`)));
  return section("low",
    h("p", { class: "quiet" }, say("low.more", { count: number.format(low.count), threshold: number.format(Number(low.threshold)) })),
    rows([[say("product")], [say("left"), { class: "amount" }]], lines));
};

const drawTills = () => {
  const devices = values.get("devices");
  if (!devices) return null;
  const tills = Object.values(devices.tills).sort((a, b) => a.outlet_name.localeCompare(b.outlet_name) || a.number - b.number);
  const tiles = tills.map((till) => {
    const state = till.is_online ? "online" : till.since ? "offline" : "never";
    return h("li", null,
      h("h3", null, `${till.outlet_name} · ${till.name}`),
      h("p", null, h("span", { class: `badge ${till.is_online ? "good" : "off"}` }, say(`till.${state}`)),
        till.since ? ` ${say("till.since", { time: moment(till.since) })}` : "",
        till.state === "active" ? "" : ` · ${say(`till.${till.state}`)}`),
      till.waiting_operations ? h("p", null, say("till.waiting", { count: number.format(till.waiting_operations) })) : "",
      till.quarantined_operations ? h("p", { class: "bad" }, say("till.quarantined", { count: number.format(till.quarantined_operations) })) : "");
  });
  return section("tills", tiles.length ? h("ul", { class: "tiles" }, tiles) : none("tills"));
};

const drawWebhooks = () => {
  const health = values.get("webhooks.health");
  if (!health) return null;
  const tiles = Object.values(health.webhooks).map((one) =>
    h("li", null,
      h("h3", null, one.description || one.url),
      h("p", null, h("span", { class: `badge ${one.is_active && !one.is_paused ? "good" : "off"}` },
        say(one.is_active ? (one.is_paused ? "webhook.paused" : "webhook.active") : "webhook.off"))),
      one.waiting ? h("p", null, say("webhook.waiting", { count: number.format(one.waiting) })) : "",
      one.failed_today ? h("p", { class: "bad" }, say("webhook.failed", { count: number.format(one.failed_today) })) : ""));
  return section("webhooks", tiles.length ? h("ul", { class: "tiles" }, tiles) : none("webhooks"));
};

// What stays the same stays in the page: a reader's place and a selection survive, and nothing moves that did not change.
const settle = (old, made) => {
  if (old.nodeName !== made.nodeName) return old.replaceWith(made);
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== made.data) old.data = made.data;
    return undefined;
  }
  for (const { name } of [...old.attributes]) if (name !== "style" && !made.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of made.attributes) if (name !== "style" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  // The policy of the page forbids the attribute, not the property.
  if (old.style.cssText !== made.style.cssText) old.style.cssText = made.style.cssText;
  return settleAll(old, [...made.childNodes]);
};

const settleAll = (parent, made) => {
  const old = [...parent.childNodes];
  made.forEach((child, index) => (index < old.length ? settle(old[index], child) : parent.append(child)));
  for (const child of old.slice(made.length)) child.remove();
};

let isDrawing = false;
const draw = () => {
  if (isDrawing) return;
  isDrawing = true;
  const now = () => {
    isDrawing = false;
    const beside = [drawRecent(), drawLow()].filter(Boolean);
    const columns = beside.length ? h("div", { class: "columns" }, beside) : null;
    settleAll(at("board"), [drawToday(), drawTills(), columns, drawWebhooks()].filter(Boolean));
    sign();
  };
  // Tabs in the background get no frames.
  if (document.visibilityState === "visible") requestAnimationFrame(now);
  else setTimeout(now, 0);
};

at("door").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, at("key").value.trim());
  at("key").value = "";
  at("problem").textContent = "";
  attempt = 0;
  sign();
  main.focus();
  connect();
});
at("leave").addEventListener("click", () => {
  leave();
  at("problem").textContent = "";
  at("key").focus();
});
document.addEventListener("visibilitychange", atOnce);
window.addEventListener("online", atOnce);
window.addEventListener("pagehide", () => socket?.close?.());
window.addEventListener("pageshow", (event) => event.persisted && atOnce());

sign();
connect();
