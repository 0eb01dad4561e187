// Drawing on canvases. Each function draws its whole figure anew.

const LEVELS_OF_CONTOURS = [0.01, 0.025, 0.05, 0.08, 0.14, 0.22, 0.31, 0.41, 0.52, 0.64, 0.77, 0.9];
const FONT = '12px system-ui, "Noto Sans", "Noto Sans CJK SC", sans-serif';
const FURTHEST = 1e5; // pixels; a canvas draws nothing with coordinates that are far larger
const PAD = { left: 56, right: 14, top: 12, bottom: 26 };

// The colours of the page's style, which differ between light and dark, and what was drawn with them.
const colours = new Map();
const drawn = new Map();

function colour(name) {
  if (!colours.has(name)) {
    colours.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  }
  return colours.get(name);
}

function forgetColours() {
  colours.clear();
  drawn.clear();
}

// A picture that is drawn once for each key and kept, with its pen scaled to the screen.
function kept(key, width, height, draw) {
  const ratio = window.devicePixelRatio || 1;
  const whole = [...key, width, height, ratio].join();
  if (!drawn.has(whole)) {
    if (drawn.size > 60) drawn.clear();
    const picture = document.createElement('canvas');
    [picture.width, picture.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    const pen = picture.getContext('2d');
    pen.scale(ratio, ratio);
    pen.font = FONT;
    draw(pen);
    drawn.set(whole, picture);
  }
  return drawn.get(whole);
}

// Sets a canvas to its size on the screen, and returns its context with that size.
function prepared(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext('2d');
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = FONT;
  pen.lineWidth = 1;
  return { pen, width, height };
}

// A number for an axis or a sentence.
function brief(value, digits = 4) {
  if (value === null || Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? '∞' : '−∞';
  if (value === 0) return '0';
  const size = Math.abs(value);
  const text = size >= 1e-4 && size < 1e6 ? String(Number(value.toPrecision(digits)))
    : value.toExponential(Math.max(0, digits - 1)).replace(/\.?0+e/, 'e').replace('e+', 'e');
  return text.replace('-', '−').replace('e−', 'e-');
}

// Round numbers between two ends.
function ticks(low, high, about) {
  const rough = (high - low) / about;
  const scale = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].find((factor) => factor * scale >= rough) * scale;
  const found = [];
  for (let place = Math.ceil(low / size); place * size <= high; place += 1) found.push(place * size);
  return found;
}

function line(pen, points) {
  let isDown = false;
  pen.beginPath();
  for (const [x, y] of points) {
    if (Number.isNaN(x) || Number.isNaN(y)) {
      isDown = false;
    } else {
      const place = [x, y].map((one) => Math.max(-FURTHEST, Math.min(FURTHEST, one)));
      if (isDown) pen.lineTo(...place);
      else pen.moveTo(...place);
      isDown = true;
    }
  }
  pen.stroke();
}

// Small dots, filled together, which is much faster than one by one.
function dots(pen, points, radius) {
  pen.beginPath();
  for (const [x, y] of points) {
    if (Math.abs(x) < FURTHEST && Math.abs(y) < FURTHEST) {
      pen.moveTo(x + radius, y);
      pen.arc(x, y, radius, 0, 2 * Math.PI);
    }
  }
  pen.fill();
}

function dot(pen, [x, y], radius, isHollow = false) {
  if (!(Math.abs(x) < FURTHEST && Math.abs(y) < FURTHEST)) return;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  if (isHollow) pen.stroke();
  else pen.fill();
}

function star(pen, [x, y], radius) {
  pen.beginPath();
  for (let corner = 0; corner < 10; corner += 1) {
    const [turn, size] = [(corner * Math.PI) / 5 - Math.PI / 2, corner % 2 ? radius * 0.45 : radius];
    pen.lineTo(x + size * Math.cos(turn), y + size * Math.sin(turn));
  }
  pen.closePath();
  pen.fill();
}

// Maps values to pixels inside the frame of a figure.
function scales(width, height, across, up) {
  return {
    x: (value) => PAD.left + ((value - across[0]) / (across[1] - across[0])) * (width - PAD.left - PAD.right),
    y: (value) => height - PAD.bottom - ((value - up[0]) / (up[1] - up[0])) * (height - PAD.top - PAD.bottom),
  };
}

function axes(pen, width, height, { x, y }, across, up, names) {
  pen.strokeStyle = colour('line');
  pen.fillStyle = colour('soft');
  pen.textBaseline = 'middle';
  pen.textAlign = 'right';
  for (const value of ticks(up[0], up[1], Math.max(2, height / 70))) {
    line(pen, [[PAD.left - 4, y(value)], [PAD.left, y(value)]]);
    pen.fillText(brief(value, 3), PAD.left - 7, y(value));
  }
  pen.textAlign = 'center';
  for (const value of ticks(across[0], across[1], Math.max(2, width / 100))) {
    line(pen, [[x(value), height - PAD.bottom], [x(value), height - PAD.bottom + 4]]);
    pen.fillText(brief(value, 3), Math.min(x(value), width - 18), height - 11);
  }
  pen.strokeRect(PAD.left, PAD.top, width - PAD.left - PAD.right, height - PAD.top - PAD.bottom);
  pen.textAlign = 'right';
  pen.fillText(names[0], width - PAD.right - 5, height - PAD.bottom - 9);
  pen.textAlign = 'left';
  pen.fillText(names[1], PAD.left + 6, PAD.top + 10);
}

// Lines along which the codes of a grid have a given value, by marching squares.
function contour(pen, codes, side, level, x, y) {
  const cut = [];
  for (let row = 0; row + 1 < side; row += 1) {
    for (let column = 0; column + 1 < side; column += 1) {
      const at = row * side + column;
      const [low, right, across, up] = [codes[at], codes[at + 1], codes[at + side + 1], codes[at + side]];
      const below = (low < level) + (right < level) + (across < level) + (up < level);
      if (below === 0 || below === 4 || Math.max(low, right, across, up) === 65535) continue;
      const corners = [[column, row, low], [column + 1, row, right], [column + 1, row + 1, across], [column, row + 1, up]];
      cut.length = 0;
      for (let edge = 0; edge < 4; edge += 1) {
        const [from, to] = [corners[edge], corners[(edge + 1) % 4]];
        if (from[2] < level !== to[2] < level) {
          const share = (level - from[2]) / (to[2] - from[2]);
          cut.push([x(from[0] + share * (to[0] - from[0])), y(from[1] + share * (to[1] - from[1]))]);
        }
      }
      for (let pair = 0; pair + 1 < cut.length; pair += 2) {
        pen.moveTo(...cut[pair]);
        pen.lineTo(...cut[pair + 1]);
      }
    }
  }
}

// Contours and shades of one level.
function drawLandscape(pen, level, width, height) {
  const side = Math.sqrt(level.values.length);
  const { x, y } = scales(width, height, [0, side - 1], [0, side - 1]);
  const shades = new ImageData(side, side);
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour('accent').slice(at, at + 2), 16));
  for (let row = 0; row < side; row += 1) {
    for (let column = 0; column < side; column += 1) {
      const code = level.values[row * side + column];
      const at = 4 * ((side - 1 - row) * side + column);
      shades.data.set([red, green, blue, code === 65535 ? 0 : 8 + (82 * code) / 65534], at);
    }
  }
  const small = document.createElement('canvas');
  [small.width, small.height] = [side, side];
  small.getContext('2d').putImageData(shades, 0, 0);
  pen.drawImage(small, PAD.left, PAD.top, width - PAD.left - PAD.right, height - PAD.top - PAD.bottom);
  const sorted = level.values.filter((code) => code !== 65535).sort();
  pen.strokeStyle = colour('soft');
  pen.globalAlpha = 0.55;
  pen.beginPath();
  for (const share of sorted.length === 0 ? [] : LEVELS_OF_CONTOURS) {
    contour(pen, level.values, side, sorted[Math.floor(share * (sorted.length - 1))] + 0.5, x, y);
  }
  pen.stroke();
}

// The smallest level whose box holds all these points, else the largest.
function levelOf(levels, points) {
  const holds = ({ box }) => points.every((point) => point.every((one, axis) => one >= box[axis][0] && one <= box[axis][1]));
  const found = levels.findIndex(holds);
  return found < 0 ? levels.length - 1 : found;
}

// The height of a curve at a place, NaN outside.
function heightAt({ box: [[low, high]], values }, place) {
  const at = ((place - low) / (high - low)) * (values.length - 1);
  if (!(at >= 0 && at <= values.length - 1)) return NaN;
  const left = Math.min(Math.floor(at), values.length - 2);
  return values[left] + (at - left) * (values[left + 1] - values[left]);
}

// The objective, and a run's path up to an entry; returns the level shown, and whether the path has left it.
function drawField(canvas, runs, run, slot, say) {
  const { pen, width, height } = prepared(canvas);
  const path = Array.from({ length: slot + 1 }, (_, one) => runs.weight(run, one));
  const shown = levelOf(runs.levels, path);
  const level = runs.levels[shown];
  const isCurve = runs.size === 1;
  const finite = isCurve ? level.values.filter(Number.isFinite) : [];
  let [low, high] = isCurve ? [finite.reduce((a, b) => Math.min(a, b), Infinity), finite.reduce((a, b) => Math.max(a, b), -Infinity)]
    : level.box[1];
  if (isCurve) [low, high] = high > low ? [low - 0.14 * (high - low), high + 0.04 * (high - low)] : [low - 1, low + 1];
  const up = [low, high];
  const scale = scales(width, height, level.box[0], up);
  const { x, y } = scale;
  if (!isCurve) {
    const picture = kept(['landscape', shown], width, height, (own) => drawLandscape(own, level, width, height));
    pen.drawImage(picture, 0, 0, width, height);
  }
  axes(pen, width, height, scale, level.box[0], up, isCurve ? [runs.about.names[0], say('lossName')] : runs.about.names);
  pen.save();
  pen.beginPath();
  pen.rect(PAD.left, PAD.top, width - PAD.left - PAD.right, height - PAD.top - PAD.bottom);
  pen.clip();
  const place = (point, one) => {
    if (!isCurve) return [x(point[0]), y(point[1])];
    const next = one < runs.end(run) && runs.step(run, one + 1) === runs.step(run, one) + 1 ? runs.loss(run, one + 1) : NaN;
    return [x(point[0]), y(Number.isNaN(next) ? heightAt(level, point[0]) : next)];
  };
  if (isCurve) {
    const [[from, to]] = level.box;
    pen.strokeStyle = colour('soft');
    pen.lineWidth = 1.5;
    line(pen, Array.from(level.values, (value, one) => [x(from + (one / (level.values.length - 1)) * (to - from)), y(value)]));
  }
  pen.fillStyle = colour('good');
  pen.textBaseline = 'middle';
  const minima = runs.about.minima.map((point) => [x(point[0]), y(isCurve ? heightAt(level, point[0]) : point[1])]);
  for (const at of minima) {
    star(pen, at, 8);
    if (runs.about.minima.length < 3) label(pen, say('minimum'), [at[0], isCurve ? at[1] + 26 : at[1]], width);
  }
  const places = path.map(place);
  pen.strokeStyle = colour('warn');
  pen.fillStyle = colour('warn');
  pen.lineWidth = 1.5;
  line(pen, places);
  dots(pen, places, 2);
  pen.lineWidth = 2;
  dot(pen, places[0], 6, true);
  const [[left, top]] = places;
  const isBeside = minima.some((at) => Math.abs(at[0] - left) < 80 && Math.abs(at[1] - top) < 20);
  label(pen, say('start'), places[0], isBeside ? 0 : width); // on the left side, where the right is taken
  dot(pen, places[slot], 6.5);
  pen.restore();
  const box = level.box.every(([from, to], axis) => path[slot][axis] >= from && path[slot][axis] <= to);
  return { level: shown, hasLeft: !box };
}

// A word beside a point, kept inside the figure.
function label(pen, text, [x, y], width) {
  const isRight = x + 14 + pen.measureText(text).width < width - PAD.right;
  pen.textAlign = isRight ? 'left' : 'right';
  pen.save();
  pen.strokeStyle = colour('back');
  pen.lineWidth = 3;
  const at = [x + (isRight ? 11 : -11), Math.max(y - 12, PAD.top + 10)];
  pen.strokeText(text, ...at);
  pen.fillStyle = colour('ink');
  pen.fillText(text, ...at);
  pen.restore();
}

// The powers of ten between which the losses of all runs are drawn; null where a logarithm does not fit.
function decades(runs) {
  const begin = runs.above(runs.about.start);
  if (!(begin > 0)) return null;
  const high = Math.ceil(Math.log10(begin)) + 1;
  let low = Infinity;
  for (let run = 0; run < runs.count; run += 1) {
    for (let slot = 1; slot <= runs.end(run); slot += 1) {
      const above = runs.above(runs.loss(run, slot));
      if (above > 0 && above < low) low = above;
    }
  }
  return [Math.max(Math.floor(Math.log10(low)), high - 16), high];
}

// The loss over the steps of a run, those up to an entry in a thick line.
function drawLoss(canvas, runs, run, slot, range, say) {
  const { pen, width, height } = prepared(canvas);
  const value = (one) => (range === null ? runs.loss(run, one) : Math.log10(Math.max(0, runs.above(runs.loss(run, one)))));
  const all = Array.from({ length: runs.end(run) + 1 }, (_, one) => (one === 0 ? NaN : value(one)));
  const finite = all.filter(Number.isFinite);
  const ends = range ?? [Math.min(...finite, runs.about.start), Math.max(...finite, runs.about.start)];
  const floor = range === null ? 0 : 18;
  const up = ends[1] > ends[0] ? ends : [ends[0] - 1, ends[0] + 1];
  const { x } = scales(width, height, [0, runs.about.total], up);
  const top = PAD.top + 18;
  const y = (one) => height - PAD.bottom - floor - ((one - up[0]) / (up[1] - up[0])) * (height - top - PAD.bottom - floor);
  pen.strokeStyle = colour('line');
  pen.fillStyle = colour('soft');
  pen.textBaseline = 'middle';
  pen.textAlign = 'right';
  const each = Math.max(1, Math.ceil((up[1] - up[0]) / Math.max(2, height / 40)));
  for (const tick of range === null ? ticks(up[0], up[1], height / 60) : ticks(up[0], up[1], (up[1] - up[0]) / each)) {
    line(pen, [[PAD.left, y(tick)], [width - PAD.right, y(tick)]]);
    pen.fillText(brief(range === null ? tick : Number(`1e${tick}`)), PAD.left - 7, y(tick));
  }
  if (range !== null) {
    pen.setLineDash([3, 3]);
    line(pen, [[PAD.left, height - PAD.bottom - 6], [width - PAD.right, height - PAD.bottom - 6]]);
    pen.setLineDash([]);
    pen.fillText(say('exact'), PAD.left - 7, height - PAD.bottom - 6);
  }
  pen.textAlign = 'center';
  for (const tick of ticks(0, runs.about.total, Math.max(2, width / 110)).filter(Number.isInteger)) {
    pen.fillText(tick.toLocaleString(), Math.min(x(tick), width - 20), height - 11);
  }
  pen.strokeRect(PAD.left, PAD.top, width - PAD.left - PAD.right, height - PAD.top - PAD.bottom);
  const place = (one) => {
    const raw = all[one];
    const at = raw === -Infinity ? height - PAD.bottom - 6 : y(Math.max(raw, up[0]));
    return [x(runs.step(run, one)), Number.isNaN(raw) ? NaN : at]; // beyond the top the line leaves the picture
  };
  const places = all.map((_, one) => place(one));
  pen.save();
  pen.beginPath();
  pen.rect(PAD.left, PAD.top, width - PAD.left - PAD.right, height - PAD.top - PAD.bottom);
  pen.clip();
  pen.strokeStyle = colour('accent');
  pen.globalAlpha = 0.45;
  line(pen, places);
  pen.globalAlpha = 1;
  pen.lineWidth = 2.5;
  line(pen, places.slice(0, slot + 1));
  pen.restore();
  pen.fillStyle = colour('warn');
  if (slot > 0) dot(pen, [places[slot][0], Math.max(places[slot][1], PAD.top + 5)], 6);
  if (runs.about.outcomes[run] === 'DIVERGED') {
    const [at] = places[runs.end(run)];
    const isLeft = at > width / 2;
    pen.textAlign = isLeft ? 'right' : 'left';
    pen.fillStyle = colour('warn');
    pen.fillText(`× ${say('infinite')}`, at + (isLeft ? -10 : 10), PAD.top + 10);
  }
}
