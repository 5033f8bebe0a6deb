// The window under the pointer, or under the arrow keys, as a line through all panels and as words.
// Without it the page has the same numbers in its tables.
"use strict";
for (const plots of document.querySelectorAll(".plots[data-table]")) {
  const table = document.getElementById(plots.dataset.table);
  const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  const rows = [...table.tBodies[0].rows];
  const readout = plots.querySelector(".readout");
  let shown = -1;

  const shareOf = (plot, index) => {
    const { left, right } = plot.dataset;
    return +left + ((+right - left) * (index + 0.5)) / rows.length;
  };

  const show = (index) => {
    shown = Math.max(-1, Math.min(index, rows.length - 1));
    readout.hidden = shown < 0;
    for (const plot of plots.querySelectorAll(".plot")) {
      const cursor = plot.querySelector(".cursor");
      cursor.hidden = shown < 0;
      if (shown < 0) continue;
      const share = shareOf(plot, shown);
      cursor.style.left = `${share * 100}%`;
      if (!plot.offsetWidth) continue;
      const isLate = share > 0.55;
      readout.style.left = isLate ? "" : `${share * plot.offsetWidth + 12}px`;
      readout.style.right = isLate ? `${(1 - share) * plot.offsetWidth + 12}px` : "";
    }
    if (shown < 0) return;
    readout.replaceChildren(
      ...[...rows[shown].cells].map((cell, number) => {
        const line = document.createElement("div");
        const name = document.createElement("span");
        name.textContent = heads[number];
        const value = document.createElement("b");
        value.textContent = cell.textContent;
        if (number === 0) line.className = "first";
        line.append(name, value);
        return line;
      }),
    );
  };

  plots.addEventListener("pointermove", (event) => {
    const plot = [...plots.querySelectorAll(".plot")].find((one) => one.offsetWidth);
    const box = plot.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    const { left, right } = plot.dataset;
    const inside = (share - left) / (right - left);
    show(inside < 0 || inside > 1 ? -1 : Math.floor(inside * rows.length));
  });
  plots.addEventListener("pointerleave", () => show(-1));
  plots.addEventListener("blur", () => show(-1));
  plots.addEventListener("keydown", (event) => {
    const index = {
      ArrowRight: shown + 1,
      ArrowLeft: Math.max(0, shown - 1),
      Home: 0,
      End: rows.length - 1,
      Escape: -1,
    }[event.key];
    if (index === undefined) return;
    event.preventDefault();
    show(index);
  });
}
