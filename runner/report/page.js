// Draws the figures of the sweeps of a page, and shows the run under the pointer or chosen by keys.
const HUES = { // Okabe and Ito's, which can be told apart without red and green: light, dark
  blue: ['#0072b2', '#56b4e9'], orange: ['#b87400', '#e69f00'], green: ['#00795a', '#2fc79a'], red: ['#c44e00', '#f08a3c'],
  purple: ['#a8437e', '#e29bc4'], grey: ['#59636e', '#9aa4ae'], yellow: ['#7d7400', '#f0e442'], ink: ['#1b1f24', '#e6edf3'],
};
const DASHES = ['solid', 'dash', 'dot', 'dashdot', 'longdash', 'longdashdot'];
const SERIES = ['blue', 'orange', 'green', 'purple', 'red', 'grey', 'yellow', 'ink'];
const OUTCOMES = [
  { name: 'fell', hue: 'blue', symbol: 'circle-open' }, { name: 'did not change', hue: 'grey', symbol: 'square-open' },
  { name: 'grew', hue: 'orange', symbol: 'triangle-up-open' }, { name: 'diverged', hue: 'red', symbol: 'x-thin-open' },
  { name: 'unknown', hue: 'grey', symbol: 'line-ew-open' },
];
const ZERO = 0, ABOVE = 65534, NOTHING = 65535, LEVELS = 65532;
const darkness = matchMedia('(prefers-color-scheme: dark)');
const hue = (name) => HUES[name][darkness.matches ? 1 : 0];
const safe = (text) => String(text).replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/\$/g, '&#36;');
const shown = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(6))) : Number.isNaN(value) ? 'NaN' : 'infinite');
const brief = (text) => (text.trim() !== '' && Number.isFinite(Number(text)) ? String(Number(Number(text).toPrecision(3))) : text);
const figures = [];

function axis(more) {
  const style = getComputedStyle(document.documentElement);
  const line = style.getPropertyValue('--line').trim();
  const { title, ...rest } = more;
  return { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true, exponentformat: 'power', nticks: innerWidth < 600 ? 4 : 8,
    title: { text: safe(title || ''), standoff: 8 }, ...rest };
}

function layoutOf(x, y, more = {}) {
  const style = getComputedStyle(document.documentElement);
  return { paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', margin: { l: 8, r: 12, t: 8, b: 8 },
    font: { color: style.getPropertyValue('--ink').trim(), family: 'system-ui, sans-serif', size: 12 }, hovermode: 'closest',
    hoverlabel: { align: 'left' }, legend: { orientation: 'h', y: 1.02, yanchor: 'bottom', x: 0 }, dragmode: 'zoom',
    xaxis: axis(x), yaxis: axis(y), ...more };
}

// A figure is made anew whenever the theme changes; `make` returns its traces and layout.
function figure(id, make) {
  const element = document.getElementById(id);
  if (element === null) return null;
  const drawNow = () => {
    const { traces, layout } = make();
    return Plotly.react(element, traces, layout, { displayModeBar: false, responsive: true, scrollZoom: false });
  };
  figures.push({ element, drawNow });
  element.tabIndex = 0;
  element.addEventListener('keydown', (event) => onKey(event, element));
  return drawNow().then(() => element);
}

function onKey(event, element) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const axes = ['xaxis', 'yaxis'];
  if (event.key === '+' || event.key === '-') {
    const factor = event.key === '+' ? 0.35 : 0.8;
    const change = {};
    for (const name of axes) {
      const [low, high] = element._fullLayout[name].range.map(Number);
      if (!Number.isFinite(low + high)) continue;
      change[`${name}.range`] = [(low + high) / 2 - (high - low) * factor, (low + high) / 2 + (high - low) * factor];
    }
    Plotly.relayout(element, change);
  } else if (event.key === '0') {
    Plotly.relayout(element, { 'xaxis.autorange': true, 'yaxis.autorange': true });
  } else if (/^[1-9]$/.test(event.key)) {
    const named = element.data.map((_, index) => index).filter((index) => element.data[index].showlegend !== false);
    const index = named[Number(event.key) - 1];
    if (index === undefined) return;
    Plotly.restyle(element, { visible: element.data[index].visible === 'legendonly' ? true : 'legendonly' }, [index]);
  } else if (['ArrowLeft', 'ArrowRight'].includes(event.key) && element.chooseNext) {
    element.chooseNext(event.key === 'ArrowRight' ? 1 : -1);
  } else return;
  event.preventDefault();
}

// The strip of what diverged, on top, and the floor of zeros, below, each with a label.
function shelves(scale, hasStrip) {
  const shapes = [], annotations = [];
  const put = (value, text, edge) => {
    const at = scale.isLog ? Math.log10(value) : value;
    shapes.push({ type: 'line', xref: 'paper', x0: 0, x1: 1, y0: value, y1: value, layer: 'below', line: { color: hue('grey'), width: 1, dash: 'dot' } });
    annotations.push({ xref: 'paper', x: 0, y: at, xanchor: 'left', yanchor: edge, text, showarrow: false, font: { size: 11, color: hue('grey') } });
  };
  if (hasStrip) put(scale.strip, 'diverged or off the scale', 'bottom');
  if (scale.floor !== null) put(scale.floor, 'exactly 0', 'top');
  return { shapes, annotations };
}

function range(scale, hasStrip) {
  const low = scale.floor === null ? scale.low : scale.floor;
  const high = hasStrip ? scale.strip : scale.high;
  const [a, b] = scale.isLog ? [Math.log10(low), Math.log10(high)] : [low, high];
  const margin = 0.06 * ((b - a) || 1);
  return [a - margin, b + margin];
}

const yAxis = (scale, title, hasStrip) => ({ title, type: scale.isLog ? 'log' : 'linear', range: range(scale, hasStrip), autorange: false });

function hoverTexts(sweep) {
  const { names, final, best, reached, rank, outcome } = sweep.drawn;
  return names.map((name, i) => `<b>${safe(name)}</b><br>${OUTCOMES[outcome[i]].name}; last loss ${shown(final[i])}, best ${shown(best[i])}`
    + (rank[i] ? `<br>rank ${rank[i].toLocaleString('en')}, reached in ${shown(reached[i])} steps` : ''));
}

function values(column) {
  return column.numbers ? Array.from(column.numbers) : Array.from(column.codes, (code) => safe(column.choices[code]));
}

function pointsFigure(sweep, column, key) {
  const { drawn, scale, border } = sweep;
  const x = values(column), texts = hoverTexts(sweep);
  return figure(`${key}`, () => {
    const hasStrip = drawn.y.some((y) => y >= scale.strip);
    const traces = [];
    if (sweep.groups && sweep.groups.column === column.name) {
      sweep.groups.lines.forEach((line, i) => traces.push({ x: Array.from(line.x), y: Array.from(line.y), mode: 'lines', name: safe(line.name), hoverinfo: 'skip',
        connectgaps: false, line: { color: hue(SERIES[i % SERIES.length]), dash: DASHES[i % DASHES.length], width: 2 } }));
    }
    const all = [...x.keys()];
    traces.push({ x, y: all.map((i) => (drawn.yBest[i] >= scale.strip ? null : drawn.yBest[i])), mode: 'markers', name: 'best loss of the run', hoverinfo: 'skip',
      visible: 'legendonly', marker: { symbol: 'line-ew-open', color: hue('green'), size: 7 } });
    OUTCOMES.forEach((one, code) => {
      const mine = all.filter((i) => drawn.outcome[i] === code);
      if (!mine.length) return;
      traces.push({ x: mine.map((i) => x[i]), y: mine.map((i) => drawn.y[i]), customdata: mine, text: mine.map((i) => texts[i]), hovertemplate: '%{text}<extra></extra>',
        mode: 'markers', name: one.name, marker: { color: hue(one.hue), symbol: one.symbol, size: all.length > 500 ? 5 : 7, opacity: all.length > 500 ? 0.6 : 0.85, line: { width: all.length > 500 ? 1 : 1.5, color: hue(one.hue) } } });
    });
    if (sweep.picks.best !== undefined) {
      const i = sweep.picks.best;
      traces.push({ x: [x[i]], y: [drawn.y[i]], customdata: [i], text: [texts[i]], hovertemplate: '%{text}<extra></extra>', mode: 'markers', name: 'best run',
        marker: { symbol: 'star', size: 14, color: hue('green'), line: { width: 1, color: hue('ink') } } });
    }
    const { shapes, annotations } = shelves(scale, hasStrip);
    if (border && column.name === 'lr') {
      const low = range(scale, hasStrip).map((end) => (scale.isLog ? 10 ** end : end));
      if (border.fell !== null && border.failed !== null) {
        traces.push({ x: [border.fell, border.fell, border.failed, border.failed], y: [low[0], low[1], low[1], low[0]], fill: 'toself', mode: 'lines', hoveron: 'fills',
          fillcolor: 'rgba(213,94,0,.22)', line: { width: 1, color: hue('red') }, name: `border: ${shown(border.fell)} to ${shown(border.failed)}`, hoverinfo: 'name' });
      }
      if (border.bound !== null) {
        traces.push({ x: [border.bound, border.bound], y: low, mode: 'lines', line: { dash: 'dash', width: 2, color: hue('purple') }, name: `2/λ<sub>max</sub> = ${shown(border.bound)}`, hoverinfo: 'name' });
      }
    }
    return { traces, layout: layoutOf({ title: column.name, type: column.numbers ? (column.isLog ? 'log' : 'linear') : 'category' },
      yAxis(scale, scale.quantity, hasStrip), { shapes, annotations }) };
  });
}

function curveReader(curves) {
  const { steps, owner, values: levels, scale } = curves;
  const place = new Map(Array.from(owner, (run, row) => [run, row]));
  return (run) => {
    const row = place.get(run);
    if (row === undefined) return null;
    return Array.from(levels.subarray(row * steps.length, (row + 1) * steps.length), (level) => {
      if (level === NOTHING) return null;
      if (level === ABOVE) return scale.strip;
      if (level === ZERO) return scale.floor;
      const part = (level - 1) / LEVELS;
      return scale.isLog ? scale.low * (scale.high / scale.low) ** part : scale.low + (scale.high - scale.low) * part;
    });
  };
}

function curvesFigure(sweep, id) {
  const { curves, picks, drawn } = sweep;
  if (curves === null) return null;
  const curve = curveReader(curves), steps = Array.from(curves.steps);
  const hasStrip = curves.values.some((level) => level === ABOVE);
  let chosen = null;
  const line = (run, name, color, dash, width = 2) => ({ x: steps, y: curve(run), mode: steps.length > 1 ? 'lines' : 'markers', name: `${name}: ${safe(drawn.names[run])}`,
    line: { color: hue(color), dash, width }, hovertemplate: `${safe(name)}<br>step %{x}<br>%{y:.5g}<extra></extra>` });
  const made = figure(id, () => {
    const traces = [];
    if (curves.band) {
      const [low, middle, high] = curves.band.lines.map((one) => Array.from(one));
      traces.push({ x: steps, y: low, mode: 'lines', line: { width: 0 }, showlegend: false, hoverinfo: 'skip' });
      traces.push({ x: steps, y: high, mode: 'lines', line: { width: 0 }, fill: 'tonexty', fillcolor: 'rgba(128,128,128,.28)', hoverinfo: 'skip', name: `10 to 90 % of ${curves.band.of}` });
      traces.push({ x: steps, y: middle, mode: 'lines', line: { width: 1.5, color: hue('grey'), dash: 'longdash' }, name: 'median at each step', hovertemplate: 'median<br>step %{x}<br>%{y:.5g}<extra></extra>' });
    }
    const distinct = new Set();
    [['best', 'green', 'solid'], ['median', 'blue', 'dash'], ['worst', 'red', 'dot']].forEach(([name, color, dash]) => {
      if (picks[name] === undefined || distinct.has(picks[name])) return;
      distinct.add(picks[name]);
      traces.push(line(picks[name], name, color, dash));
    });
    if (chosen !== null && curve(chosen) !== null) traces.push(line(chosen, 'chosen', 'purple', 'solid', 3.5));
    return { traces, layout: layoutOf({ title: 'step' }, yAxis(curves.scale, curves.scale.quantity, hasStrip), shelves(curves.scale, hasStrip)) };
  });
  if (made === null) return null;
  return made.then((element) => ({ element, choose: (run) => {
    if (chosen === run) return;
    chosen = run;
    figures.find((one) => one.element === element).drawNow();
  } }));
}

function gridFigure(sweep, id) {
  const { grid, scale } = sweep;
  if (!grid) return null;
  const columns = grid.across.choices.length;
  const rows = grid.up.choices.map((_, row) => Array.from(grid.values.subarray(row * columns, (row + 1) * columns)));
  const color = (value) => (!Number.isFinite(value) ? null : scale.isLog ? Math.log10(Math.min(Math.max(value, scale.floor || scale.low), scale.high)) : Math.min(value, scale.high));
  const label = (value) => (Number.isNaN(value) ? 'no run' : value === Infinity ? 'diverged or unknown' : shown(value));
  const diverged = [];
  rows.forEach((row, up) => row.forEach((value, across) => { if (value === Infinity) diverged.push([across, up]); }));
  let best = null;
  rows.forEach((row, up) => row.forEach((value, across) => { if (Number.isFinite(value) && (best === null || value < best[2])) best = [across, up, value]; }));
  const ticks = (choices) => {
    const every = Math.max(1, Math.ceil(choices.length / 12));
    const at = choices.map((_, index) => index).filter((index) => index % every === 0);
    return { tickmode: 'array', tickvals: at, ticktext: at.map((index) => safe(brief(choices[index]))), showgrid: false, zeroline: false };
  };
  return figure(id, () => ({
    traces: [
      { type: 'heatmap', z: rows.map((row) => row.map(color)), colorscale: 'Cividis', reversescale: true, hoverongaps: false,
        text: rows.map((row, up) => row.map((value, across) => `${safe(grid.across.name)}=${safe(grid.across.choices[across])}<br>${safe(grid.up.name)}=${safe(grid.up.choices[up])}<br>${label(value)}`)),
        hovertemplate: '%{text}<extra></extra>', colorbar: { title: { text: scale.isLog ? 'log<sub>10</sub>' : '', side: 'top' }, thickness: 12, outlinewidth: 0 }, showlegend: false },
      { x: diverged.map((cell) => cell[0]), y: diverged.map((cell) => cell[1]), mode: 'markers', name: 'diverged or unknown', hoverinfo: 'skip', marker: { symbol: 'x-thin-open', color: hue('red'), size: 7, line: { width: 1.5 } } },
      { x: best ? [best[0]] : [], y: best ? [best[1]] : [], mode: 'markers', name: 'best', hoverinfo: 'skip', marker: { symbol: 'star', size: 13, color: '#ffffff', line: { width: 1.5, color: '#000000' } } },
    ],
    layout: layoutOf({ title: grid.across.name, ...ticks(grid.across.choices), range: [-0.5, columns - 0.5] },
      { title: grid.up.name, ...ticks(grid.up.choices), range: [-0.5, rows.length - 0.5] }),
  }));
}

// Every run a line across one axis for each setting, and a last axis for the loss; in five classes by rank.
function parallelFigure(sweep, id) {
  const { columns, drawn, scale } = sweep;
  const axes = columns.map((column) => {
    const raw = column.numbers ? Array.from(column.numbers) : Array.from(column.codes);
    const placed = column.numbers && column.isLog ? raw.map(Math.log10) : raw;
    const low = Math.min(...placed), high = Math.max(...placed);
    const text = (value) => (column.numbers ? shown(column.isLog ? 10 ** value : value) : column.choices[value]);
    return { name: column.name, at: placed.map((value) => (value - low) / ((high - low) || 1)), low: text(low), high: text(high) };
  });
  const y = Array.from(drawn.y, (value) => (scale.isLog ? Math.log10(value) : value));
  const low = Math.min(...y), high = Math.max(...y);
  axes.push({ name: 'last loss', at: y.map((value) => (value - low) / ((high - low) || 1)),
    low: scale.floor === null ? shown(scale.low) : '0', high: drawn.y.some((value) => value >= scale.strip) ? 'diverged' : shown(scale.high) });
  const ranked = [...drawn.names.keys()].filter((i) => drawn.rank[i] > 0).sort((a, b) => drawn.rank[a] - drawn.rank[b]);
  const classes = [['best tenth', 'green', 'solid', 0, 0.1, 2.5], ['next, to the median', 'blue', 'dash', 0.1, 0.5, 1], ['worse than the median', 'orange', 'dot', 0.5, 1, 1]]
    .map(([name, color, dash, from, to, width]) => ({ name, color, dash, width, runs: ranked.slice(Math.floor(from * ranked.length), Math.max(Math.floor(to * ranked.length), from === 0 ? 1 : 0)) }));
  classes.push({ name: 'diverged or unknown', color: 'red', dash: 'dashdot', width: 1, runs: [...drawn.names.keys()].filter((i) => drawn.rank[i] === 0) });
  const thin = (runs) => runs.filter((_, index) => index % Math.ceil(runs.length / 150 || 1) === 0);
  return figure(id, () => ({
    traces: classes.filter((one) => one.runs.length).reverse().map((one) => ({ mode: 'lines', hoverinfo: 'skip', opacity: one.width > 2 ? 0.9 : 0.35, name: one.name,
      x: thin(one.runs).flatMap(() => [...axes.keys(), null]), y: thin(one.runs).flatMap((run) => [...axes.map((a) => a.at[run]), null]),
      line: { color: hue(one.color), dash: one.dash, width: one.width } })),
    layout: layoutOf({ tickmode: 'array', tickvals: [...axes.keys()], ticktext: axes.map((a) => safe(axes.length > 6 ? a.name.split('.').at(-1) : a.name)), showgrid: true, zeroline: false, range: [-0.3, axes.length - 0.7] },
      { visible: false, range: [-0.12, 1.12] },
      { annotations: axes.flatMap((a, index) => [[-0.03, a.low, 'top'], [1.03, a.high, 'bottom']].map(([at, text, anchor]) => (
        { x: index, y: at, text: safe(axes.length > 6 && innerWidth < 900 ? '' : brief(text)), yanchor: anchor, showarrow: false, font: { size: axes.length > 6 ? 10 : 11 } }))) }),
  }));
}

function comparisonFigure(lines, scale, id) {
  const hasStrip = lines.some((line) => line.y.some((y) => y >= scale.strip));
  return figure(id, () => ({
    traces: lines.map((line, i) => ({ x: Array.from(line.x), y: Array.from(line.y, (y) => (Number.isNaN(y) ? null : y)), mode: line.x.length > 1 ? 'lines' : 'markers', name: safe(line.name),
      line: { color: hue(SERIES[i % SERIES.length]), dash: DASHES[Math.floor(i / SERIES.length + i) % DASHES.length], width: 2 }, hovertemplate: `${safe(line.name)}<br>step %{x}<br>%{y:.5g}<extra></extra>` })),
    layout: layoutOf({ title: 'step' }, yAxis(scale, scale.quantity, hasStrip), shelves(scale, hasStrip)),
  }));
}

async function drawSweep(sweep, key) {
  const curves = await curvesFigure(sweep, `${key}-curves`);
  const live = document.getElementById(`${key}-chosen`);
  const texts = hoverTexts(sweep);
  const choose = (run) => {
    if (curves) curves.choose(run);
    live.innerHTML = texts[run].replaceAll('<br>', '; ');
  };
  const drawPoints = async (column, index) => {
    const element = await pointsFigure(sweep, column, `${key}-points-${index}`);
    const x = column.numbers || column.codes;
    const order = [...x.keys()].sort((a, b) => x[a] - x[b]);
    let place = -1;
    element.chooseNext = (by) => {
      place = Math.min(Math.max(place < 0 ? order.indexOf(sweep.picks.best) : place + by, 0), order.length - 1);
      choose(order[place]);
    };
    element.on('plotly_hover', ({ points }) => {
      const run = points[0].customdata;
      if (Number.isInteger(run)) choose(run);
    });
  };
  const more = document.getElementById(`${key}-more`); // drawn when they are opened
  for (const [index, column] of sweep.columns.entries()) {
    if (!more || !more.querySelector(`#${key}-points-${index}`)) await drawPoints(column, index);
  }
  if (more) {
    more.addEventListener('toggle', async () => {
      for (const [index, column] of sweep.columns.entries()) {
        if (more.querySelector(`#${key}-points-${index}`)) await drawPoints(column, index);
      }
    }, { once: true });
  }
  await gridFigure(sweep, `${key}-grid`);
  if (document.getElementById(`${key}-parallel`)) await parallelFigure(sweep, `${key}-parallel`);
}

const axisOf = (scale, hasStrip) => yAxis(scale, scale.quantity, hasStrip);

// The value of each trial, and the best so far.
function historyFigure(search, id) {
  const [{ name, values: raw, placed, scale }] = search.metrics;
  const x = Array.from(search.numbers), y = Array.from(placed);
  const hasStrip = y.some((value) => value >= scale.strip);
  return figure(id, () => ({
    traces: [
      { x, y, mode: 'markers', name: 'trial', text: Array.from(raw, shown), hovertemplate: `trial %{x}<br>${safe(name)} %{text}<extra></extra>`,
        marker: { color: hue('blue'), symbol: 'circle-open', size: x.length > 500 ? 5 : 7, line: { width: 1.5, color: hue('blue') } } },
      { x, y: Array.from(search.best), mode: 'lines', name: 'best so far', hoverinfo: 'skip', line: { color: hue('green'), width: 2, shape: 'hv' } },
    ],
    layout: layoutOf({ title: 'trial' }, axisOf(scale, hasStrip), shelves(scale, hasStrip)),
  }));
}

// Trials by two metrics; those that no other beats in all metrics are marked.
function frontFigure(search, [one, other], id) {
  const across = search.metrics[one], up = search.metrics[other];
  const isOn = new Set(search.front);
  const text = (i) => `trial ${search.numbers[i]}<br>${[across, up].map((metric) => `${safe(metric.name)} ${shown(metric.values[i])}`).join('<br>')}`;
  const points = (rows, name, marker) => ({ x: rows.map((i) => across.placed[i]), y: rows.map((i) => up.placed[i]), text: rows.map(text), hovertemplate: '%{text}<extra></extra>',
    mode: 'markers', name, marker });
  const rows = [...search.numbers.keys()];
  return figure(id, () => ({
    traces: [
      points(rows.filter((i) => !isOn.has(i)), 'trial', { color: hue('grey'), symbol: 'circle-open', size: 7, line: { width: 1.5, color: hue('grey') } }),
      points(rows.filter((i) => isOn.has(i)), 'on the Pareto front', { color: hue('green'), symbol: 'star', size: 12, line: { width: 1, color: hue('ink') } }),
    ],
    layout: layoutOf(axisOf(across.scale, across.placed.some((value) => value >= across.scale.strip)), axisOf(up.scale, up.placed.some((value) => value >= up.scale.strip))),
  }));
}

function importancesFigure(search, id) {
  const found = [...search.importances].reverse();
  return figure(id, () => ({
    traces: [{ type: 'bar', orientation: 'h', x: found.map((one) => one.share), y: found.map((one) => safe(one.name)), text: found.map((one) => `${shown(Number((100 * one.share).toPrecision(3)))} %`),
      textposition: 'outside', textangle: 0, cliponaxis: false, hoverinfo: 'skip', name: 'importance', showlegend: false, marker: { color: hue('blue') } }],
    layout: layoutOf({ title: 'importance', range: [0, 1.15], tickvals: [0, 0.25, 0.5, 0.75, 1], tickformat: '.0%' }, { type: 'category', fixedrange: true }),
  }));
}

async function drawSearch(search, key) {
  const has = (name) => document.getElementById(`${key}-${name}`) !== null;
  if (has('history')) await historyFigure(search, `${key}-history`);
  for (const [place, pair] of search.pairs.entries()) if (has(`front-${place}`)) await frontFigure(search, pair, `${key}-front-${place}`);
  if (has('importances')) await importancesFigure(search, `${key}-importances`);
}

async function draw(data) {
  for (const [index, part] of data.parts.entries()) {
    if (part.search) await drawSearch(part.search, `part-${index}`);
    if (part.sweep) await drawSweep(part.sweep, `part-${index}`);
    for (const [number, one] of (part.figures || []).entries()) await comparisonFigure(one.lines, one.scale, `part-${index}-figure-${number}`);
  }
  if (data.comparison) await comparisonFigure(data.comparison.lines, data.comparison.scale, 'comparison');
  darkness.addEventListener('change', () => figures.forEach((one) => one.drawNow()));
}
