"""How pages look and feel in a real browser: for people who see little, or use keys, or a phone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

import chromium
import nnguard
import shop as shops
from nnguard.licensing import Device

SHEET = Path(nnguard.__file__).parent / "_server" / "pages" / "assets" / "style.css"
SCHEMES = ("light", "dark")
TEXT, EDGE = 4.5, 3.0  # WCAG 2.2, 1.4.3 and 1.4.11
ON_GROUND = ("ink", "muted", "accent", "danger", "good", "warn")
PAIRS = [
    *((ink, ground, TEXT) for ink in ON_GROUND for ground in ("ground", "sheet")),
    *((ink, "sunk", TEXT) for ink in ("ink", "muted")),
    *((ink, f"{ink}-ground", TEXT) for ink in ("good", "warn", "danger")),
    *(("ink", f"{kind}-ground", TEXT) for kind in ("good", "warn", "danger")),
    ("on-accent", "accent", TEXT),
    ("on-danger", "danger", TEXT),
    *(("edge", ground, EDGE) for ground in ("ground", "sheet")),
]


def colors_of(scheme: str) -> dict[str, str]:
    """Return the colors of the style sheet, by name."""
    light, dark = re.findall(r":root \{(.*?)\}", SHEET.read_text(), re.DOTALL)
    found = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", light))
    darker = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", dark))
    assert found.keys() == darker.keys()
    return found if scheme == "light" else darker


def luminance(color: str) -> float:
    """Return the relative luminance of a color, as WCAG defines it."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_colors_can_be_told_apart(scheme: str) -> None:
    colors = colors_of(scheme)
    for one, other, least in PAIRS:
        low, high = sorted((luminance(colors[one]), luminance(colors[other])))
        assert (high + 0.05) / (low + 0.05) >= least, (one, other)


def test_every_color_has_a_name() -> None:
    """So that the test above knows them all."""
    sheet = re.sub(r":root \{.*?\}", "", SHEET.read_text(), flags=re.DOTALL)
    assert not re.findall(r"#[0-9a-fA-F]{3,8}\b|rgba?\(|hsla?\(", sheet)


Open = Callable[..., chromium.Page]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[shops.Shop]:
    """One of its own, with few orders: what is checked takes longer the more there is."""
    with shops.opened(str(tmp_path_factory.mktemp("looks") / "ledger.db")) as shop:
        yield shop


@pytest.fixture(scope="module")
def ids(shop: shops.Shop) -> dict[str, str]:
    """An order that has some of everything."""
    order = shop.order(customer="Example GmbH", seats=4, reference="looks")
    product = shop.ledger.product("small")
    machine = nnguard.licensing.Request.make(
        nnguard.Identity.generate(),
        stream=product.stream,
        lock=product.lock,
        order=shop.issuer.code(order),
        device=Device.of_values([("host", "render-01"), ("machine-id", "4711"), ("disk", "0815")]),
    )
    shop.issuer.answer(machine)
    for name in ("Laptop of Ada", "render-02"):
        shop.issuer.grant(order, nnguard.Identity.generate().recipient, name=name)
    first, _, last = shop.ledger.seats(order.id)
    shop.issuer.take_back(last.id, reason="It broke")
    return {"order": order.id, "seat": first.id, "license": first.license_id}


@pytest.fixture
def visit(shop: shops.Shop, browser: chromium.Browser, ids: dict[str, str]) -> Iterator[Open]:
    """Return what opens a page as somebody who may see it."""
    contexts: list[chromium.BrowserContext] = []

    def visit(path: str, *, role: str = "", **options: object) -> chromium.Page:
        context = browser.new_context(base_url=shop.server.url, **options)  # type: ignore[arg-type]
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        if role:
            page.goto("/desk/login")
            page.fill("#secret", shop.secrets[role])
            page.click("main button")
        elif path.startswith("/order"):
            page.goto("/")
            page.fill("#code", shop.issuer.code(ids["order"]))
            page.click("main button")
        page.goto(path.format(**ids))
        return page

    yield visit
    for context in contexts:
        context.close()


CUSTOMER = ["/", "/order", "/order?done=license&seat={seat}", "/order/seats/{seat}/give-back"]
SUPPORT = [
    "/desk/orders",
    "/desk/orders/new",
    "/desk/orders/{order}?done=made",
    "/desk/orders/{order}/cancel",
    "/desk/seats/{seat}/take-back",
    "/desk/licenses",
    "/desk/licenses/{license}/revoke",
    "/desk/activity",
]
AUDITOR = ["/desk/audit?check=yes", "/desk/orders/new"]
VISITS = [("", CUSTOMER), ("", ["/desk/login"]), ("support", SUPPORT), ("auditor", AUDITOR)]
WIDE = {"width": 1100, "height": 800}
PHONE = {"width": 360, "height": 740}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_pages_are_accessible(visit: Open, ids: dict[str, str], scheme: str) -> None:
    """axe-core finds nothing: labels, headings, landmarks, names; in the dark, contrast."""
    options = {} if scheme == "light" else {"runOnly": ["color-contrast"]}
    axe = Axe()
    for role, paths in VISITS:
        page = visit(paths[0], role=role, viewport=WIDE, color_scheme=scheme)
        for path in paths:
            page.goto(path.format(**ids))
            unfold(page)
            found = axe.run(page, options=options)
            assert found.violations_count == 0, f"{path}\n{found.generate_report()}"


def test_pages_fit_a_phone(visit: Open, ids: dict[str, str]) -> None:
    for role, paths in VISITS:
        page = visit(paths[0], role=role, viewport=PHONE)
        for path in paths:
            page.goto(path.format(**ids))
            unfold(page)
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width == PHONE["width"], path


@pytest.mark.parametrize("width", [PHONE["width"], 1280])
def test_long_names_fit(visit: Open, shop: shops.Shop, width: int) -> None:
    name = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 2
    order = shop.order(customer=name, reference=f"cs_live_{width}_" + "b1" * 40)
    page = visit("/desk/orders", role="support", viewport={"width": width, "height": 800})
    for path in ("/desk/orders", f"/desk/orders/{order.id}"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") == width, path
        parts = "[...document.querySelectorAll('.cards')].map(each => each.scrollWidth)"
        assert max(page.evaluate(parts), default=0) <= width, path


def unfold(page: chromium.Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")


def test_errors_are_accessible(visit: Open) -> None:
    page = visit("/order")
    page.click("summary")
    page.fill("#key", "no key")
    page.fill("#name", "laptop")
    page.click("details button")
    assert Axe().run(page).violations_count == 0
    key = page.locator("#key")
    assert key.get_attribute("aria-invalid") == "true"
    told = (key.get_attribute("aria-describedby") or "").split()
    assert [page.locator(f"#{name}").count() for name in told] == [1, 1]
    assert page.title().startswith("Error: ")
    assert page.evaluate("document.activeElement.getAttribute('role')") == "alert"


@pytest.mark.parametrize(("path", "role"), [("/order", ""), ("/desk/orders/{order}", "support")])
def test_keys_reach_everything_and_show_where_they_are(visit: Open, path: str, role: str) -> None:
    page = visit(path, role=role)
    wanted = page.evaluate(
        "[...document.querySelectorAll('a[href], button, summary, select, textarea,"
        " input:not([type=hidden])')].filter(each => each.checkVisibility()).length"
    )
    reached: set[str] = set()
    for _ in range(3 * wanted):
        page.keyboard.press("Tab")
        at, outline = page.evaluate(
            "() => { const each = document.activeElement, style = getComputedStyle(each);"
            " return [each === document.body ? '' : each.outerHTML,"
            " style.outlineStyle + ' ' + style.outlineWidth] }"
        )
        if at in reached or not at:
            break
        assert outline == "solid 3px", at
        reached.add(at)
    assert sum(not html.startswith(("<pre", "<div")) for html in reached) == wanted
    assert any('class="skip"' in html for html in reached)


def test_the_skip_link_skips(visit: Open) -> None:
    page = visit("/desk/orders", role="support")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "New order"


def test_nothing_runs_and_nothing_comes_from_elsewhere(
    shop: shops.Shop, visit: Open, ids: dict[str, str]
) -> None:
    for role, paths in VISITS:
        page = visit(paths[0], role=role)
        told: list[str] = []
        page.on("console", lambda message: told.append(message.text))  # noqa: B023
        page.on("request", lambda request: told.append(request.url))  # noqa: B023
        for path in paths:
            answer = page.goto(path.format(**ids))
            assert answer is not None
            assert answer.headers["content-security-policy"] == (
                "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
                "frame-ancestors 'none'; base-uri 'none'"
            )
            assert answer.headers["cache-control"] == "no-store"
            assert "<script" not in page.content()
            assert page.locator("[style], [onclick], iframe").count() == 0
        strange = [
            text
            for text in told
            if not text.startswith(shop.server.url) and "403 (Forbidden)" not in text
        ]
        assert strange == []


def test_a_script_that_gets_in_does_not_run(visit: Open) -> None:
    """Even then the policy holds: an inline script, a handler and a style do nothing."""
    page = visit("/")
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.set_content(page.content().replace("<h1>", "<script>document.title = 'x'</script><h1>"))
    page.goto("/")
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend',"
        " `<img src=x onerror=\"document.title = 'x'\"><p style='color: red'>`)"
    )
    page.wait_for_timeout(50)
    assert page.title() == "Your order"
    assert any("Content Security Policy" in text for text in refused)
