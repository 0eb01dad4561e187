// The map of all runs, the strip of regions above the slider, and the signs of the regions.

const MAP = { left: 46, thumb: 9, top: 22, bottom: 22 };

// Where the columns and rows of the map lie.
function mapLayout(canvas, runs) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const [first, last] = [MAP.left + MAP.thumb, width - MAP.thumb];
  const [columns, rows] = [runs.rates.length, runs.momenta.length];
  const step = (last - first) / Math.max(1, columns - 1);
  const tall = (height - MAP.top - MAP.bottom) / rows;
  return {
    step,
    tall,
    x: (column) => first + column * step,
    y: (row) => height - MAP.bottom - (row + 0.5) * tall, // the smallest momentum at the bottom
    column: (x) => Math.max(0, Math.min(columns - 1, Math.round((x - first) / step))),
    row: (y) => Math.max(0, Math.min(rows - 1, Math.floor((height - MAP.bottom - y) / tall))),
  };
}

const SHADES = ['line', 'good', 'accent', 'warn'];

// A cell in the colour and with the sign of its region, so that it can be read without colours.
function drawCell(pen, region, x, y, wide, tall) {
  pen.globalAlpha = [0.5, 0.4, 0.4, 0.55][region];
  pen.fillStyle = colour(SHADES[region]);
  pen.fillRect(x - wide / 2 + 0.5, y - tall / 2 + 0.5, Math.max(1, wide - 1), tall - 1);
  pen.globalAlpha = 1;
  pen.strokeStyle = colour('ink');
  pen.lineWidth = 1;
  const [a, b] = [Math.min(wide * 0.3, 5), Math.min(tall * 0.26, 6)];
  if (region === SLOW) line(pen, [[x - a, y], [x + a, y]]);
  if (region === MONOTONE) line(pen, [[x - a, y - b], [x + a, y + b]]);
  if (region === OSCILLATING) line(pen, [[x - a, y + b], [x - a / 3, y - b], [x + a / 3, y + b], [x + a, y - b]]);
  if (region === DIVERGING) {
    line(pen, [[x - a, y - b], [x + a, y + b]]);
    line(pen, [[x - a, y + b], [x + a, y - b]]);
  }
}

// The regions along the chosen momentum, above the slider of the learning rate; thumbs are about 16 pixels wide.
function drawStrip(canvas, runs, momentum, isHidden, known) {
  const { pen, width, height } = prepared(canvas);
  const step = (width - 16) / Math.max(1, runs.rates.length - 1);
  const picture = kept(['strip', momentum, known], width, height, (own) => {
    for (let column = 0; column < runs.rates.length; column += 1) {
      const run = runs.index(column, momentum);
      if (!isHidden(run)) drawCell(own, runs.region(run), 8 + column * step, height / 2, step, height);
    }
  });
  pen.drawImage(picture, 0, 0, width, height);
}

// All runs, and which is chosen. `isHidden` says of which runs it is not shown what they did, and `known` differs
// whenever that does.
function drawMap(canvas, runs, state, isHidden, known, say) {
  const { pen, width, height } = prepared(canvas);
  const layout = mapLayout(canvas, runs);
  const picture = kept(['map', state.language, state.momentum, known], width, height, (own) => {
    drawCells(own, height, runs, state, isHidden, layout, say);
  });
  pen.drawImage(picture, 0, 0, width, height);
  pen.strokeStyle = colour('ink');
  pen.lineWidth = 2.5;
  pen.strokeRect(
    layout.x(state.rate) - layout.step / 2 - 1, layout.y(state.momentum) - layout.tall / 2, layout.step + 2, layout.tall,
  );
}

function drawCells(pen, height, runs, state, isHidden, { x, y, step, tall }, say) {
  pen.textBaseline = 'middle';
  for (let row = 0; row < runs.momenta.length; row += 1) {
    pen.fillStyle = colour('soft');
    pen.textAlign = 'right';
    if (runs.momenta[row] !== null) pen.fillText(brief(runs.momenta[row]), MAP.left - step / 2, y(row));
    for (let column = 0; column < runs.rates.length; column += 1) {
      const run = runs.index(column, row);
      if (isHidden(run)) {
        pen.strokeStyle = colour('line');
        pen.strokeRect(x(column) - step / 2 + 0.5, y(row) - tall / 2 + 0.5, Math.max(1, step - 1), tall - 1);
      } else {
        drawCell(pen, runs.region(run), x(column), y(row), step, tall);
      }
    }
    const bound = runs.about.bounds[row] === null ? NaN : runs.place(runs.about.bounds[row]);
    if (!Number.isNaN(bound) && !isHidden(runs.index(0, row))) {
      pen.strokeStyle = colour('ink');
      pen.lineWidth = 2;
      pen.setLineDash([3, 2]);
      line(pen, [[x(bound), y(row) - tall / 2], [x(bound), y(row) + tall / 2]]);
      pen.setLineDash([]);
    }
  }
  drawRegionNames(pen, runs, state, isHidden, x, step, say);
  pen.fillStyle = colour('soft');
  pen.strokeStyle = colour('soft');
  pen.lineWidth = 1;
  pen.textAlign = 'center';
  const [low, high] = [runs.rates[0], runs.rates[runs.rates.length - 1]].map(Math.log10);
  let free = 0;
  for (let power = Math.ceil(low - 1e-9); power <= high + 1e-9; power += 1) {
    const at = x(runs.place(Number(`1e${power}`)));
    if (Number.isNaN(at) || at < free) continue;
    line(pen, [[at, height - MAP.bottom], [at, height - MAP.bottom + 4]]);
    pen.fillText(brief(10 ** power), at, height - 9);
    free = at + 50;
  }
}

// The names of the regions along the chosen momentum, above the map.
function drawRegionNames(pen, runs, state, isHidden, x, step, say) {
  const names = say('regions');
  let from = 0;
  for (let column = 1; column <= runs.rates.length; column += 1) {
    const region = runs.region(runs.index(from, state.momentum));
    if (column < runs.rates.length && runs.region(runs.index(column, state.momentum)) === region) continue;
    const isKnown = !Array.from({ length: column - from }, (_, one) => runs.index(from + one, state.momentum)).some(isHidden);
    const [left, right] = [x(from) - step / 2, x(column - 1) + step / 2];
    if (isKnown) {
      pen.strokeStyle = colour('soft');
      pen.lineWidth = 1;
      line(pen, [[left + 1, MAP.top - 2], [left + 1, MAP.top - 6], [right - 1, MAP.top - 6], [right - 1, MAP.top - 2]]);
      pen.fillStyle = colour('ink');
      pen.textAlign = 'center';
      if (pen.measureText(names[region]).width < right - left) pen.fillText(names[region], (left + right) / 2, 8);
    }
    from = column;
  }
}
