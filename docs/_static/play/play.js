// The sliders and the charts of docs/play.md. Its numbers come from formulas.js alone.
"use strict";

(() => {
  const { exponential_curriculum, sigma_grid, lognormal_pmf, inverse_gap_weights, c_skip, c_out } = window.ictFormulas;
  const page = document.getElementById("play");
  const SLIDERS = [
    { name: "K", label: "K, the number of steps", min: 10000, max: 1000000, step: 10000, value: 400000 },
    { name: "share", label: "k, the step", min: 0, max: 1, step: 0.005, value: 0.4, shown: (v) => v.k.toLocaleString("en") },
    { name: "s0", label: "s₀, the first number of intervals", min: 2, max: 40, step: 1, value: 10 },
    { name: "s1", label: "s₁, the last number of intervals", min: 40, max: 1280, step: 20, value: 1280 },
    { name: "p_mean", label: "P_mean", min: -4, max: 2, step: 0.1, value: -1.1 },
    { name: "p_std", label: "P_std", min: 0.2, max: 4, step: 0.1, value: 2 },
    { name: "sigma_data", label: "σ_data", min: 0.1, max: 2, step: 0.05, value: 0.5 },
  ];
  const [WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP] = [360, 200, 46, 18, 34, 8];

  /** Return an element with attributes and children; those of a chart are of SVG. */
  function element(name, attributes, ...children) {
    const isOfChart = ["svg", "path", "line", "text", "circle"].includes(name);
    const made = isOfChart ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  const short = (value) => {
    const size = Math.abs(value);
    if (size >= 1e4 && size < 1e7) return `${Number((value / 1000).toPrecision(3))}k`;
    if (size !== 0 && (size < 0.001 || size >= 1e5)) return value.toExponential(0).replace("+", "");
    return String(Number(value.toPrecision(3)));
  };

  /** Return a scale from values to places, its ticks included; a logarithmic one has a tick for each power of ten. */
  function scale(values, [start, end], isLogarithmic) {
    const to = isLogarithmic ? Math.log10 : (value) => value;
    let [low, high] = [Math.min(...values), Math.max(...values)];
    if (!isLogarithmic) [low, high] = [Math.min(0, low), high > low ? high : low + 1];
    const place = (value) => start + ((to(value) - to(low)) / (to(high) - to(low) || 1)) * (end - start);
    const powers = [];
    for (let power = Math.ceil(to(low) - 1e-9); power <= to(high) + 1e-9; power += 1) powers.push(10 ** power);
    const every = Math.ceil(powers.length / 6);
    const ticks = isLogarithmic ? powers.filter((_, i) => i % every === 0) : [low, high > 10 ? Math.round((low + high) / 2) : (low + high) / 2, high];
    return { place, ticks };
  }

  /** Return a chart of lines, each a list of points; `marked` is a point that is set off. */
  function chart({ title, about, lines, x, y, marked }) {
    const points = lines.flatMap((line) => line.points);
    const across = scale(points.map((point) => point[0]), [LEFT, WIDTH - RIGHT], x.isLogarithmic);
    const up = scale(points.map((point) => point[1]), [HEIGHT - BOTTOM, TOP], y.isLogarithmic);
    const parts = [];
    for (const tick of across.ticks) {
      const at = across.place(tick);
      parts.push(element("line", { class: "rule", x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM }));
      parts.push(element("text", { x: at, y: HEIGHT - BOTTOM + 13, "text-anchor": "middle" }, short(tick)));
    }
    for (const tick of up.ticks) {
      const at = up.place(tick);
      parts.push(element("line", { class: "rule", x1: LEFT, x2: WIDTH - RIGHT, y1: at, y2: at }));
      parts.push(element("text", { x: LEFT - 5, y: at + 4, "text-anchor": "end" }, short(tick)));
    }
    parts.push(element("text", { x: (LEFT + WIDTH) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, x.label));
    lines.forEach((line, number) => {
      const path = line.points.map((point) => `${across.place(point[0]).toFixed(1)},${up.place(point[1]).toFixed(1)}`);
      parts.push(element("path", { class: `curve curve-${number}`, d: `M${path.join("L")}` }));
    });
    if (marked) parts.push(element("circle", { class: "mark", cx: across.place(marked[0]), cy: up.place(marked[1]), r: 5 }));
    const names = lines.filter((line) => line.name).map((line, i) => element("span", { class: `key key-${i}` }, line.name));
    const picture = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: ${about}` }, ...parts);
    return element("figure", {}, element("figcaption", {}, element("b", {}, title), ` ${about} `, ...names), picture);
  }

  /** Return all charts of the values of the sliders. */
  function charts(v) {
    const curriculum = { total_steps: v.K, s0: v.s0, s1: v.s1 };
    const n = exponential_curriculum({ step: v.k, ...curriculum });
    const sigmas = sigma_grid({ n });
    const p = lognormal_pmf({ sigmas, p_mean: v.p_mean, p_std: v.p_std });
    const weights = inverse_gap_weights({ sigmas });
    const steps = Array.from({ length: 401 }, (_, i) => Math.round((v.K * i) / 400));
    const fine = sigma_grid({ n: 200 });
    const likely = p.indexOf(Math.max(...p));
    const level = { label: "σ", isLogarithmic: true };
    const over = (values) => values.map((value, i) => [sigmas[i], value]);
    const along = (values) => values.map((value, i) => [fine[i], value]);
    return [
      chart({
        title: "N(k)", about: `${n} noise levels at step ${v.k.toLocaleString("en")}`, marked: [v.k, n],
        lines: [{ points: steps.map((step) => [step, exponential_curriculum({ step, ...curriculum })]) }],
        x: { label: "k" }, y: { isLogarithmic: true },
      }),
      chart({
        title: "σᵢ", about: `from ${short(sigmas[0])} to ${short(sigmas[n - 1])}`,
        lines: [{ points: sigmas.map((sigma, i) => [i + 1, sigma]) }], x: { label: "i" }, y: { isLogarithmic: true },
      }),
      chart({
        title: "p(i)", about: `most likely: interval ${likely + 1}, from σ = ${short(sigmas[likely])}`,
        lines: [{ points: over(p) }], x: level, y: {}, marked: [sigmas[likely], p[likely]],
      }),
      chart({
        title: "λ(σᵢ)", about: `from ${short(weights[n - 2])} to ${short(weights[0])}`,
        lines: [{ points: over(weights) }], x: level, y: { isLogarithmic: true },
      }),
      chart({
        title: "c_skip, c_out", about: "of the boundary condition", x: level, y: {},
        lines: [
          { name: "c_skip", points: along(c_skip({ sigma: fine, sigma_data: v.sigma_data })) },
          { name: "c_out", points: along(c_out({ sigma: fine, sigma_data: v.sigma_data })) },
        ],
      }),
    ];
  }

  const inputs = {};
  const outputs = {};
  const drawn = element("div", { class: "charts" });

  function draw() {
    const v = Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, Number(input.value)]));
    v.k = Math.round(v.share * v.K);
    for (const { name, shown } of SLIDERS) {
      const text = shown ? shown(v) : v[name].toLocaleString("en");
      outputs[name].textContent = text;
      inputs[name].setAttribute("aria-valuetext", text);
    }
    drawn.replaceChildren(...charts(v));
  }

  const controls = SLIDERS.map(({ name, label, shown, ...range }) => {
    inputs[name] = element("input", { type: "range", id: `play-${name}`, ...range });
    inputs[name].addEventListener("input", draw);
    outputs[name] = element("output", { for: `play-${name}` });
    return element("div", {}, element("label", { for: `play-${name}` }, label), outputs[name], inputs[name]);
  });
  const reset = element("button", { type: "button" }, "The paper's values");
  reset.addEventListener("click", () => {
    for (const { name, value } of SLIDERS) inputs[name].value = value;
    draw();
  });
  page.replaceChildren(element("div", { class: "controls" }, ...controls, reset), drawn);
  draw();
})();
