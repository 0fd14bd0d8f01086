"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const SHOWN = 200;
  let chosen = null;

  /* Figures name colours by CSS variable, so that they follow the page's colour scheme. */
  const resolved = (value, style) => {
    if (typeof value === "string") {
      const found = /^var\((--[a-z-]+)\)$/.exec(value);
      return found ? style.getPropertyValue(found[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => resolved(item, style));
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, resolved(v, style)]));
    }
    return value;
  };

  const axisStyle = (narrow) => ({
    zeroline: false, gridcolor: "var(--faint)", zerolinecolor: "var(--soft)", linecolor: "var(--soft)",
    tickcolor: "var(--soft)", ticks: "outside", ticklen: 4, fixedrange: narrow,
    automargin: true,
  });

  const layoutOf = (view, width, height) => {
    const narrow = width < 520;
    const layout = {
      width, height: height + (narrow ? 60 : 0), autosize: false,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: "var(--ink)", size: narrow ? 11 : 13, family: "system-ui, sans-serif" },
      margin: { l: 48, r: narrow ? 8 : 16, t: 12, b: 44, pad: 2 },
      hoverlabel: { bgcolor: "var(--card)", bordercolor: "var(--soft)", align: "left",
        font: { color: "var(--ink)", size: 13 } },
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom",
        traceorder: "normal" },
      dragmode: narrow ? false : "zoom",
      ...view.layout,
    };
    for (const name of ["xaxis", "yaxis"]) {
      const own = view.layout[name] || {};
      const title = { standoff: 8, font: { size: narrow ? 11 : 13 }, ...own.title };
      layout[name] = { ...axisStyle(narrow), ...own, title };
    }
    return layout;
  };

  const config = {
    displayModeBar: false, responsive: false, showTips: false,
  };

  const draw = (id, width) => {
    const box = document.getElementById(id);
    const plot = box.querySelector(".plot");
    const select = box.querySelector(".view select");
    const view = figures[id].views[select ? Number(select.value) : 0];
    const style = getComputedStyle(root);
    const layout = layoutOf(view, width || plot.clientWidth, Number(plot.dataset.height));
    const bare = layout.width < 520 ? { showscale: false } : {};
    const data = view.data.map((trace) => (trace.type === "heatmap" ? { ...trace, ...bare } : trace));
    return Plotly.react(plot, resolved(data, style), resolved(layout, style), config);
  };

  const drawAll = (width) => Promise.all(Object.keys(figures).map((id) => draw(id, width)));

  const setTheme = (name) => {
    root.dataset.theme = name;
    root.style.colorScheme = name;
    button.textContent = name === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `Change to ${name === "dark" ? "light" : "dark"} colours`);
    button.setAttribute("aria-pressed", String(name === "dark"));
  };
  const scheme = () => chosen || (dark.matches ? "dark" : "light");
  button.addEventListener("click", () => {
    chosen = scheme() === "dark" ? "light" : "dark";
    setTheme(chosen);
    drawAll();
  });
  dark.addEventListener("change", () => { setTheme(scheme()); drawAll(); });

  /* Tables: a click on a heading sorts, another turns the order. */
  const compare = (a, b) => {
    const [x, y] = [a.dataset.value, b.dataset.value];
    if (x !== undefined && y !== undefined) return Number(x) - Number(y);
    if (x !== undefined) return -1;
    if (y !== undefined) return 1;
    return a.textContent.localeCompare(b.textContent, "en", { numeric: true });
  };
  const sortable = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, place) => head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => (down ? -1 : 1) * compare(a.cells[place], b.cells[place]));
      table.tBodies[0].append(...rows);
    }));
  };
  document.querySelectorAll("table").forEach(sortable);

  const cellText = (value, column) => {
    if (value === null || value === undefined) return "-";
    if (typeof value !== "number" || column.digits === null) return String(value);
    return value.toLocaleString("en-US",
      { minimumFractionDigits: column.digits, maximumFractionDigits: column.digits });
  };
  const tableOf = ({ columns, rows }) => {
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const column of columns) {
      const cell = document.createElement("th");
      cell.scope = "col";
      if (column.digits !== null) cell.className = "number";
      const control = document.createElement("button");
      control.type = "button";
      control.textContent = column.title;
      cell.append(control);
      head.append(cell);
    }
    const body = table.createTBody();
    for (const row of rows.slice(0, SHOWN)) {
      const line = body.insertRow();
      row.forEach((value, place) => {
        const cell = line.insertCell();
        if (columns[place].digits !== null) cell.className = "number";
        else if (String(value).length > 24) cell.className = "long";
        if (typeof value === "number") cell.dataset.value = value;
        cell.textContent = cellText(value, columns[place]);
      });
    }
    sortable(table);
    return table;
  };

  /* A text that a spreadsheet would take for a formula is written with a quote before it. */
  const csvCell = (value) => {
    if (value === null || value === undefined) return "";
    if (typeof value === "number") return String(value);
    const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const csvOf = ({ columns, rows }) =>
    [columns.map((column) => column.title), ...rows]
      .map((row) => row.map(csvCell).join(",")).join("\r\n") + "\r\n";
  const download = (figure) => {
    const url = URL.createObjectURL(new Blob([csvOf(figure)], { type: "text/csv" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = figure.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  };

  for (const [id, figure] of Object.entries(figures)) {
    const box = document.getElementById(id);
    const select = box.querySelector(".view select");
    if (select) select.addEventListener("change", () => draw(id));
    box.querySelector(".download").addEventListener("click", () => download(figure));
    const plot = box.querySelector(".plot");
    box.querySelector(".picture").addEventListener("click", () => Plotly.downloadImage(plot,
      { format: "svg", filename: figure.file.replace(".csv", ""), width: plot.clientWidth,
        height: plot.clientHeight }));
    const details = box.querySelector("details");
    details.addEventListener("toggle", () => {
      const place = details.querySelector(".scroll");
      if (!details.open || place.firstChild) return;
      place.append(tableOf(figure));
      if (figure.rows.length > SHOWN) {
        const note = document.createElement("p");
        note.textContent = `The first ${SHOWN} rows; the download has all.`;
        place.append(note);
      }
    });
  }

  document.querySelectorAll(".copy").forEach((control) =>
    control.addEventListener("click", async () => {
      const code = control.previousElementSibling;
      const range = document.createRange();
      range.selectNodeContents(code);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      try {
        await navigator.clipboard.writeText(code.textContent);
        control.textContent = "Copied";
      } catch {
        control.textContent = "Selected";
      }
    }));

  /* Paper is light and about as wide as this. */
  const PAPER = 680;
  window.addEventListener("beforeprint", () => { setTheme("light"); drawAll(PAPER); });
  window.addEventListener("afterprint", () => { setTheme(scheme()); drawAll(); });

  let width = window.innerWidth;
  let waiting = 0;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(() => drawAll(), 120);
  });

  setTheme(scheme());
  drawAll().then(() => { root.dataset.drawn = Object.keys(figures).length; });
})();
