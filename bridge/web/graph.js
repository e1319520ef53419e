// Graphs: points are what came in, and what was dropped, in two seconds each, the oldest first.
const graphPoints = 150, period = 2, svg = "http://www.w3.org/2000/svg";

const newGraph = () => ({ in: [], lost: [] });

function push(list, n) {
  list.push(n);
  if (list.length > graphPoints) list.shift();
}

// perSecond is a rate over the last six seconds, or as many as there were samples; null before there
// were any. What is not in the list was zero.
let samples = 0;

function perSecond(list) {
  const over = Math.min(3, samples);
  return over ? list.slice(-over).reduce((a, b) => a + b, 0) / (period * over) : null;
}

const number = new Intl.NumberFormat("en"), short = new Intl.NumberFormat("en", { notation: "compact", minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
const rateText = r => r === null ? "–" : (r <= 0 ? "0" : r < 10 ? r.toFixed(1) : r < 1e6 ? number.format(Math.round(r)) : short.format(r)) + "/s";

// path draws points as far right as they are new.
function path(list, max, width, height, close) {
  if (!list.length) return "";
  const from = graphPoints - list.length, y = n => (height - n / max * (height - 2) - 1).toFixed(1);
  let d = "M" + from + " " + y(list[0]);
  for (let i = 1; i < list.length; i++) if (list[i] !== list[i - 1] || list[i] !== list[i + 1]) d += "L" + (from + i) + " " + y(list[i]);
  return close ? d + "V" + height + "H" + from + "Z" : d;
}

// draw fills an SVG element with the two lines, on one scale.
function draw(node, points) {
  const width = graphPoints - 1, height = 40, max = Math.max(1, ...points.in, ...points.lost);
  if (!node.firstChild) {
    node.setAttribute("viewBox", "0 0 " + width + " " + height);
    node.setAttribute("preserveAspectRatio", "none");
    for (const css of ["base", "area", "line", "lost"]) {
      const p = document.createElementNS(svg, "path");
      p.setAttribute("class", css);
      node.append(p);
    }
    node.firstChild.setAttribute("d", "M0 " + height + "H" + width);
  }
  const set = (p, d) => { if (p.getAttribute("d") !== d) p.setAttribute("d", d) };
  const [, area, line, lost] = node.children;
  const some = points.in.some(n => n > 0);
  set(area, some ? path(points.in, max, width, height, true) : "");
  set(line, some ? path(points.in, max, width, height) : "");
  set(lost, points.lost.some(n => n > 0) ? path(points.lost, max, width, height) : "");
}

// most is the highest rate that a graph shows.
const most = points => Math.max(0, ...points.in, ...points.lost) / period;
