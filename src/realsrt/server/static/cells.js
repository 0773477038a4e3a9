// Marks on the grid of cells, the squares of 8 × 8 pixels that confidence is known for and that are generated together.

export const CELL = 8;

export class Marks {
  constructor(width, height) {
    this.columns = Math.ceil(width / CELL);
    this.rows = Math.ceil(height / CELL);
    this.painted = new Uint8Array(this.columns * this.rows); // by hand: 1 marked, 2 taken away
    this.unsure = null; // what lies below the threshold
  }

  get(index) {
    if (this.painted[index]) return this.painted[index] === 1;
    return Boolean(this.unsure && this.unsure[index]);
  }

  clear() {
    this.painted.fill(0);
    this.unsure = null;
  }

  stroke(from, to, radius, value) {
    // A round brush in pixels of the result, from one place to another.
    const length = Math.hypot(to.x - from.x, to.y - from.y);
    const count = Math.max(1, Math.ceil(length / Math.max(CELL / 2, radius / 2)));
    for (let i = 0; i <= count; i++) {
      const x = from.x + ((to.x - from.x) * i) / count;
      const y = from.y + ((to.y - from.y) * i) / count;
      this.#each(x - radius, y - radius, x + radius, y + radius, (column, row, index) => {
        const nearX = Math.max(column * CELL, Math.min(x, (column + 1) * CELL));
        const nearY = Math.max(row * CELL, Math.min(y, (row + 1) * CELL));
        if (Math.hypot(nearX - x, nearY - y) <= radius) this.painted[index] = value;
      });
    }
  }

  box(a, b, value = 1) {
    this.#each(Math.min(a.x, b.x), Math.min(a.y, b.y), Math.max(a.x, b.x), Math.max(a.y, b.y), (_c, _r, index) => {
      this.painted[index] = value;
    });
  }

  below(confidence, limit) {
    // confidence: a byte for each cell.
    this.unsure = Uint8Array.from(confidence, (value) => Number(value < limit * 255));
  }

  runs() {
    // [row, first column, column after the last] of all that is marked.
    const found = [];
    for (let row = 0; row < this.rows; row++) {
      let first = -1;
      for (let column = 0; column <= this.columns; column++) {
        const on = column < this.columns && this.get(row * this.columns + column);
        if (on && first < 0) first = column;
        if (!on && first >= 0) {
          found.push([row, first, column]);
          first = -1;
        }
      }
    }
    return found;
  }

  bounds() {
    // The box around all that is marked, in pixels of the result.
    const runs = this.runs();
    const [rows, firsts, stops] = [0, 1, 2].map((i) => runs.map((run) => run[i]));
    const least = (list) => list.reduce((a, b) => Math.min(a, b));
    const most = (list) => list.reduce((a, b) => Math.max(a, b));
    return { x0: least(firsts) * CELL, y0: least(rows) * CELL, x1: most(stops) * CELL, y1: (most(rows) + 1) * CELL };
  }

  get any() {
    for (let i = 0; i < this.painted.length; i++) if (this.get(i)) return true;
    return false;
  }

  get count() {
    return this.painted.reduce((sum, _, i) => sum + Number(this.get(i)), 0);
  }

  draw(canvas, colour) {
    canvas.width = this.columns;
    canvas.height = this.rows;
    const context = canvas.getContext("2d");
    const image = context.createImageData(this.columns, this.rows);
    for (let i = 0; i < this.painted.length; i++) {
      if (this.get(i)) image.data.set(colour, 4 * i);
    }
    context.putImageData(image, 0, 0);
  }

  #each(x0, y0, x1, y1, visit) {
    const clamp = (value, most) => Math.max(0, Math.min(most, Math.floor(value / CELL)));
    if (x1 < 0 || y1 < 0 || x0 >= this.columns * CELL || y0 >= this.rows * CELL) return;
    for (let row = clamp(y0, this.rows - 1); row <= clamp(y1, this.rows - 1); row++) {
      for (let column = clamp(x0, this.columns - 1); column <= clamp(x1, this.columns - 1); column++) {
        visit(column, row, row * this.columns + column);
      }
    }
  }
}

const SEEN = 4; // pixels of the screen, at least, of the squares that a mask is drawn of

export class Mask {
  // A part of the result, of runs of cells as the service sends them.

  constructor(runs, width, height) {
    const columns = Math.ceil(width / CELL);
    const rows = Math.ceil(height / CELL);
    const values = new Uint8Array(columns * rows);
    for (const [row, first, stop] of runs) values.fill(255, row * columns + first, row * columns + stop);
    this._levels = [{ columns, rows, values }]; // each of squares twice as wide as the one before, of their mean
  }

  _level(level) {
    while (this._levels.length <= level) {
      const fine = this._levels.at(-1);
      const columns = Math.ceil(fine.columns / 2);
      const rows = Math.ceil(fine.rows / 2);
      const values = new Uint8Array(columns * rows);
      const at = (column, row) => fine.values[Math.min(row, fine.rows - 1) * fine.columns + Math.min(column, fine.columns - 1)];
      for (let i = 0; i < values.length; i++) {
        const [x, y] = [2 * (i % columns), 2 * Math.floor(i / columns)];
        values[i] = (at(x, y) + at(x + 1, y) + at(x, y + 1) + at(x + 1, y + 1)) / 4;
      }
      this._levels.push({ columns, rows, values });
    }
    return this._levels[level];
  }

  draw(canvas, { x, y, width, height, from }, cell) {
    // What lies outside is dimmed, and a line drawn around what does not, of rectangles: a stroked path takes far
    // longer. The picture's box and the side of a cell in pixels of the screen; nothing left of `from` is drawn on.
    const level = Math.max(0, Math.ceil(Math.log2(SEEN / cell)));
    const { columns, rows, values } = this._level(level);
    const ratio = devicePixelRatio;
    const side = cell * 2 ** level;
    const pixel = (start, index) => Math.round((start + index * side) * ratio);
    const seen = (start, end, most) => [Math.max(0, Math.floor(-start / side)), Math.min(most, Math.ceil((end - start) / side))];
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    const context = canvas.getContext("2d");
    context.beginPath();
    context.rect(Math.max(x, from) * ratio, y * ratio, (x + width - Math.max(x, from)) * ratio, height * ratio);
    context.clip();
    const [left, right] = seen(x, canvas.clientWidth, columns);
    const [top, bottom] = seen(y, canvas.clientHeight, rows);
    const inside = (column, row) => column >= 0 && column < columns && row >= 0 && row < rows && values[row * columns + column] > 127;
    const lines = [];
    context.fillStyle = "#0006";
    for (let row = top; row <= bottom; row++) {
      const above = pixel(y, row);
      const high = pixel(y, row + 1) - above;
      let first = null; // where what is dimmed begins
      for (let column = left; column <= right; column++) {
        const here = inside(column, row);
        const place = pixel(x, column);
        if (!here) first ??= place;
        if (first !== null && (here || column === right)) {
          context.fillRect(first, above, place - first, high);
          first = null;
        }
        if (here !== inside(column - 1, row)) lines.push([place, above, 0, high]);
        if (here !== inside(column, row - 1)) lines.push([place, above, pixel(x, column + 1) - place, 0]);
      }
    }
    for (const [colour, half] of [["#000", Math.round(2 * ratio)], ["#fff", Math.round(ratio)]]) {
      context.fillStyle = colour;
      for (const [place, above, wide, high] of lines) context.fillRect(place - half, above - half, wide + 2 * half, high + 2 * half);
    }
  }
}

// Matplotlib's magma, as in the figures of `realsrt visualize` and in style.css.
const STOPS = [
  [0, 0, 4],
  [81, 18, 124],
  [183, 55, 121],
  [252, 137, 97],
  [252, 253, 191],
];

export function colour(value) {
  // Of a confidence from 0 to 255: brighter is surer.
  const at = (value / 255) * (STOPS.length - 1);
  const low = Math.min(Math.floor(at), STOPS.length - 2);
  return STOPS[low].map((from, i) => Math.round(from + (STOPS[low + 1][i] - from) * (at - low)));
}

export async function confidenceOf(url) {
  // A byte for each cell, and the map as a coloured canvas.
  const image = await decoded(url);
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const data = context.getImageData(0, 0, canvas.width, canvas.height);
  const values = new Uint8Array(canvas.width * canvas.height);
  for (let i = 0; i < values.length; i++) {
    values[i] = data.data[4 * i];
    data.data.set(colour(values[i]), 4 * i);
  }
  context.putImageData(data, 0, 0);
  return { values, canvas };
}

export async function decoded(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

export async function difference(one, other) {
  // Of two images of one size, as the address of an image; the greatest difference is white.
  const [a, b] = await Promise.all([one, other].map(pixels));
  const canvas = document.createElement("canvas");
  canvas.width = a.width;
  canvas.height = a.height;
  let most = 1;
  for (let i = 0; i < a.data.length; i++) {
    a.data[i] = i % 4 === 3 ? 255 : Math.abs(a.data[i] - b.data[i]);
    if (i % 4 < 3) most = Math.max(most, a.data[i]);
  }
  for (let i = 0; i < a.data.length; i++) a.data[i] = i % 4 === 3 ? 255 : (a.data[i] * 255) / most;
  canvas.getContext("2d").putImageData(a, 0, 0);
  return new Promise((resolve) => canvas.toBlob((blob) => resolve(URL.createObjectURL(blob))));
}

async function pixels(url) {
  const image = await decoded(url);
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}
