"""The page in a real browser, on a real service: what its visitors see and do."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from energyws.auth.verifier import mint
from energyws.testing import SECRET, Broker, Records, Service, config, eventually, token
from tests.conftest import new_topic
from tests.dashboard.published import package
from tests.dashboard.scene import Household, chromium, visit
from tests.web.agent import ROOT, program

pytestmark = [pytest.mark.e2e, pytest.mark.edge]

PATIENCE_MS: Final = 30_000
TABS: Final = ("now", "proof", "inspector")
AXE: Final = (
    "axe-core",
    "4.14.1",
    "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
)
# Seconds: less than the hour that the page asks for, so that it gets every reading.
REACH: Final = 3300.0

expect.set_options(timeout=PATIENCE_MS)


class Visit:
    """A browser's visit to the page; whatever the page complains about makes the test fail."""

    def __init__(self, page: Page, service: Service) -> None:
        self.page = page
        self.address = f"http://127.0.0.1:{service.port}/"
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda said: self._heard(said.type, said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._asked(request.url))

    def _heard(self, kind: str, text: str) -> None:
        # The browser reports each socket that a killed worker takes along, and that a test reads
        # the chart's pixels.
        expected = "WebSocket connection" in text or text.startswith("Canvas2D")
        if kind in ("error", "warning") and not expected:
            self.complaints.append(text)

    def _asked(self, url: str) -> None:
        if urlsplit(url).netloc != urlsplit(self.address).netloc:
            self.complaints.append(f"a request to {url}")

    def open(self, given: str | None = None) -> None:
        """Open the page, with a token in the fragment."""
        self.page.goto(self.address + (f"#token={given}" if given else ""))

    def live(self) -> None:
        """Wait until it is live."""
        expect(self.page.locator("#pill[data-state=live]")).to_be_visible()

    def tab(self, name: str) -> None:
        self.page.click(f"#tab-{name}")
        expect(self.page.locator(f"#panel-{name}")).to_be_visible()

    def number(self, place: str) -> int:
        """The number that an element shows."""
        text = self.page.locator(place).text_content() or ""
        return int(text.replace(",", "") or -1)

    def until(self, condition: Callable[[], bool], awaited: str) -> None:
        """Wait for a condition on the page."""

        def held() -> bool:
            # The browser's events arrive only while it is asked something.
            self.page.wait_for_timeout(50)
            return condition()

        eventually(held, awaited)


@pytest.fixture(scope="module")
def household(broker: Broker) -> Iterator[Household]:
    program("chromium")
    with Household(
        broker.bootstrap, new_topic(broker), reach=REACH, past=10, interval=0.25
    ) as running:
        yield running


@pytest.fixture(scope="module")
def sensors(broker: Broker) -> str:
    """The topic of another stream, empty at first."""
    return new_topic(broker)


@pytest.fixture(scope="module")
def service(
    broker: Broker, household: Household, sensors: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    chosen = config(
        broker.bootstrap,
        household.topic,
        streams={
            "energy": {"topic": household.topic, "key": "/saveeyeDeviceSerialNumber"},
            "sensors": {"topic": sensors},
        },
        server={"dashboard": True},
        auth={"leeway_seconds": 0},
        supervision={"crash_loop_count": 50},
    )
    with Service(tmp_path_factory.mktemp("page"), chosen) as running:
        yield running.ready()
        print("\n".join(running.lines))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program("chromium")
    with chromium() as running:
        yield running


@pytest.fixture
def visitor(browser: Browser, service: Service) -> Iterator[Visit]:
    context = visit(browser)
    made = Visit(context.new_page(), service)
    yield made
    context.close()
    assert made.complaints == []


def assert_complete(visitor: Visit, household: Household) -> None:
    """Every reading that was written has come once."""
    with household.quiet() as written:
        visitor.until(lambda: visitor.number("#received") == written, f"{written} readings")
        assert (visitor.number("#missed"), visitor.number("#twice")) == (0, 0)


def test_page_shows_the_last_hour_and_live_values(visitor: Visit, household: Household) -> None:
    visitor.open(token())
    visitor.live()
    page = visitor.page
    for meter in household.meters:
        expect(page.locator("#meters")).to_contain_text(meter.serial)
    expect(page.locator("#hero .phase")).to_have_count(3)
    before = page.locator("#meters").text_content()
    visitor.until(lambda: page.locator("#meters").text_content() != before, "new values")
    visitor.tab("proof")
    assert_complete(visitor, household)


def test_chart_is_filled_from_its_left_edge(visitor: Visit) -> None:
    visitor.open(token())
    visitor.live()
    # The accent's pixels in the left tenth of the chart: readings of almost an hour ago.
    painted = """() => {
        const canvas = document.querySelector('#chart canvas');
        if (!canvas) return 0;
        const context = canvas.getContext('2d');
        const from = Math.round(canvas.width * 0.09);
        const { data } = context.getImageData(from, 0, canvas.width * 0.1, canvas.height);
        let found = 0;
        for (let i = 0; i < data.length; i += 4) {
            found += data[i + 3] > 200 && data[i] < 40 && data[i + 1] > 90 && data[i + 1] < 120;
        }
        return found;
    }"""
    visitor.until(lambda: visitor.page.evaluate(painted) > 20, "a line an hour ago")


def test_token_is_taken_from_the_field(visitor: Visit) -> None:
    visitor.open()
    page = visitor.page
    good = token()
    page.get_by_label("Token", exact=True).fill(good)
    page.get_by_role("button", name="Connect").click()
    visitor.live()
    assert page.get_by_label("Token", exact=True).is_hidden()
    expect(page.locator("#expiry")).to_contain_text("expires in 59 minutes")


def test_token_is_taken_from_a_function_of_the_host(visitor: Visit) -> None:
    visitor.page.add_init_script(f"globalThis.energywsToken = async () => '{token()}'")
    visitor.open()
    visitor.live()
    assert visitor.page.get_by_label("Token", exact=True).is_hidden()


def test_token_leaves_the_address_bar(visitor: Visit, service: Service) -> None:
    good = token()
    visitor.open(good)
    visitor.live()
    assert visitor.page.url == visitor.address
    visitor.page.reload()
    visitor.live()
    assert not service.logged(good)


def test_pulled_plug_costs_no_reading(visitor: Visit, household: Household) -> None:
    visitor.open(token())
    visitor.live()
    visitor.tab("proof")
    page = visitor.page
    page.select_option("#pull-seconds", "3")
    page.get_by_role("button", name="Pull the plug").click()
    expect(page.locator("#pill")).to_contain_text("Reconnecting")
    expect(page.locator("#p-state")).to_have_text("Cut off")
    expect(page.get_by_role("button", name="Plug it in now")).to_be_visible()
    expect(page.locator("#p-resumes")).to_have_text("1")
    visitor.live()
    expect(page.locator("#events")).to_contain_text("filled in")
    assert_complete(visitor, household)


def test_killed_worker_costs_no_reading(
    visitor: Visit, household: Household, service: Service
) -> None:
    visitor.open(token())
    visitor.live()
    visitor.tab("proof")
    page = visitor.page
    expect(page.locator("#p-pid")).to_contain_text("process")
    pid = int((page.locator("#p-pid").text_content() or "").split()[-1])
    assert pid in [child.pid for child in service.children().values()]
    os.kill(pid, signal.SIGKILL)
    expect(page.locator("#p-resumes")).to_have_text("1")
    visitor.live()
    expect(page.locator("#events")).to_contain_text("Now served by")
    assert_complete(visitor, household)
    service.ready()


def test_refusals_are_in_words(visitor: Visit) -> None:
    visitor.open(mint(SECRET, "late", 60, time.time() - 660))
    trouble = visitor.page.get_by_role("alert")
    expect(trouble.first).to_contain_text("Your token expired 10 minutes ago. Paste a fresh one")
    visitor.page.get_by_label("Token", exact=True).fill(token(streams=["gas"]))
    visitor.page.get_by_role("button", name="Connect").click()
    expect(trouble.first).to_contain_text("It allows: gas.")
    visitor.page.get_by_label("Streams", exact=True).first.fill("gas")
    visitor.page.get_by_label("Token", exact=True).fill(token())
    visitor.page.get_by_role("button", name="Connect").click()
    expect(trouble.first).to_contain_text("The service has no such stream.")
    visitor.page.get_by_label("Streams", exact=True).first.fill("energy")
    visitor.page.get_by_label("Token", exact=True).fill(token())
    visitor.page.get_by_role("button", name="Connect").click()
    visitor.live()
    expect(trouble.first).to_be_hidden()


def test_fresh_token_goes_on_where_the_last_one_ended(visitor: Visit, household: Household) -> None:
    visitor.open(token(seconds=3))
    visitor.live()
    expect(visitor.page.get_by_role("alert").first).to_contain_text("Your token expired")
    visitor.page.get_by_label("Token", exact=True).fill(token())
    visitor.page.get_by_role("button", name="Connect").click()
    visitor.live()
    visitor.tab("proof")
    assert_complete(visitor, household)


def test_one_meter_is_picked(visitor: Visit, household: Household) -> None:
    visitor.open(token())
    visitor.live()
    page = visitor.page
    serial = household.meters[0].serial
    expect(page.locator(f"#known option[value='{serial}']")).to_have_count(1)
    page.get_by_label("Only these keys").fill(serial)
    page.get_by_role("button", name="Show", exact=True).click()
    # One meter needs no list.
    expect(page.locator("#meters")).to_be_hidden()
    expect(page.locator("#hero .eyebrow")).to_have_text(serial)
    visitor.live()
    assert page.url == visitor.address
    page.get_by_label("Only these keys").fill("silent")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator("#hero")).to_have_text("No readings yet")
    visitor.live()
    page.get_by_label("Only these keys").fill("")
    page.get_by_role("button", name="Show", exact=True).click()
    for meter in household.meters:
        expect(page.locator("#meters")).to_contain_text(meter.serial)


def test_inspector_speaks_the_protocol(visitor: Visit) -> None:
    visitor.open(token())
    visitor.live()
    visitor.tab("inspector")
    page = visitor.page
    page.get_by_role("button", name="ping", exact=True).click()
    page.get_by_role("button", name="Send", exact=True).click()
    page.select_option("#w-which", "mine")
    expect(page.locator("#wire .in").first).to_contain_text('"type":"pong"')
    page.select_option("#s-begin", "last")
    page.locator("#s-value").fill("2")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator("#wire")).to_contain_text('"replayed":2')
    page.locator("#w-filter").fill("subscribed")
    expect(page.locator("#wire li")).to_have_count(1)
    page.locator("#wire summary").click()
    expect(page.locator("#wire pre")).to_contain_text('"recovered": true')
    expect(page.locator("#copy-text")).to_contain_text("?subscribe=energy&last=2'")
    assert "$TOKEN" in (page.locator("#copy-text").text_content() or "")
    page.locator("#s-text").fill("{not JSON")
    page.get_by_role("button", name="Send", exact=True).click()
    page.locator("#w-filter").fill("BAD_JSON")
    expect(page.locator("#wire li")).to_have_count(1)


def test_copies_run(visitor: Visit, tmp_path: Path) -> None:
    program("curl")
    shutil.copy(ROOT / "energyws" / "web" / "energyws.js", tmp_path)
    (tmp_path / "package.json").write_text('{"type":"module"}')
    visitor.open(token())
    visitor.live()
    visitor.tab("inspector")
    page = visitor.page
    page.select_option("#s-begin", "last")
    page.locator("#s-value").fill("1")
    commands = {
        "curl": ["bash"],
        "JavaScript": [program("node"), "--experimental-websocket"],
        "Python": [sys.executable, "-u"],
    }
    for name, command in commands.items():
        page.get_by_role("button", name=name, exact=True).click()
        copied = tmp_path / f"{name}.js"
        copied.write_text((page.locator("#copy-text").text_content() or "") + "\n")
        running = subprocess.Popen(
            [*command, copied],
            env={**os.environ, "TOKEN": token()},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # The shell's curl ends with it.
            start_new_session=True,
        )
        try:
            assert running.stdout is not None
            assert any("activeActualConsumption" in line for line in running.stdout), name
        finally:
            os.killpg(running.pid, signal.SIGKILL)
            running.communicate()


def test_files_come_once(service: Service) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    found = []
    for method, headers in (("GET", {}), ("HEAD", {}), ("GET", {"If-None-Match": "*"})):
        connection.request(method, "/", headers=headers)
        response = connection.getresponse()
        found.append((response.status, len(response.read()) > 0, response.headers["ETag"]))
    connection.close()
    tag = found[0][2]
    assert found == [(200, True, tag), (200, False, tag), (304, False, tag)]


def test_tabs_work_by_keyboard(visitor: Visit) -> None:
    visitor.open(token())
    visitor.live()
    page = visitor.page
    page.locator("#tab-now").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-proof")).to_be_focused()
    expect(page.locator("#panel-proof")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#panel-inspector")).to_be_visible()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
def test_page_is_accessible_and_fits(
    browser: Browser, service: Service, phone: bool, dark: bool
) -> None:
    axe = package(*AXE)["axe.min.js"].decode()
    context = visit(browser, phone=phone, dark=dark, reduced_motion="reduce")
    visitor = Visit(context.new_page(), service)
    visitor.open(token())
    visitor.live()
    page = visitor.page
    page.evaluate(axe)
    for tab in TABS:
        visitor.tab(tab)
        for details in page.locator(f"#panel-{tab} > details > summary").all():
            if details.is_visible():
                details.click()
        found = page.evaluate("axe.run({ resultTypes: ['violations'] })")
        grave = [
            (each["id"], [node["html"][:120] for node in each["nodes"]])
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
        ]
        assert grave == [], tab
        # No scrolling sideways.
        widths = "[document.documentElement.scrollWidth, innerWidth]"
        wide, room = page.evaluate(widths)
        assert wide <= room, tab
    context.close()
    assert visitor.complaints == []


def test_another_topic_is_shown_as_far_as_it_has_numbers(
    visitor: Visit, broker: Broker, sensors: str
) -> None:
    visitor.page.goto(f"{visitor.address}#token={token()}&streams=sensors")
    visitor.live()
    records = Records(broker.bootstrap, sensors)
    records.raw(b'{"note":"no number"}')
    records.flush()
    expect(visitor.page.locator("#raw pre")).to_contain_text('"note": "no number"')
    records.raw(b'{"sensor":"attic","temperature":21.5}')
    records.flush()
    expect(visitor.page.locator("#hero")).to_contain_text("attic")
    expect(visitor.page.locator("#hero .big")).to_have_text("21.5")
