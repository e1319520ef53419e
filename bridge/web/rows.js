// Rows: one for each rule that is shown. Only what has changed is written, so that a selection
// stays; and all of it as text, never as markup: topics are anybody's.
const meaning = {
  losing: "something was dropped in the last minute", pending: "its interface, address or subscription is not there",
  degraded: "works in part", disabled: "was switched off, by topicast disable", up: "works, and has had a message in the last minute", idle: "works, and has had no message in the last minute",
};
const rows = new Map(); // by name
let quiet = 0;

const bytes = n => n < 1024 ? n + " B" : (n < 1 << 20 ? (n / 1024).toFixed(1) + " KiB" : (n / (1 << 20)).toFixed(1) + " MiB").replace(".0 ", " ");
const share = (n, of) => of ? (100 * n / of).toFixed(n * 10 < of ? 1 : 0) + " %" : "–";
const few = (list, most) => list.length > most ? list.slice(0, most).join(", ") + " and " + (list.length - most) + " more" : list.join(", ");
const total = counts => Object.values(counts || {}).reduce((a, b) => a + b, 0);

function ago(t) {
  const at = Date.parse(t), s = Math.max(0, Math.floor((now() - at) / 1000));
  if (!(at > 0)) return "–";
  if (s < 60) return s + "s";
  if (s < 3600) return Math.floor(s / 60) + "m" + s % 60 + "s";
  if (s < 86400) return Math.floor(s / 3600) + "h" + Math.floor(s % 3600 / 60) + "m";
  return Math.floor(s / 86400) + "d" + Math.floor(s % 86400 / 3600) + "h";
}

// count writes a number as far as there is room for it; the title has all of it.
const count = (node, n) => {
  text(node, n < 1e6 ? number.format(n) : short.format(n));
  const title = n < 1e6 ? "" : number.format(n);
  if (node.title !== title) node.title = title;
};

// says is what the rule says, in one line.
function says(r) {
  if (r.direction === "send") return r.filter + " → " + (r.group || r.host) + (r.interface ? " on " + r.interface : "") + (r.source ? " from " + r.source.replace(/^(\d+(?:\.\d+){3}|\[.+\]):\d+$/, "$1") : "");
  return (r.port ? "port " + r.port : few(r.groups || [], 4)) + " on " + r.interface + " from " + (r.sources ? few(r.sources, 4) : "anybody") + " → " + r.topic;
}

function why(r) {
  const all = [];
  if (r.reason) all.push(r.reason);
  const test = r.self_test && r.self_test.result;
  if (test && test !== "source_verified" && r.self_test.detail !== r.reason) all.push("self-test: " + test);
  if (r.sockets > r.joined && r.state === "up") all.push(r.joined + " of " + r.sockets + (r.port ? " sockets open" : " groups joined"));
  if (r.port_shared_with) all.push(r.port_shared_with.join("; "));
  if (r.remembered && r.remembered.topics_forgotten) all.push(number.format(r.remembered.topics_forgotten) + " topics were forgotten, as there is no room for more");
  if (r.legs) for (const l of r.legs) if (l.state !== "new") all.push("leg " + l.source + " on " + l.interface + ": " + l.state + ", " + number.format(l.missing || 0) + " missing" + (l.lag_seconds ? ", " + (1000 * l.lag_seconds).toFixed(1) + " ms behind" : ""));
  if (r.remembered && r.remembered.unmerged) all.push(number.format(r.remembered.unmerged) + " datagrams were not merged, as there is no room for more");
  if (r.unclaimed) all.push(number.format(r.unclaimed) + " datagrams came to its port that no rule takes");
  for (const m of r.members || []) if (m.state !== "some") all.push(m.state === "none" ? "nobody on " + m.interface + " has joined " + m.group : "who has joined " + m.group + " cannot be known: " + m.why);
  if (r.hosts_down) all.push((r.hosts_down === 1 ? "1 host does" : number.format(r.hosts_down) + " hosts do") + " not answer: " + r.down.slice(0, 4).map(h => h.host).join(", ") + (r.hosts_down > 4 ? " and " + number.format(r.hosts_down - Math.min(4, r.down.length)) + " more" : ""));
  if (r.host_errors) all.push(number.format(r.icmp_errors) + " ICMP errors, the last: " + r.host_errors[0].host + " " + r.host_errors[0].error + (r.host_errors[0].from ? ", says " + r.host_errors[0].from : ""));
  return all.join("; ");
}

// joined says who listens to the groups of a rule with members.
function joined(r) {
  return (r.members || []).filter(m => m.state === "some").map(m => m.group + " joined by " + few((m.hosts || []).map(h => h.host).concat(m.ports ? m.ports.map(p => "port " + p) : []), 4) + (m.more ? " and more" : ""));
}

function newRow(name) {
  const row = { tr: make("tr"), points: newGraph(), details: null };
  const cell = (key, name, css) => {
    const td = row[key] = make("td", css);
    td.dataset.name = name;
    row.tr.append(td);
    return td;
  };
  const state = cell("state", "State", "state");
  row.badge = make("span", "badge"); row.since = make("span", "dim");
  state.append(row.badge, row.since);
  const rule = cell("rule", "Rule", "rule");
  row.name = make("button", "name"); row.name.type = "button"; row.name.title = "what is in force of it";
  row.name.setAttribute("aria-expanded", "false");
  row.name.addEventListener("click", () => toggle(row));
  row.tag = make("span", "tag"); row.says = make("code"); row.settings = make("code", "dim"); row.why = make("span", "why"); row.first = make("span", "first");
  rule.append(row.name, row.tag, row.says, row.settings, row.why, row.first);
  const graphs = cell("graphs", "Rate", "graphs");
  row.now = make("div", "now"); row.rate = make("span"); row.losing = make("span", "lost");
  row.now.append(row.rate, row.losing);
  row.graph = document.createElementNS(svg, "svg");
  row.graph.setAttribute("class", "graph");
  row.graph.setAttribute("aria-hidden", "true");
  graphs.append(row.now, row.graph);
  cell("in", "In", "n"); cell("out", "Out", "n"); cell("last", "Last", "n"); cell("waiting", "Waiting", "n"); cell("drops", "Dropped", "lost");
  for (const part of ["inMemory", "onDisk"]) row.waiting.append(row[part] = make("div"));
  text(row.name, name);
  rowOf.set(row.tr, row);
  inSight.observe(row.tr);
  return row;
}

// Graphs are drawn of the rows that can be seen.
const rowOf = new WeakMap();
const inSight = new IntersectionObserver(seen => {
  for (const s of seen) {
    const row = rowOf.get(s.target);
    row.seen = s.isIntersecting;
    if (row.seen) draw(row.graph, row.points);
  }
}, { rootMargin: "200px" });

// reasons writes one line a reason, each in a node of its own that stays.
function reasons(td, drops, filtered) {
  const lines = Object.entries(drops || {}).map(([why, n]) => ["reason", number.format(n) + " " + why])
    .concat(Object.entries(filtered || {}).map(([why, n]) => ["reason filtered", number.format(n) + " " + why]));
  while (td.children.length > lines.length) td.lastChild.remove();
  lines.forEach(([css, s], i) => {
    const node = td.children[i] || td.appendChild(make("span"));
    kind(node, css);
    text(node, s);
    node.title = css === "reason" ? "dropped" : "filtered: the configuration asks for it";
  });
}

function fill(row, r) {
  row.r = r;
  kind(row.tr, r.view);
  text(row.badge, r.view);
  row.badge.title = meaning[r.view];
  text(row.tag, r.direction);
  text(row.says, says(r));
  row.says.title = r.direction === "send" && r.source ? "from " + r.source : "";
  const line = (node, s) => { text(node, s); hide(node, !s) };
  line(row.settings, (r.settings || []).concat(joined(r)).join(", "));
  line(row.why, why(r));
  line(row.first, r.view === "losing" && r.first_drops ? Object.entries(r.first_drops).map(([why, s]) => why + ", the first: " + (r.reason && s.endsWith(": " + r.reason) ? s.slice(0, -r.reason.length - 2) : s)).join("; ") : "");
  count(row.in, r.in);
  count(row.out, r.out);
  line(row.inMemory, r.waiting_bytes ? number.format(r.waiting_memory || 0) + ", " + bytes(r.waiting_bytes) : "");
  line(row.onDisk, r.waiting_disk ? number.format(r.waiting_disk) + " on disk, " + bytes(r.disk_bytes || 0) : "");
  const shares = [];
  if (r.waiting_bytes) shares.push(share(r.waiting_bytes, head.queue.size) + " of the memory (queue.size)");
  if (r.waiting_disk) shares.push(share(r.disk_bytes || 0, head.spool && head.spool.size) + " of the disk (spool.max_size)");
  row.waiting.title = shares.join("; ");
  reasons(row.drops, r.drops, r.filtered);
  const only = r.drops || !r.filtered ? "Dropped" : "Filtered"; // where the table is too narrow for columns
  if (row.drops.dataset.name !== only) row.drops.dataset.name = only;
  row.waiting.classList.toggle("empty", !shares.length);
  row.drops.classList.toggle("empty", !row.drops.textContent);
}

// age writes what changes with time alone.
function age(row) {
  const r = row.r;
  text(row.since, r.view === "losing" && r.state !== "up" ? r.state + " " + ago(r.since) : r.view === "losing" ? "last " + ago(r.last_drop) + " ago" : ago(r.since));
  text(row.last, r.last_received ? ago(r.last_received) : "–");
}

function plot(row) {
  text(row.rate, rateText(perSecond(row.points.in)));
  const lost = perSecond(row.points.lost);
  text(row.losing, lost ? "−" + rateText(lost) : "");
  row.losing.title = "dropped";
  const title = "at most " + rateText(most(row.points)) + " in the last five minutes";
  if (row.graphs.title !== title) row.graphs.title = title;
  if (row.seen) draw(row.graph, row.points);
  if (row.details) row.details.plot();
}

// toggle opens what is in force of a rule below it, or closes it.
function toggle(row) {
  row.name.setAttribute("aria-expanded", String(!row.details));
  if (row.details) {
    row.details.tr.remove();
    row.details = null;
    return;
  }
  const tr = make("tr", "details"), td = make("td"), large = make("div", "large"), keys = make("dl", "keys"), title = make("h3"), links = make("p", "links");
  const graph = document.createElementNS(svg, "svg"), high = make("span", "dim"), low = make("span", "dim low"), follow = make("button");
  graph.setAttribute("class", "graph");
  graph.setAttribute("role", "img");
  td.colSpan = 8;
  text(title, "In force");
  text(low, "5 minutes");
  follow.type = "button";
  text(follow, "follow in the live feed");
  follow.addEventListener("click", () => openFeed(row.r.name));
  links.append(follow);
  large.append(graph, high, low);
  td.append(large, title, keys, links);
  tr.append(td);
  row.tr.after(tr);
  const plot = () => {
    draw(graph, row.points);
    const max = rateText(most(row.points));
    text(high, max);
    graph.setAttribute("aria-label", "what came in, in the last five minutes: at most " + max);
  };
  row.details = { tr, plot, load: () => inForce(row.r.name, keys) };
  plot();
  row.details.load();
}

// inForce shows what a rule says by each of its keys; what the configuration gives stands out.
async function inForce(name, into) {
  let keys;
  try {
    const r = await fetch("/rule?" + new URLSearchParams({ name }), { cache: "no-store" });
    if (!r.ok) throw new Error((await r.text()).trim());
    keys = (await r.json()).keys || [];
  } catch (err) {
    into.replaceChildren(make("div"));
    text(into.firstChild, "what is in force cannot be shown: " + err.message);
    return;
  }
  into.replaceChildren(...keys.map(k => {
    const line = make("div", k.default ? "" : "set"), dt = make("dt"), dd = make("dd"), value = make("b"), means = make("span", "dim");
    text(dt, k.key);
    text(value, k.value);
    text(means, k.means ? (k.value ? ": " : "") + k.means : "");
    dd.append(value, means);
    line.append(dt, dd);
    line.title = k.default ? "as it comes" : "";
    return line;
  }));
}

// reading is while somebody points at the rows, has selected something in them or is in
// them by keyboard: then none may move.
function reading() {
  const table = $("rules"), s = getSelection();
  return table.matches(":hover") || table.contains(document.activeElement) || !s.isCollapsed && table.contains(s.anchorNode);
}

// place puts the rows in their order.
function place(order, forced) {
  const body = $("rules").tBodies[0], want = new Set(order);
  for (const [name, row] of rows) if (!want.has(name)) {
    inSight.unobserve(row.tr);
    row.tr.remove();
    if (row.details) row.details.tr.remove();
    rows.delete(name);
  }
  quiet = reading() ? 0 : quiet + 1;
  const still = !forced && quiet < 3;
  let next = body.firstChild;
  for (const name of order) {
    const row = rows.get(name);
    if (still && row.tr.parentNode) continue;
    for (const tr of row.details ? [row.tr, row.details.tr] : [row.tr]) {
      if (still) body.append(tr);
      else if (tr === next) next = next.nextSibling;
      else body.insertBefore(tr, next);
    }
  }
}
