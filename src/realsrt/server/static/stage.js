// The viewer: before and after at the same place, by OpenSeadragon, with layers for confidence, marks and candidates.

import * as api from "./api.js";
import { CELL } from "./cells.js";

const STYLE = { showNavigationControl: false, drawer: "canvas", animationTime: 0.35, springStiffness: 9 };
const AT_REST = 1; // OpenSeadragon.SUBPIXEL_ROUNDING_OCCURRENCES.ONLY_AT_REST: no seams between tiles
const ZOOM = { maxZoomPixelRatio: 12, minZoomImageRatio: 0.15, visibilityRatio: 0.5, zoomPerScroll: 1.25 };
const GESTURES = { clickToZoom: false, dblClickToZoom: true, flickEnabled: true };

let loading = null;

function library() {
  // Loaded with the first picture, so that the page itself is there at once.
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "/page/vendor/openseadragon.min.js";
    script.onload = () => resolve(window.OpenSeadragon);
    script.onerror = () => reject(new Error("the viewer could not be loaded"));
    document.head.append(script);
  });
  return loading;
}

export class Stage extends EventTarget {
  // Sources: {key, url} of an image file, or {key, tiles, id, which} of tiles; `width` and `height` of the result place
  // candidates and marks.

  constructor(elements) {
    super();
    this.elements = elements; // {one, two, divider, before, after}
    this.mode = "slider";
    this.line = 0.5;
    this.held = false;
    this.strength = 1;
    this.tool = "move";
    this.brush = 36; // pixels of the screen, across
    this.shown = { before: null, after: null };
    this._layers = new Set(); // elements; what is `ofResult` lies on the result alone
    this._mask = null;
    this._outline = Object.assign(document.createElement("canvas"), { className: "layer outline" });
    this._items = new Map(); // viewer → {before, after, candidate}
    this._turn = 0;
    this._dividing();
  }

  async open(size, before, after) {
    // Show what is to be seen; what is there already stays. Keeps the place that is looked at while the size stays.
    const OSD = await library();
    this.OSD = OSD;
    this.one ??= this._make(this.elements.one);
    const turn = ++this._turn;
    const fresh = !this.size || this.size.key !== size.key;
    const ratio = size.height / size.width;
    this.size = { ...size, ratio };
    const jobs = [this._put(this.one, "before", before, turn)];
    if (this.mode === "beside") {
      this.two ??= this._make(this.elements.two);
      jobs.push(this._put(this.one, "after", null, turn), this._put(this.two, "after", after, turn));
    } else {
      if (this.two) jobs.push(this._put(this.two, "after", null, turn));
      jobs.push(this._put(this.one, "after", after, turn));
    }
    await Promise.all(jobs);
    if (turn !== this._turn) return;
    this.shown = { before, after };
    this._clear = after?.tiles?.suffix === ".webp";
    if (fresh) this.fit(true);
    this._redraw();
    for (const element of this._layers) this._place(element);
  }

  async _put(viewer, name, source, turn) {
    const items = this._items.get(viewer);
    if (items[name]?.key === (source?.key ?? null)) return;
    const old = items[name];
    if (!source) {
      delete items[name];
      if (old) viewer.world.removeItem(old.item);
      return;
    }
    const tileSource = source.url ? { type: "image", url: source.url, buildPyramid: false } : this._tiled(source);
    // Above all that is there once it is added: what is asked for together is not there yet.
    const index = name === "before" ? 0 : undefined;
    const place = source.box
      ? { x: source.box[0] / this.size.width, y: source.box[1] / this.size.width, width: (source.box[2] - source.box[0]) / this.size.width }
      : { x: 0, y: 0, width: 1 };
    const item = await new Promise((resolve) =>
      viewer.addTiledImage({
        tileSource, ...place, index, opacity: name === "after" ? this.strength : 1, success: (event) => resolve(event.item),
        error: () => resolve(null), preload: true,
      }),
    );
    if (!item) return;
    if (turn !== this._turn && name !== "candidate") {
      viewer.world.removeItem(item);
      return;
    }
    items[name] = { key: source.key, item, source };
    if (name === "after") this._clip();
    if (old) {
      // The old one stays below until the new one is drawn, so that nothing flickers.
      const drop = () => viewer.world.getIndexOfItem(old.item) >= 0 && viewer.world.removeItem(old.item);
      if (item.getFullyLoaded()) drop();
      else item.addOnceHandler("fully-loaded-change", drop);
      setTimeout(drop, 1500);
    }
  }

  _tiled({ id, which, tiles }) {
    return {
      width: tiles.width, height: tiles.height, tileSize: tiles.side, tileOverlap: 0, minLevel: 0,
      maxLevel: tiles.levels - 1, hasTransparency: () => tiles.suffix === ".webp",
      getTileUrl: (level, x, y) => api.tileUrl(id, which, level, x, y, tiles.suffix),
    };
  }

  _make(element) {
    const viewer = this.OSD({
      element, ...STYLE, ...ZOOM, prefixUrl: "", subPixelRoundingForTransparency: AT_REST, gestureSettingsMouse: GESTURES,
      gestureSettingsTouch: { ...GESTURES, pinchRotate: false }, gestureSettingsPen: GESTURES,
    });
    this._items.set(viewer, {});
    viewer.addHandler("update-viewport", () => this._clip());
    for (const kind of ["animation", "animation-finish"]) viewer.addHandler(kind, () => this._followed(viewer));
    viewer.addHandler("zoom", () => this._followed(viewer));
    viewer.addHandler("pan", () => this._followed(viewer));
    // Later than the event: the viewer then puts back the centre and zoom that it had.
    viewer.addHandler("after-resize", () => queueMicrotask(() => (this._fitted && this.size ? this.fit(true) : this._clip())));
    for (const kind of ["canvas-drag", "canvas-scroll", "canvas-pinch", "canvas-double-click"]) {
      viewer.addHandler(kind, () => (this._fitted = this._fitted && this.tool !== "move" && kind === "canvas-drag"));
    }
    viewer.addHandler("canvas-key", (event) => {
      // Its own keys would turn and mirror the picture, and take letters that mean something here.
      if (!["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "+", "=", "-", "_"].includes(event.originalEvent.key)) {
        event.preventDefaultAction = true;
      }
    });
    this._painting(viewer);
    viewer.canvas.setAttribute("role", "group");
    viewer.canvas.setAttribute("aria-label", "The picture: arrow keys move it, + and − zoom");
    return viewer;
  }

  _followed(viewer) {
    const other = viewer === this.one ? this.two : this.one;
    if (this.mode === "beside" && other && !this._leading) {
      this._leading = true;
      other.viewport.zoomTo(viewer.viewport.getZoom(), null, true);
      other.viewport.panTo(viewer.viewport.getCenter(), true);
      this._leading = false;
    }
    this.dispatchEvent(new Event("zoom"));
  }

  // ---- looking

  fit(immediately = false) {
    this._fitted = true; // and stays so when the stage changes its size
    this.one?.viewport.fitBounds(new this.OSD.Rect(0, 0, 1, this.size.ratio), immediately);
  }

  get zoom() {
    // Pixels of the screen for one of the result.
    if (!this.one || !this.size) return null;
    const wide = this.one.viewport.viewportToViewerElementRectangle(new this.OSD.Rect(0, 0, 1, 1), true).width;
    return (wide * devicePixelRatio) / this.size.width;
  }

  zoomTo(times) {
    this._fitted = false;
    const viewport = this.one.viewport;
    const now = (viewport.getContainerSize().x * viewport.getZoom() * devicePixelRatio) / this.size.width;
    viewport.zoomBy(times / now);
    viewport.applyConstraints();
  }

  zoomBy(factor) {
    this._fitted = false;
    this.one?.viewport.zoomBy(factor).applyConstraints();
  }

  setMode(mode) {
    this.mode = mode;
    this.elements.two.hidden = mode !== "beside";
    if (this.size) this.open(this.size, this.shown.before, this.shown.after).then(() => this._followed(this.one));
    this._clip();
  }

  setStrength(strength) {
    this.strength = strength;
    this._redraw();
  }

  hold(held) {
    this.held = held;
    this._redraw();
  }

  get _after() {
    // The viewer that shows the result.
    return this.mode === "beside" && this.two ? this.two : this.one;
  }

  async candidate(source) {
    // An image laid over the result at its box, or null.
    if (!this.one) return;
    const viewer = this._after;
    this._over = source;
    for (const other of this._items.keys()) {
      if (other !== viewer || !source) await this._put(other, "candidate", null, this._turn);
    }
    if (source) await this._put(viewer, "candidate", source, this._turn);
    this._redraw();
  }

  _redraw() {
    for (const [viewer, items] of this._items) {
      const hidden = this.held;
      // What shows through a result with transparency is not the picture before.
      const alone = this._clear && !hidden && this.mode === "result";
      if (viewer === this.one) items.before?.item.setOpacity(alone ? 1 - this.strength : 1);
      items.after?.item.setOpacity(hidden ? 0 : this.strength);
      items.candidate?.item.setOpacity(hidden ? 0 : this.strength);
    }
    this._clip();
  }

  _clip() {
    const { divider, before, after } = this.elements;
    const items = this.one && this._items.get(this.one);
    const compares = Boolean(items?.before && items?.after);
    const sliding = compares && this.mode === "slider" && !this.held;
    divider.hidden = !sliding;
    before.hidden = !(sliding || (this.mode === "beside" && this.shown.after) || (this.held && compares));
    after.hidden = !(sliding || (this.mode === "beside" && this.shown.after));
    after.style.left = "";
    if (items?.after) {
      const wide = this.one.container.clientWidth;
      if (sliding && wide) {
        divider.style.left = `${this.line * 100}%`;
        const place = this.one.viewport.viewerElementToViewportCoordinates(new this.OSD.Point(this.line * wide, 0)).x;
        for (const layer of [items.after, items.candidate]) layer && this._cut(layer, place);
        if (this._clear) this._cut(items.before, place, false);
        else items.before.item.setClip(null);
      } else {
        items.before?.item.setClip(null);
        items.after.item.setClip(null);
        items.candidate?.item.setClip(null);
      }
    }
    this._veil(this.held ? Infinity : sliding ? this.line * this.one.container.clientWidth : 0);
  }

  _cut({ item }, place, right = true) {
    // Leave what is right of a line of the viewport, or left of it.
    const { x: width, y: height } = item.getContentSize();
    const bounds = item.getBoundsNoRotate(true);
    const from = Math.max(0, Math.min(width - 1, ((place - bounds.x) / bounds.width) * width));
    const old = item.getClip();
    const clip = right ? new this.OSD.Rect(from, 0, width - from, height) : new this.OSD.Rect(0, 0, Math.max(1, from), height);
    if (!old || !old.equals(clip)) item.setClip(clip);
  }

  _dividing() {
    const { divider } = this.elements;
    const set = (line) => {
      this.line = Math.max(0, Math.min(1, line));
      divider.setAttribute("aria-valuenow", Math.round(this.line * 100));
      this._clip();
      this.one?.forceRedraw();
    };
    divider.addEventListener("pointerdown", (event) => divider.setPointerCapture(event.pointerId));
    divider.addEventListener("pointermove", (event) => {
      if (!divider.hasPointerCapture(event.pointerId)) return;
      const { left, width } = this.elements.one.getBoundingClientRect();
      set((event.clientX - left) / width);
    });
    divider.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.02, ArrowRight: 0.02, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      set(this.line + step);
    });
  }

  // ---- layers over the picture, of one canvas pixel a cell

  layer(element, on) {
    if (on) this._layers.add(element);
    else this._layers.delete(element);
    this._place(element);
    this._clip();
  }

  outline(mask) {
    // A line around a part of the result, a Mask, or none: null.
    if (this._mask === mask) return;
    this._mask = mask;
    this._clip();
  }

  _veil(from) {
    // What lies over the result is not over the picture before: nothing left of `from`, in pixels of the viewer.
    const viewer = this._after;
    const seen = viewer && this.size && from < viewer.container.clientWidth;
    if (!seen || !this._mask) this._outline.remove();
    if (!viewer || !this.size) return;
    const picture = viewer.viewport.viewportToViewerElementRectangle(new this.OSD.Rect(0, 0, 1, this.size.ratio), true);
    const cell = (CELL * picture.width) / this.size.width;
    for (const element of this._layers) {
      if (!element.ofResult) continue;
      const wide = Math.ceil(this.size.width / CELL) * cell;
      element.style.clipPath = `inset(0 0 0 ${Math.max(0, Math.min(100, (100 * (from - picture.x)) / wide))}%)`;
    }
    if (!seen || !this._mask) return;
    if (this._outline.parentElement !== viewer.canvas) viewer.canvas.append(this._outline);
    this._mask.draw(this._outline, { x: picture.x, y: picture.y, width: picture.width, height: picture.height, from }, cell);
  }

  _place(element) {
    const wanted = this._layers.has(element);
    const viewer = this._after;
    if (!viewer || !this.size) return;
    for (const other of [this.one, this.two]) {
      if (other && (other !== viewer || !wanted) && other.getOverlayById(element)) other.removeOverlay(element);
    }
    if (!wanted) {
      element.remove();
      return;
    }
    const columns = Math.ceil(this.size.width / CELL) * CELL;
    const rows = Math.ceil(this.size.height / CELL) * CELL;
    const location = element.place ?? new this.OSD.Rect(0, 0, columns / this.size.width, rows / this.size.width);
    if (viewer.getOverlayById(element)) viewer.updateOverlay(element, location);
    else viewer.addOverlay({ element, location });
  }

  // ---- painting: places in pixels of the result

  setTool(tool) {
    this.tool = tool;
    for (const view of [this.elements.one, this.elements.two]) view.classList.toggle("painting", tool !== "move");
  }

  get brushRadius() {
    return this.brush / 2 / ((this.zoom || 1) / devicePixelRatio);
  }

  _painting(viewer) {
    const at = (event) => {
      const point = viewer.viewport.viewerElementToViewportCoordinates(event.position);
      return { x: point.x * this.size.width, y: point.y * this.size.width };
    };
    let from = null;
    let last = null;
    const fingers = new Set(); // two of them zoom, whatever the tool
    viewer.container.addEventListener("pointerdown", (event) => {
      fingers.add(event.pointerId);
      if (fingers.size > 1 && from) {
        say("cancel", from);
        from = last = null;
      }
    }, true);
    for (const kind of ["pointerup", "pointercancel"]) addEventListener(kind, (event) => fingers.delete(event.pointerId), true);
    const say = (kind, place) =>
      this.dispatchEvent(new CustomEvent("paint", { detail: { kind, from: kind === "move" ? last : from, to: place, start: from } }));
    viewer.addHandler("canvas-press", (event) => {
      if (this.tool === "move" || fingers.size > 1) return;
      from = last = at(event);
      say("down", from);
    });
    viewer.addHandler("canvas-drag", (event) => {
      if (this.tool === "move" || !from) return;
      event.preventDefaultAction = true;
      const place = at(event);
      say("move", place);
      last = place;
    });
    viewer.addHandler("canvas-release", (event) => {
      if (this.tool === "move" || !from) return;
      say("up", at(event));
      from = last = null;
    });
    viewer.addHandler("canvas-drag-end", (event) => {
      if (this.tool !== "move") event.preventDefaultAction = true;
    });
    viewer.addHandler("canvas-double-click", (event) => {
      if (this.tool !== "move") event.preventDefaultAction = true;
    });
  }
}
