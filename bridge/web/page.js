"use strict";
// The page asks /events for the rules that it shows, and is told what has changed; where that cannot
// be had it asks /status now and then.
const every = 2000, step = 100, mostRows = 1000; // ms between questions; rows
const states = ["losing", "pending", "degraded", "disabled", "up", "idle"];
const $ = id => document.getElementById(id);
// What turns the direction of writing, or cannot be seen, is shown as what it is: a topic may have it
// in order to look like another.
const unseen = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
const visible = s => s.search(unseen) < 0 ? s : s.replace(unseen, c => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
const text = (node, s) => { s = visible(s); if (node.textContent !== s) node.textContent = s };
const hide = (node, is) => { if (node.hidden !== is) node.hidden = is };
const kind = (node, s) => { if (node.className !== s) node.className = s };
const make = (tag, name) => { const n = document.createElement(tag); if (name) n.className = name; return n };
const now = () => Date.now() + skew;

const query = new URLSearchParams(location.search);
let limit = step, state = query.get("state") || "";
let skew = 0, heard = Date.now(), version = "";
let head = null, rules = new Map(), order = [], totals = null; // as told last
let source = null, timer = 0, asking = null, etag = "", since = 0, reloaded = "";

// merge takes members over; null: it is gone.
function merge(into, from) {
  for (const [name, value] of Object.entries(from)) if (value === null) delete into[name]; else into[name] = value;
}

// take is told what has changed, or all.
function take(m, forced) {
  heard = Date.now();
  samples = m.samples === undefined ? samples + 1 : m.samples - 1;
  if (Math.abs(m.now - now()) > 1500) skew = m.now - Date.now();
  if (m.full) { head = {}; rules = new Map(); totals = null; forced = true }
  if (!head) return;
  merge(head, m.head || {});
  for (const [name, fields] of Object.entries(m.rules || {})) {
    if (!rules.has(name)) rules.set(name, {});
    merge(rules.get(name), fields);
  }
  const moved = !!m.order;
  if (moved) {
    order = m.order;
    const kept = new Set(order);
    for (const name of rules.keys()) if (!kept.has(name)) rules.delete(name);
  }
  show(m.full || !m.samples ? null : m.rules || {}, moved || forced, forced);
  for (const [name, points] of m.full ? order.map(n => [n, own(m.past, n) || {}]) : Object.entries(m.past || {})) {
    const row = rows.get(name);
    if (row) row.points = { in: points.in || [], lost: points.lost || [] };
  }
  if (m.in || m.lost) {
    order.forEach((name, i) => {
      const row = rows.get(name);
      if (!row || m.full || own(m.past, name)) return;
      push(row.points.in, m.in[i] || 0);
      push(row.points.lost, m.lost[i] || 0);
    });
  }
  if (m.totals) {
    if (m.full || !totals) totals = m.totals.map(t => t || []);
    else m.totals.forEach((t, i) => push(totals[i], t[0]));
    sums();
  }
  const at = head.reload ? head.reload.at : "";
  for (const row of rows.values()) {
    plot(row);
    if (reloaded !== at && row.details) row.details.load();
  }
  reloaded = at;
}

// own is what an object has by itself: a rule may be named constructor.
const own = (o, name) => o && Object.hasOwn(o, name) ? o[name] : undefined;

// view is what a rule is shown as; the server counts by the same.
function view(r, at) {
  if (r.state === "disabled") return "disabled";
  if (r.last_drop && at - Date.parse(r.last_drop) < 60000) return "losing";
  if (r.state !== "up") return r.state;
  return r.last_received && at - Date.parse(r.last_received) < 60000 ? "up" : "idle";
}

// show writes the rules that have changed; null: all of them.
function show(changed, moved, forced) {
  const at = now();
  for (const name of order) {
    const r = rules.get(name), send = r.direction !== "receive";
    r.in = send ? r.messages_received : r.datagrams_received;
    r.out = send ? r.datagrams_sent : r.messages_published;
    const was = r.view;
    r.view = view(r, at);
    let row = rows.get(name);
    if (!row) rows.set(name, row = newRow(name));
    if (!changed || changed[name] || row.r !== r || was !== r.view) fill(row, r);
  }
  if (moved || quiet < 3) place(order, forced);
  overview();
  tick();
}

// sums writes the rates of all rules together.
function sums() {
  const [sendIn, sendOut, receiveIn, receiveOut, dropped] = totals;
  const put = (id, list) => text($(id), rateText(perSecond(list)));
  put("send-in", sendIn); put("send-out", sendOut); put("receive-in", receiveIn); put("receive-out", receiveOut); put("dropped", dropped);
  draw($("graph-send"), { in: sendIn, lost: [] });
  draw($("graph-receive"), { in: receiveIn, lost: [] });
  draw($("graph-dropped"), { in: [], lost: dropped });
}

// overview writes all but the rows.
function overview() {
  const s = head, c = s.summary, b = s.broker;
  const name = (s.host || "") + (b.client_id ? (s.host ? " / " : "") + b.client_id : "");
  document.title = visible((c.losing ? c.losing + " losing – " : "") + (s.ready ? "" : "not ready – ") + name + " – topicast");
  text($("host"), s.host || "");
  text($("client"), b.client_id);
  text($("ready"), s.ready ? "ready" : "not ready");
  kind($("ready"), s.ready ? "pill good" : "pill bad");
  if (version && version !== s.version) location.reload(); // a page of the one that runs now
  version = s.version;
  // Why it is not ready, and what else is not a state of one rule.
  const partly = (s.conditions || []).filter((c) => c.state === "degraded" && c.name !== "rule").map((c) => c.reason);
  const waiting = $("waiting"), why = (s.waiting || []).concat(partly);
  hide(waiting, !why.length);
  while (waiting.children.length > why.length) waiting.lastChild.remove();
  why.forEach((w, i) => text(waiting.children[i] || waiting.appendChild(make("li")), w));
  kind($("broker"), b.connected ? "" : "bad");
  text($("connects"), number.format(b.connects));
  text($("outstanding"), number.format(b.outstanding));
  text($("norule"), number.format(s.no_rule));
  text($("dropped-by"), c.losing ? "by " + number.format(c.losing) + (c.losing === 1 ? " rule" : " rules") + " in the last minute" : "nothing in the last minute");
  kind($("tile-dropped"), c.losing ? "tile trouble" : "tile");
  const store = (id, of) => {
    text($(id), number.format(of.messages));
    text($(id + "-bytes"), (id === "memory" ? "in memory" : "on disk") + ", " + bytes(of.bytes) + " of " + bytes(of.size));
    const part = of.size ? of.bytes / of.size : 0, m = $(id + "-part");
    if (m.value !== part) m.value = part;
    return part;
  };
  for (const id of ["memory-part", "disk-part"]) Object.assign($(id), { high: .8, optimum: 0 });
  const memory = store("memory", s.queue), disk = s.spool && !s.spool.error ? store("disk", s.spool) : 0;
  if (s.spool && s.spool.error) { text($("disk"), ""); text($("disk-bytes"), "spool: " + s.spool.error) }
  if (!s.spool) { text($("disk"), ""); text($("disk-bytes"), "no spool") }
  hide($("disk-part"), !s.spool || !!s.spool.error);
  kind($("tile-waiting"), s.spool && s.spool.error || memory > .8 || disk > .8 ? "tile trouble" : "tile");
  const entry = (id, there, bad, what) => {
    hide($(id).parentNode, !there);
    if (there) { text($(id), what()); kind($(id), bad ? "bad" : "") }
  };
  const u = s.host_unclaimed;
  entry("unclaimed", u && u.unicast + u.multicast, false, () => [[u.unicast, "unicast"], [u.multicast, "multicast"]].filter(([n]) => n).map(([n, to]) => number.format(n) + " " + to).join(", "));
  for (const name of states) {
    const button = $("only-" + name), n = c[name] || 0;
    text(button.lastChild, " " + number.format(n));
    kind(button, name + (n ? " some" : ""));
    button.setAttribute("aria-pressed", state === name);
  }
  const shown = rows.size;
  text($("count"), shown < c.matched ? "showing " + number.format(shown) + " of " + number.format(c.matched) + " rules" + (c.matched < c.rules ? " that match, of " + number.format(c.rules) : "") + "; filter to find others"
    : c.matched < c.rules ? number.format(c.matched) + " of " + number.format(c.rules) + " rules match" : c.rules ? number.format(c.rules) + (c.rules === 1 ? " rule" : " rules") : "There are no rules: the configuration has them under send and receive");
  hide($("more"), shown >= c.matched || limit >= mostRows);
  text($("more"), "show " + Math.min(step, c.matched - shown) + " more");
}

// tick is what changes with time alone.
function tick() {
  if (head) {
    const s = head, b = s.broker;
    text($("version"), "version " + s.version + ", running for " + ago(s.started));
    text($("broker"), b.connected ? "connected to " + b.url + (b.protocol ? " by MQTT " + b.protocol : "") + " for " + ago(b.since) : "not connected");
    hide($("reload").parentNode, !s.reload);
    if (s.reload) {
      text($("reload"), s.reload.ok ? "taken over " + ago(s.reload.at) + " ago" : "refused " + ago(s.reload.at) + " ago; the one before it is in force: " + s.reload.error);
      kind($("reload"), s.reload.ok ? "" : "bad");
    }
    for (const row of rows.values()) age(row);
  }
  const silent = Date.now() - heard, lost = silent >= 3 * every;
  hide($("lost"), !lost);
  if (lost) text($("lost"), "topicast has not answered for " + Math.round(silent / 1000) + " s; what is shown is that old");
  text($("lively"), lost ? "no answer" : source ? "live" : "every 2 s");
  kind($("lively"), "pill quiet" + (lost ? " bad" : source ? " good" : ""));
  if (source && silent > 5 * every) { source.close(); source = null; listen() }
}

function wanted() {
  const q = new URLSearchParams({ limit, sort: $("sort").value });
  if ($("match").value) q.set("match", $("match").value);
  if (state) q.set("state", state);
  return q;
}

// listen has itself told from now on.
function listen() {
  clearTimeout(timer);
  if (asking) asking.abort();
  if (source) source.close();
  source = null;
  if (document.hidden) return;
  const mine = source = new EventSource("/events?" + wanted());
  heard = Math.max(heard, Date.now() - every);
  mine.onmessage = e => { if (mine === source) take(JSON.parse(e.data)) };
  mine.onerror = () => {
    if (mine !== source || mine.readyState !== EventSource.CLOSED) return; // it tries again by itself
    source = null;
    since = Date.now();
    ask();
  };
}

// ask is for where there is no place for one more page that is live. Each half minute it tries anew.
async function ask() {
  clearTimeout(timer);
  if (source || document.hidden) return;
  if (Date.now() - since > 30000) return listen();
  if (asking) asking.abort();
  const mine = asking = new AbortController(), late = setTimeout(() => mine.abort(), 10000), q = wanted();
  try {
    const r = await fetch("/status?" + q, { signal: mine.signal, cache: "no-store", headers: etag.startsWith(q + " ") ? { "If-None-Match": etag.slice(String(q).length + 1) } : {} });
    const s = r.ok ? await r.json() : null;
    if (mine !== asking) return;
    if (s || r.status === 304) answer(s, q + " " + (r.headers.get("ETag") || ""), Date.parse(r.headers.get("Date")));
  } catch (err) { /* tick tells */ }
  clearTimeout(late);
  if (mine === asking) { asking = null; timer = setTimeout(ask, every) }
}

// answer makes of an answer of /status what /events would tell.
function answer(s, tag, date) {
  etag = tag;
  const list = s ? (s.rules || []).concat((s.receive || []).map(r => Object.assign(r, { direction: "receive" }))).sort((a, b) => a.place - b.place) : order.map(n => rules.get(n));
  const lost = r => total(r.drops), came = r => (r.direction === "receive" ? r.datagrams_received : r.messages_received);
  const gain = of => list.map(r => { const was = rules.get(r.name); return was ? Math.max(0, of(r) - of(was)) : 0 });
  const m = { now: date ? date + 500 : now(), in: gain(came), lost: gain(lost), past: {} };
  if (s) {
    delete s.rules; delete s.receive;
    head = {}; rules = new Map(list.map(r => [r.name, r]));
    Object.assign(m, { head: s, order: list.map(r => r.name) });
  }
  take(m, false);
}

function remember() {
  const q = new URLSearchParams();
  if ($("match").value) q.set("match", $("match").value);
  if (state) q.set("state", state);
  if ($("sort").value !== "trouble") q.set("sort", $("sort").value);
  history.replaceState(null, "", "/" + (q.size ? "?" + q : ""));
  listen();
}

function begin() {
  for (const name of states) {
    const button = make("button");
    button.id = "only-" + name;
    button.type = "button";
    button.title = meaning[name];
    button.append(name, make("b"));
    button.addEventListener("click", () => { state = state === name ? "" : name; limit = step; remember() });
    $("states").append(button);
  }
  if (!states.includes(state)) state = "";
  $("match").value = query.get("match") || "";
  if ([...$("sort").options].some(o => o.value === query.get("sort"))) $("sort").value = query.get("sort");
  let typing;
  $("match").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => { limit = step; remember() }, 150) });
  $("sort").addEventListener("change", remember);
  $("more").addEventListener("click", () => { limit = Math.min(limit + step, mostRows); listen() });
  document.addEventListener("keydown", e => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    if (e.key === "/" && !typing) { e.preventDefault(); $("match").focus(); $("match").select() }
    if (e.key === "f" && !typing) { e.preventDefault(); if ($("feed").hidden) openFeed(); else closeFeed() }
    if (e.key === "Escape" && document.activeElement === $("match") && $("match").value) { $("match").value = ""; remember() }
  });
  document.addEventListener("visibilitychange", () => { listen(); if (!$("feed").hidden) follow() });
  setInterval(() => { if (!document.hidden) tick() }, 1000);
  hide($("app"), false);
  listen();
}
