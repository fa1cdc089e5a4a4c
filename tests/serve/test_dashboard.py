"""The dashboard in a real browser: what a person sees, while managers answer, stay away, and come back."""

import re
import shutil

import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.serve.fakes import REGIONS, FakeBus, FakeControl, make_gateway, serving, view_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: install the package chromium"),
]


@pytest.fixture
async def browser():
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=QUIET)
        yield launched
        await launched.close()


@pytest.fixture
def control():
    return FakeControl()


@pytest.fixture
async def base(control):
    async with serving(make_gateway(FakeBus(), control), "/bus") as address:
        yield address


@pytest.fixture
async def page(browser, base):
    opened = await browser.new_page(viewport={"width": 1400, "height": 1000})
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    requests: list[str] = []
    opened.on("request", lambda request: requests.append(request.url))
    await opened.goto(f"{base}/")
    await expect(opened.locator("#status")).to_have_text("connected")
    yield opened
    assert [text for text in complaints if "503" not in text and "ERR_" not in text] == []
    assert [url for url in requests if not url.startswith((base, "data:"))] == []


async def test_a_person_sees_the_federation(page: Page):
    await expect(page).to_have_title("demo – fedbus")
    await expect(page.locator("#load")).to_have_text("3,702")
    await expect(page.locator("#published")).to_have_text("3,000,000")
    await expect(page.locator("#taking")).to_have_text("3")
    instances = page.get_by_role("table", name="Bus instances")
    row = instances.get_by_role("row").filter(has_text="aws.us-east-1/a1/4")
    await expect(row).to_contain_text("healthy")
    await expect(row).to_contain_text("1,234 / 2,000")
    await expect(row).to_contain_text("90 min ago")
    await expect(instances.locator("tbody tr")).to_have_count(6)


async def test_a_person_sees_where_the_regions_are_and_how_they_are_linked(page: Page):
    picture = page.get_by_role("img", name="Map of the regions")
    for region in REGIONS:
        await expect(picture).to_contain_text(region)
    await expect(picture.locator("circle.region")).to_have_count(3)
    await expect(picture.locator("path.link")).to_have_count(6)
    assert "onprem.berlin healthy, 1 instances" in (await picture.get_attribute("aria-label") or "")
    berlin, virginia = [await picture.locator("circle.region").nth(n).get_attribute("cx") for n in (0, 1)]
    assert float(berlin) > float(virginia)  # east is right


async def test_a_person_sees_load_forecast_and_capacity_of_each_region(page: Page):
    for region in REGIONS:
        chart = page.get_by_role("img", name=re.compile(f"^{region}: load "))
        await expect(chart).to_have_attribute("aria-label", re.compile("forecast peak 2,040, capacity 4,000"))
        await expect(chart.locator("canvas")).to_be_visible()
    await expect(page.locator("figcaption").first).to_contain_text("AutoARIMA+Fourier")
    await expect(page.locator("figcaption").first).to_contain_text("MASE 0.71")


async def test_a_person_sees_under_each_chart_why_there_is_so_much_capacity(page: Page):
    figure = page.locator('figure[data-region="onprem.berlin"]')
    await expect(figure.locator("p")).to_have_text(
        "2 small: the forecast needs 2,420 events/s at 13:00 · "
        "spring sale (coming, 12:20 to 12:50, up to 2,900: as 2 times before)"
    )
    decided = figure.get_by_role("list", name="Decisions for onprem.berlin, newest first").get_by_role("listitem")
    await expect(decided).to_have_count(2)
    await expect(decided.nth(0)).to_have_text(
        "11:58 create o1x forecast: 2,040 events/s expected at 13:00 (q0.95 2,420), 2,000 in service"
    )
    await expect(decided.nth(1)).to_have_text("10:30 drain o1w scale_in: 1 holds the load of the last 10 min")


async def test_a_chart_marks_decisions_and_triggers(page: Page, control, monkeypatch):
    painted = page.locator('figure[data-region="onprem.berlin"] canvas')
    marked = await painted.evaluate("canvas => canvas.toDataURL()")
    parts = view_of("onprem.berlin")
    parts["forecasts"][0] |= {"decisions": [], "triggers": []}
    monkeypatch.setattr("tests.serve.fakes.view_of", lambda region: parts)
    await expect(page.locator("figure")).to_have_count(1, timeout=15_000)
    await expect(page.locator('figure[data-region="onprem.berlin"] li')).to_have_count(0, timeout=15_000)
    assert await painted.evaluate("canvas => canvas.toDataURL()") != marked


async def test_a_person_sees_what_was_decided_and_why(page: Page):
    directives = page.get_by_role("table", name="Directives, newest first")
    row = directives.get_by_role("row").filter(has_text="onprem.berlin")
    await expect(row).to_contain_text("Mon 11:58 · 2 min ago")
    await expect(row).to_contain_text("create o1x (small)")
    await expect(row).to_contain_text("2,040 events/s expected at 13:00")
    await expect(row).to_contain_text("applying")


async def test_a_person_sees_that_a_manager_is_away_and_that_it_is_back(page: Page, control):
    control.away = {"aws.us-east-1"}
    await expect(page.locator("#status")).to_have_text(
        "stale: no news from the manager of aws.us-east-1", timeout=15_000
    )
    await expect(page.get_by_role("table", name="Bus instances")).to_contain_text("aws.us-east-1")
    control.away = set()
    await expect(page.locator("#status")).to_have_text("connected", timeout=15_000)


async def test_a_person_sees_that_the_gateway_does_not_answer(page: Page):
    await page.route("**/v1/**", lambda route: route.abort())
    await expect(page.locator("#status")).to_contain_text("disconnected, trying again", timeout=15_000)


async def test_the_api_is_documented_on_a_page_of_its_own(page: Page):
    await page.get_by_role("link", name="API").click()
    await expect(page.get_by_role("heading", name="POST /v1/topics/{topic}/events")).to_be_visible()
    await expect(page.get_by_role("heading", name="GET /v1/forecasts")).to_be_visible()
