// node look.js PAGE.html CHROMIUM FOLDER [pictures | =TITLE]: looks at a page at three widths, light and dark.
// With a title it makes one picture, of the sections whose titles begin so, below each other: section.png.
// Otherwise prints one JSON list: per look the violations that axe-core finds, console messages, requests, sizes,
// and what a reader's pointer and keys do; printed.pdf is the page on paper, with a mark at both ends of each card.
const fs = require("fs");
const path = require("path");
const puppeteer = require("puppeteer-core");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const [page, chromium, pictures, only] = process.argv.slice(2);
const address = "file://" + path.resolve(page);

async function look(browser, width, scheme) {
  const tab = await browser.newPage();
  const messages = [], requests = [];
  tab.on("console", (m) => messages.push(`${m.type()}: ${m.text()}`));
  tab.on("pageerror", (e) => messages.push(`error: ${e}`));
  tab.on("request", (r) => requests.push(r.url()));
  await tab.setViewport({ width, height: 900 });
  await tab.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await tab.goto(address, { waitUntil: "load", timeout: 120000 });
  const overflow = await tab.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  const whole = await tab.evaluate(() => document.documentElement.scrollHeight);
  if (only) {
    const file = path.join(pictures, `${width}-${scheme}.png`);
    const clip = { x: 0, y: 0, width, height: Math.min(9000, whole) };
    await tab.screenshot({ path: file, clip, captureBeyondViewport: true });
    return tab.close();
  }
  // What is folded is looked at too; of the runs, which are all alike, the first ones.
  await tab.evaluate(() => document.querySelectorAll("details:not(.run)").forEach((d) => (d.open = true)));
  await tab.evaluate(() => [...document.querySelectorAll("details.run")].slice(0, 3).forEach((d) => (d.open = true)));
  await tab.evaluate(axe);
  const found = await tab.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  const violations = found.violations.map((v) => `${v.id}: ${v.nodes.length}x ${v.nodes[0].html.slice(0, 200)}`);
  await tab.evaluate(() => document.querySelectorAll("details").forEach((d) => (d.open = false)));
  const link = await tab.evaluate(() => {
    const to = document.querySelector('.runs a[href^="#"]');
    if (!to) return null;
    to.click();
    return to.getAttribute("href").slice(1);
  });
  await new Promise((done) => setTimeout(done, 100));
  const opened = link && (await tab.evaluate((id) => document.getElementById(id).closest("details").open, link));
  // The pointer and the keys do the same in either scheme.
  const used = scheme === "light" ? await use(tab) : {};
  await tab.close();
  return { width, scheme, overflow, height: whole, ...used, violations, messages, requests: requests.filter((r) => r !== address && !r.startsWith("data:")), opened };
}

// What the page's own script does, with a real pointer and real keys.
async function use(tab) {
  const count = (what) => tab.evaluate((q) => [...document.querySelectorAll(q)].filter((e) => e.getClientRects().length).length, what);
  const texts = (what) => tab.evaluate((q) => [...document.querySelectorAll(q)].map((e) => e.textContent), what);
  // The sticky toolbar must not lie over what is clicked.
  const see = (what) => tab.evaluate((q) => document.querySelector(q).scrollIntoView({ block: "center", behavior: "instant" }), what);
  const click = async (what) => (await see(what), tab.click(what));
  const type = async (text) => {
    await see("input[type=search]");
    await tab.click("input[type=search]", { count: 3 });
    await tab.keyboard.press("Backspace");
    await tab.keyboard.type(text);
  };
  const shown = "[data-state]:not([hidden])";
  await type("detr-5scale p4-train");
  const runs = await count(shown);
  await type("swinl default");
  const rows = await count(".heat tbody tr");
  await type("");
  await tab.select(".toolbar select", "failed");
  const failed = (await count(shown)) && (await texts(shown + " .name"));
  await tab.select(".toolbar select", "");
  const restored = (await texts(shown)).length;

  // On a phone tables are cards, which have no heads to sort by.
  const card = await tab.evaluate(() => getComputedStyle(document.querySelector(".heat tbody tr")).display);
  await tab.evaluate(() => document.querySelectorAll("details.shown").forEach((d) => (d.open = true)));
  const column = async () => (await texts("table.ap:first-of-type tbody td:nth-child(2)")).map((text) => parseFloat(text.match(/[\d.]+/)));
  const ap = await tab.evaluate(() => document.querySelector("table.ap").closest("details").querySelectorAll("tbody tr").length);
  const sorted = [];
  if (card !== "grid" && ap > 1)
    for (let i = 0; i < 3; i++) {
      await click("table.ap th:nth-child(2) button.sort");
      sorted.push((await column()).slice(0, ap));
    }

  // Values under the pointer, a larger picture, and means in place of the loss.
  const chart = "#curves ~ .group svg.chart";
  await see(chart);
  const size = () => tab.evaluate((q) => document.querySelector(q).getBoundingClientRect().width, chart);
  const small = await size();
  await tab.hover(chart);
  const tip = await tab.evaluate(() => document.querySelector(".tip:not([hidden])")?.textContent ?? "");
  await click(chart);
  const large = await size();
  await click(chart);
  const again = await size();
  const lines = () => tab.evaluate((q) => ["raw", "smooth"].map((c) => getComputedStyle(document.querySelector(`${q} .line.${c}`)).display), chart);
  const smooth = [await lines()];
  for (let i = 0; i < 2; i++) {
    await click("#smooth");
    smooth.push(await lines());
  }

  // A command that is copied.
  const [command] = await texts("code.command");
  await click("button.copy");
  await tab.waitForFunction(() => document.querySelector("button.copy").textContent !== "copy");
  const [said] = await texts("button.copy");
  const copied = await tab.evaluate(() => navigator.clipboard.readText());
  return { filtered: { runs, rows, failed, restored }, card, sorted, tip, zoom: [small, large, again], smooth, copy: { command, said, copied } };
}

// The page on paper. A pair of marks that lies on two sheets is a card that a page break cuts.
async function printed(browser) {
  const tab = await browser.newPage();
  await tab.goto(address, { waitUntil: "load" });
  await tab.evaluate(() => {
    const cards = [...document.querySelectorAll(".tile, .cause, .findings li, figure, .missing li, p.run, .run > summary, tbody tr")];
    cards.filter((e) => !e.closest("details:not(.shown, .phase, .run)")).forEach((card, i) => {
      for (const [side, place] of [["top", "begin"], ["bottom", "end"]]) {
        const mark = document.createElement("span");
        mark.style.cssText = `position:absolute;left:0;${side}:0;font-size:1px;line-height:1;letter-spacing:0`;
        mark.textContent = `${place}${i}.`;
        (card.tagName === "TR" ? card.cells[0] : card).append(mark);
        (card.tagName === "TR" ? card.cells[0] : card).style.position = "relative";
      }
    });
  });
  await tab.pdf({ path: path.join(pictures, "printed.pdf"), format: "A4", preferCSSPageSize: true });
  await tab.close();
}

// The first sheet, as it is printed on A4 at 96 dots per inch.
async function print(browser) {
  const tab = await browser.newPage();
  await tab.setViewport({ width: 794, height: 1123 });
  await tab.emulateMediaType("print");
  await tab.goto(address, { waitUntil: "load" });
  await tab.screenshot({ path: path.join(pictures, "print.png") });
  await tab.close();
}

// The sections of a title as a wide light window shows them.
async function sections(browser, title) {
  const tab = await browser.newPage();
  await tab.setViewport({ width: 1100, height: 100 });
  await tab.goto(address, { waitUntil: "load" });
  await tab.evaluate((begin) => {
    const kept = (section) => section.querySelector("h2").textContent.startsWith(begin);
    document.querySelectorAll("header, footer, .toolbar").forEach((e) => e.remove());
    const differ = document.querySelector(".extremes");
    document.querySelectorAll("main > section").forEach((e) => kept(e) || e.remove());
    if (differ && begin === "Detections") document.querySelector("#main").prepend(differ);
  }, title);
  await tab.screenshot({ path: path.join(pictures, "section.png"), fullPage: true });
  await tab.close();
}

(async () => {
  const browser = await puppeteer.launch({
    executablePath: chromium,
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * 127.0.0.1:9"],
  });
  await browser.defaultBrowserContext().overridePermissions("file://", ["clipboard-read", "clipboard-sanitized-write"]);
  try {
    if (only?.startsWith("=")) return await sections(browser, only.slice(1));
    const looks = [];
    for (const width of [360, 768, 1280])
      for (const scheme of ["light", "dark"]) looks.push(await look(browser, width, scheme));
    await (only ? print : printed)(browser);
    console.log(JSON.stringify(looks, null, 1));
  } finally {
    await browser.close();
  }
})();
