// Evaluated in each page: returns what is wrong with it, its number of equations and where its links lead.
(async () => {
  document.querySelectorAll("details").forEach((part) => (part.open = true));
  await document.fonts.ready;
  const wrong = [];
  const article = document.querySelector("article") || document.body;
  const right = article.getBoundingClientRect().right + 1;
  for (const picture of document.images) {
    if (!picture.complete || picture.naturalWidth === 0) wrong.push(`missing picture ${picture.src}`);
  }
  document.querySelectorAll(".katex-error").forEach((one) => wrong.push(`error in equation ${one.textContent}`));
  const equations = [...document.querySelectorAll(".katex-html")];
  for (const equation of equations) {
    const box = equation.getBoundingClientRect();
    const text = equation.parentElement.querySelector("annotation").textContent;
    if (box.height < 4) wrong.push(`equation without height: ${text}`);
    // The parts of an equation between two breaks. A table scrolls, so that what it holds may be wider.
    const parts = equation.closest(".table-wrapper") ? [] : [...equation.children];
    const widest = Math.max(0, ...parts.map((part) => part.getBoundingClientRect().right));
    if (widest > right) wrong.push(`equation wider than its column by ${Math.round(widest - right)}: ${text}`);
  }
  for (const font of document.fonts) if (font.status === "error") wrong.push(`font ${font.family} cannot be read`);
  const over = document.documentElement.scrollWidth - window.innerWidth;
  if (over > 1) wrong.push(`page wider than the window by ${over}`);
  const links = [...document.links].map((link) => link.href).filter((href) => href.startsWith("file:"));
  return { wrong, links, equations: equations.length };
})();
