// Plots beside tables: each column with data-plot is a line of the plot of that name. The table is their only source.
"use strict";

(() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const short = new Intl.NumberFormat(undefined, { notation: "compact", maximumSignificantDigits: 3 });
  const withUnit = (unit) => (value) => {
    if (value === null || value === undefined) return "–";
    return unit === "$" ? `$${short.format(value)}` : `${short.format(value)}${unit ? ` ${unit}` : ""}`;
  };
  const numberIn = (cell) => (cell.dataset.value === "" || cell.dataset.value === undefined ? null : Number(cell.dataset.value));

  const plotsIn = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    const rows = [...table.tBodies[0].rows];
    const times = rows.map((row) => Date.parse(row.cells[0].dataset.value) / 1000);
    const plots = new Map();
    heads.forEach((head, column) => {
      if (!head.dataset.plot) return;
      const values = rows.map((row) => numberIn(row.cells[column]));
      if (!values.some((value) => value)) return;
      const plot = plots.get(head.dataset.plot) ?? { unit: head.dataset.unit ?? "", data: [times], series: [] };
      plot.data.push(values);
      plot.series.push({ label: head.textContent, colour: head.dataset.colour });
      plots.set(head.dataset.plot, plot);
    });
    return plots;
  };

  const drawn = (figure, plot) => {
    const axis = { stroke: colour("faint"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line") } };
    const format = withUnit(plot.unit);
    const dashes = [[], [6, 3], [2, 3], [8, 3, 2, 3], [1, 2], [12, 4]];
    const series = plot.series.map((one, index) => ({
      label: one.label,
      stroke: colour(one.colour),
      width: 2,
      dash: dashes[index],
      points: { show: plot.data[0].length < 40, size: 5 },
      value: (_plot, value) => format(value),
    }));
    // In UTC, as the table has it: a day, or the hour where the plot is of a day.
    const hours = plot.data[0].length > 1 && plot.data[0][1] - plot.data[0][0] < 86400;
    const day = (seconds) => new Date(seconds * 1000).toISOString().slice(...(hours ? [11, 16] : [5, 10]));
    const width = () => Math.max(figure.clientWidth - 18, 200);
    const chart = new uPlot(
      {
        width: width(),
        height: 220,
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
        scales: { y: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.05 : 1] } },
        axes: [{ ...axis, values: (_plot, ticks) => ticks.map(day), space: 60 }, { ...axis, size: 64, values: (_plot, ticks) => ticks.map(format) }],
        series: [{ value: "{YYYY}-{MM}-{DD} {HH}:{mm}" }, ...series],
      },
      plot.data,
      figure,
    );
    return { chart, width };
  };

  for (const place of document.querySelectorAll("[data-plots]")) {
    const table = document.getElementById(place.dataset.plots);
    let charts = [];
    const draw = () => {
      charts.forEach(({ chart }) => chart.destroy());
      place.replaceChildren();
      charts = [...plotsIn(table)].map(([name, plot]) => {
        const figure = document.createElement("figure");
        const caption = document.createElement("figcaption");
        caption.textContent = name;
        figure.append(caption);
        place.append(figure);
        const made = drawn(figure, plot);
        const canvas = figure.querySelector("canvas");
        canvas.setAttribute("role", "img");
        canvas.setAttribute("aria-label", `${name}: ${plot.series.map((one) => one.label).join(", ")}. The table below has the figures.`);
        return made;
      });
    };
    draw();
    table.closest("details").open = false;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    new ResizeObserver(() => charts.forEach(({ chart, width }) => chart.setSize({ width: width(), height: 220 }))).observe(place);
  }
})();
