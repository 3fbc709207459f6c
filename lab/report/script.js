// Reads out every chart at one time. The lines carry their own data, so nothing
// is fetched and nothing is stored twice.
(() => {
  const number = (v) => Number(v.toPrecision(3)).toLocaleString("en");
  const clock = (s) => {
    s = Math.round(s);
    return s < 60 ? s + " s" : Math.floor(s / 60) + " min " + String(s % 60).padStart(2, "0") + " s";
  };
  const charts = [...document.querySelectorAll("svg.plot, svg.strip")].map((svg) => {
    const cursor = document.createElementNS("http://www.w3.org/2000/svg", "line");
    for (const [name, value] of [["class", "cursor"], ["y1", 0], ["y2", "100%"], ["visibility", "hidden"]]) cursor.setAttribute(name, value);
    svg.append(cursor);
    const top = Number(svg.dataset.top);
    const lines = [...svg.querySelectorAll("path[data-name]")].map((path) => ({
      path,
      points: [...path.getAttribute("d").matchAll(/[ML]([-\d.]+),([-\d.]+)/g)].map((m) => [Number(m[1]), top * (1 - Number(m[2]) / 100)]),
    }));
    return { svg, cursor, lines, span: Number(svg.dataset.span), read: document.getElementById(svg.dataset.id + "-read") };
  });
  const slider = document.getElementById("at");
  if (!slider || charts.length === 0) return;
  const now = document.getElementById("now");
  const valueAt = (points, t) => {
    let low = 0, high = points.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (points[middle][0] <= t) low = middle + 1; else high = middle;
    }
    return low ? points[low - 1][1] : NaN;
  };
  const show = (t) => {
    slider.value = t;
    slider.setAttribute("aria-valuetext", clock(t));
    now.textContent = clock(t);
    for (const chart of charts) {
      const x = 100 * Math.min(t / chart.span, 1) + "%";
      chart.cursor.setAttribute("x1", x);
      chart.cursor.setAttribute("x2", x);
      chart.cursor.setAttribute("visibility", "visible");
      if (!chart.read) continue;
      chart.read.replaceChildren(...chart.lines.flatMap(({ path, points }) => {
        const value = valueAt(points, t);
        if (Number.isNaN(value)) return [];
        const span = document.createElement("span");
        span.className = path.getAttribute("class").replace(/\b(line|step|edge|area)\b/g, "");
        span.textContent = path.dataset.name + " " + number(value);
        return span;
      }));
    }
  };
  slider.closest("[hidden]").hidden = false;
  slider.addEventListener("input", () => show(Number(slider.value)));
  for (const { svg, span } of charts) {
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      show(Math.round(span * Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1)));
    });
  }
})();
