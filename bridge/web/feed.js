// The live feed: what becomes of each message. It is asked for only while it is open, seen and not
// paused.
const mostLines = 300;
let feed = null, paused = false;

function openFeed(what) {
  hide($("feed"), false);
  document.body.classList.add("feeding");
  $("feed-open").setAttribute("aria-expanded", "true");
  if (what !== undefined) $("feed-match").value = what;
  if (paused) pause(); else follow();
  $("feed-match").focus();
}

function closeFeed() {
  hide($("feed"), true);
  document.body.classList.remove("feeding");
  $("feed-open").setAttribute("aria-expanded", "false");
  follow();
  $("feed-open").focus();
}

function pause() {
  paused = !paused;
  $("feed-pause").setAttribute("aria-pressed", String(paused));
  follow();
}

// follow has itself told from now on, or no more.
function follow() {
  if (feed) feed.close();
  feed = null;
  text($("feed-note"), paused ? "paused" : "");
  if (paused || document.hidden || $("feed").hidden) return;
  const q = new URLSearchParams();
  if ($("feed-match").value) q.set("match", $("feed-match").value);
  if ($("feed-lost").checked) q.set("lost", "true");
  const mine = feed = new EventSource("/feed?" + q);
  let told = false;
  text($("feed-note"), "…");
  mine.onmessage = e => {
    if (mine !== feed) return;
    const m = JSON.parse(e.data);
    if (!told || !m.events.length) text($("feed-note"), m.payloads ? "" : "without payloads: web.listen is not on the loopback interface");
    told = true;
    lines(m);
  };
  mine.onerror = async () => {
    if (mine !== feed) return;
    if (mine.readyState !== EventSource.CLOSED) return text($("feed-note"), "no answer; tries again");
    feed = null;
    text($("feed-note"), "as many feeds are open already as there may be; topicast tap has the same");
    setTimeout(() => { if (!feed) follow() }, 10000);
  };
}

const clock = t => { const d = new Date(t); return isNaN(d) ? "" : d.toLocaleTimeString("en-GB") + "." + String(d.getMilliseconds()).padStart(3, "0") };
const took = ns => !ns ? "" : ns < 1e6 ? (ns / 1e3).toFixed(1) + " µs" : ns < 1e9 ? (ns / 1e6).toFixed(1) + " ms" : (ns / 1e9).toFixed(1) + " s";

// readable is a payload as text if it is one, else as hex.
function readable(base64) {
  const raw = Uint8Array.from(atob(base64), c => c.charCodeAt(0));
  try {
    const s = new TextDecoder("utf-8", { fatal: true }).decode(raw);
    if (!/[\u0000-\u0008\u000e-\u001f\u007f]/.test(s)) return s; // text(…) shows what else is hidden
  } catch (err) { /* bytes */ }
  return "hex " + Array.from(raw, b => b.toString(16).padStart(2, "0")).join(" ");
}

function line(e) {
  const li = make("li", e.decision), span = (css, s) => { const n = make("span", css); text(n, s); li.append(n) };
  span("dim", clock(e.time));
  span("decision", e.decision + (e.count > 1 ? " ×" + number.format(e.count) : ""));
  span("rule", e.rule || "no rule");
  const from = e.direction === "send" ? e.topic || "" : e.source || e.to || "";
  const to = e.direction === "send" ? e.to || "" : e.direction === "answer" ? e.answer_topic || e.source && e.to || "" : e.topic || e.to || "";
  span("way", from + (to ? " → " + to : "") + (e.interface ? " on " + e.interface : ""));
  if (e.direction === "answer" && e.topic) span("dim", "for " + e.topic);
  span("dim", e.bytes + " B" + (e.latency_ns ? ", " + took(e.latency_ns) : ""));
  const rest = make("span", "rest");
  if (e.reason) { const n = make("b"); text(n, e.reason + (e.detail ? ": " : " ")); rest.append(n) }
  if (e.detail) { const n = make("span"); text(n, e.detail + " "); rest.append(n) }
  if (e.payload) { const n = make("span", "payload"); text(n, readable(e.payload)); rest.append(n) }
  li.append(rest);
  return li;
}

// lines puts the newest on top; who has scrolled down keeps his place.
function lines(m) {
  const list = $("feed-lines"), at = list.scrollTop, before = list.scrollHeight;
  const add = m.events.map(line).reverse();
  if (m.missed) {
    const li = make("li", "missed");
    text(li, number.format(m.missed) + " more that are not shown");
    add.unshift(li);
  }
  if (!add.length) return;
  list.prepend(...add);
  while (list.children.length > mostLines) list.lastChild.remove();
  if (at > 0) list.scrollTop = at + list.scrollHeight - before;
}

$("feed-open").addEventListener("click", () => { if ($("feed").hidden) openFeed(); else closeFeed() });
$("feed-close").addEventListener("click", closeFeed);
$("feed-clear").addEventListener("click", () => $("feed-lines").replaceChildren());
$("feed-pause").addEventListener("click", pause);
$("feed-lost").addEventListener("change", follow);
let feedTyping;
$("feed-match").addEventListener("input", () => { clearTimeout(feedTyping); feedTyping = setTimeout(follow, 250) });
$("feed").addEventListener("keydown", e => { if (e.key === "Escape") closeFeed() });
begin();
