// The runs as typed arrays. `runner/learn/content.py` packs what this file unpacks.

// Numbers that were packed as what differs from the entry before, sorted by their bytes.
function unpackedSeries(packed, kind, kept) {
  const size = kind === 'f8' ? 8 : 4;
  const count = packed.length / size;
  const bytes = new Uint8Array(packed.length);
  for (let place = 0; place < size; place += 1) {
    const plane = packed.subarray(place * count, (place + 1) * count);
    let before = 0;
    for (let index = 0; index < count; index += 1) {
      if (index % kept === 0) before = 0;
      before ^= plane[index];
      bytes[index * size + place] = before;
    }
  }
  return kind === 'f8' ? new Float64Array(bytes.buffer) : new Float32Array(bytes.buffer);
}

// Codes of a grid, packed as what differs from the left neighbour.
function unpackedCodes(packed) {
  const side = Math.sqrt(packed.length);
  const codes = new Uint16Array(packed.length);
  for (let index = 0; index < packed.length; index += 1) {
    codes[index] = packed[index] + (index % side === 0 ? 0 : codes[index - 1]);
  }
  return codes;
}

const SLOW = 0;
const MONOTONE = 1;
const OSCILLATING = 2;
const DIVERGING = 3;

// Every run of the page; `about` holds what the page was given, as it was given.
class Runs {
  constructor(about) {
    this.about = about;
    this.rates = about.rates;
    this.momenta = about.momenta;
    this.count = about.rates.length * about.momenta.length;
    this.kept = about.steps.length;
    this.numbers = unpackedSeries(about.values, about.kind, this.kept);
    this.size = about.names.length; // coordinates that are shown
    this.levels = about.levels.map(({ box, values }) => ({
      box, values: this.size === 1 ? values : unpackedCodes(values),
    }));
    // The entries whose step before is kept too, so that its four moves can be shown.
    this.stops = [...about.steps.keys()].filter((slot) => slot === 0 || about.steps[slot - 1] === about.steps[slot] - 1);
  }

  index(rate, momentum) {
    return momentum * this.rates.length + rate;
  }

  number(part, run, slot) {
    return this.numbers[(part * this.count + run) * this.kept + slot];
  }

  weight(run, slot) {
    return Array.from({ length: this.size }, (_, axis) => this.number(axis, run, slot));
  }

  // Of the forward pass of the step, at the weight before it.
  loss(run, slot) {
    return this.number(this.size, run, slot);
  }

  gradient(run, slot) {
    return Array.from({ length: this.size }, (_, axis) => this.number(this.size + 1 + axis, run, slot));
  }

  // The learning rate of the step, which a schedule changes.
  rateAt(run, slot) {
    return this.about.varies ? this.number(2 * this.size + 1, run, slot) : this.rates[run % this.rates.length];
  }

  end(run) {
    return this.about.ends[run];
  }

  // The number of the step in an entry; a run that ended at a step that is not kept has its last two in the last ones.
  step(run, slot) {
    const end = this.end(run);
    if (slot >= end) return this.about.lasts[run];
    return slot === end - 1 ? this.about.lasts[run] - 1 : this.about.steps[slot];
  }

  region(run) {
    return this.about.regions[run];
  }

  // How far a loss is from the lowest one known.
  above(loss) {
    return this.about.maximizes ? this.about.lowest - loss : loss - this.about.lowest;
  }

  // Where a learning rate lies among those that were run, as a fractional index.
  place(rate) {
    const next = this.rates.findIndex((one) => one >= rate);
    if (next <= 0) return next === 0 && rate === this.rates[0] ? 0 : NaN;
    const [low, high] = [this.rates[next - 1], this.rates[next]];
    return next - 1 + Math.log(rate / low) / Math.log(high / low);
  }
}
