// Has Lighthouse judge the page as its users meet it: signed out, and with the list. It prints the
// scores and the figures as JSON, and what is less than perfect.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [, , modules, chromium, service] = process.argv;
const installed = createRequire(`${modules}/`);
const load = (name) => import(pathToFileURL(installed.resolve(name)).href);
const { default: lighthouse, desktopConfig } = await load("lighthouse");
const { default: puppeteer } = await load("puppeteer-core");

const browser = await puppeteer.launch({
  executablePath: chromium,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

/**
 * signIn signs in as soon as the form is there: tokens are in the page's memory alone, and
 * Lighthouse loads it anew.
 */
const signIn = () => {
  const seen = new MutationObserver(() => {
    const name = document.getElementById("name");
    if (!name) return;
    seen.disconnect();
    name.value = "lena";
    name.form.requestSubmit();
  });
  seen.observe(document, { childList: true, subtree: true });
};

const figures = ["first-contentful-paint", "largest-contentful-paint", "total-blocking-time", "cumulative-layout-shift", "speed-index", "total-byte-weight"];

async function measure(what, config, before) {
  const page = await browser.newPage();
  if (before) await page.evaluateOnNewDocument(before);
  const { lhr } = await lighthouse(service, { logLevel: "silent", output: "json" }, config, page);
  const ended = await page.$eval("main", (main) => main.querySelector("h1").textContent + (main.querySelector("li.row") ? ", with rows" : ""));
  await page.close();
  return {
    what,
    ended,
    failed: lhr.runtimeError?.message ?? "",
    scores: Object.fromEntries(Object.values(lhr.categories).map(({ id, score }) => [id, Math.round(score * 100)])),
    figures: Object.fromEntries(figures.map((id) => [id, lhr.audits[id].displayValue])),
    saves: Object.values(lhr.audits).flatMap(({ id, metricSavings }) => Object.entries(metricSavings ?? {}).filter(([, ms]) => ms > 0).map(([metric, ms]) => `${id}: ${ms} of ${metric}`)),
    wanting: Object.values(lhr.categories).flatMap(({ auditRefs }) =>
      auditRefs.filter(({ id, weight }) => weight > 0 && lhr.audits[id].score !== null && lhr.audits[id].score < 1).map(({ id }) => `${id}: ${lhr.audits[id].title}`)),
  };
}

try {
  // The list is that of every day: what a third party takes to make a key is none of the page's
  // time.
  const { access_token } = await (await fetch(`${service}/local/token`, { method: "POST", body: JSON.stringify({ sub: "lena" }) })).json();
  await fetch(`${service}/credentials`, { headers: { authorization: `Bearer ${access_token}` } });
  const all = [];
  for (const [device, config] of [["phone", undefined], ["desktop", desktopConfig]]) {
    all.push(await measure(`sign-in, ${device}`, config));
    all.push(await measure(`list, ${device}`, config, signIn));
  }
  console.log(JSON.stringify(all));
} finally {
  await browser.close();
}
