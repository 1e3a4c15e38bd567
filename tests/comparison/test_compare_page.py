"""The comparison's page in a real browser: it draws, sorts, filters, fits, and runs no foreign text.

Skipped where there is no Chromium (``apt-get install chromium``; ``QC_CHROMIUM`` names another one).
``QC_PICTURES=DIR`` keeps screenshots.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
from helpers.browser import Browser, find_browser
from helpers.written_runs import add_rows, lock, write_run

from qc_experiments.comparison.study import compare
from qc_experiments.comparison.views.page import page_html

PROGRAM = find_browser()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium (apt-get install chromium)")

ATTACK = "</script><img src=x onerror=alert(1)><b>{}</b>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    made = Browser(str(PROGRAM), tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    """A sweep of 18 runs, three of them seeds, one group apart, and some that did not finish."""
    folder = tmp_path_factory.mktemp("sweep")
    chance = random.Random(1)
    for rank in (8, 16, 32):
        for rate in (1e-4, 1e-3):
            for seed in (1, 2) if rank < 32 else (1,):
                skill = 0.35 + 0.01 * rank + (0.15 if rate == 1e-3 else 0)
                bits = "".join("1" if chance.random() < skill else "0" for _ in range(60))
                name = f"smollm2-135m_shop_seq2seq_r{rank}_lr{rate:g}_s{seed}-0badcafe"
                asked = f"{ATTACK} Which items cost more, and how many of them are there in all?"
                figures = {"seconds_training": 100 + 9 * rank + 40 * chance.random()}
                figures["eval_loss"] = 1.2 - skill
                keys = {"lora__r": rank, "trainer__learning_rate": rate, "seed": seed}
                write_run(folder / name, bits, question=asked, result=figures, **keys)
    write_run(folder / "beams", "1" * 30 + "0" * 30, evaluation__num_beams=4)
    write_run(
        folder / "failed", status="failed", error="OutOfMemoryError: CUDA out of memory", lora__r=64
    )
    lock(write_run(folder / "at_work", status=None, lora__r=32, seed=2), os.getpid())
    (folder / "compare.html").write_text(page_html(compare([folder])), encoding="utf-8")
    return folder


def rows(browser: Browser, column: int) -> list[str]:
    cells = f"#runs tbody tr td:nth-child({column})"
    return browser.run(f"[...document.querySelectorAll({cells!r})].map((one) => one.textContent)")


def test_it_draws_without_an_error_or_a_request(browser, sweep):
    browser.open(sweep / "compare.html")
    assert browser.problems() == []
    assert [url for url in browser.requests() if not url.startswith(("file:", "data:"))] == []
    assert len(rows(browser, 2)) == 10
    for holder in ("parallel", "effects", "heat", "curves", "cost", "kinds"):
        marks = f"document.querySelectorAll('#{holder} svg :is(path, circle, rect)').length"
        assert browser.run(marks) > 2, holder
        assert browser.run(f"document.querySelectorAll('#{holder} svg title').length") > 0, holder
        assert "NaN" not in browser.run(f"document.querySelector('#{holder}').innerHTML"), holder
    counts = browser.run("document.querySelector('#counts').innerText").split("\n")
    assert [line.strip() for line in counts] == [
        "11 finished",
        "1 running",
        "0 paused",
        "1 failed",
        "0 interrupted",
    ]
    text = browser.run("document.querySelector('#unfinished').innerText")
    assert "OutOfMemoryError: CUDA out of memory" in text


def test_runs_that_rest_stand_best_first(browser, tmp_path):
    write_run(tmp_path / "done")
    for name, loss, step in (("a", 1.5, 2), ("b", 0.5, 2), ("c", 0.9, 4)):
        rests = {"steps": step, "objective": loss, "eval_loss": loss}
        write_run(tmp_path / name, status="paused", result=rests, lora__r=ord(name))
    (tmp_path / "compare.html").write_text(page_html(compare([tmp_path])), encoding="utf-8")
    browser.open(tmp_path / "compare.html")
    cells = "document.querySelectorAll('#unfinished tbody td:nth-child(2)')"
    assert browser.run(f"[...{cells}].map((one) => one.textContent)") == ["c", "b", "a"]


def test_runs_that_agree_are_not_shown_as_certain(browser, tmp_path):
    for seed in (1, 2):
        for rank in (8, 16):
            write_run(tmp_path / f"{rank}_{seed}", "0000000000", lora__r=rank, seed=seed)
    (tmp_path / "compare.html").write_text(page_html(compare([tmp_path])), encoding="utf-8")
    browser.open(tmp_path / "compare.html")
    texts = browser.run(
        "[...document.querySelectorAll('#effects title')].map((one) => one.textContent)"
    )
    of_rank = [text for text in texts if text.startswith("lora.r = ")]
    assert of_rank
    assert all("interval 0.0 % to 27.8 %" in text for text in of_rank), (
        of_rank
    )  # Wilson's for 0 of 10
    ticks = "[...document.querySelectorAll('#parallel svg text')].map((one) => one.textContent)"
    labels = browser.run(ticks)
    assert "accuracy, %" in labels
    assert not any(label.startswith(("-", "\u2212")) for label in labels), labels


def test_text_from_runs_stays_text(browser, sweep):
    browser.open(sweep / "compare.html")
    assert browser.run("document.querySelectorAll('img, #questions b').length") == 0
    asked = browser.run("document.querySelector('#questions .asked').textContent")
    assert asked.startswith("</script><img src=x onerror=alert(1)><b>")


def test_it_sorts_by_click_and_by_key(browser, sweep):
    browser.open(sweep / "compare.html")
    assert rows(browser, 2) == [str(place) for place in range(1, 11)]
    head = "[...document.querySelectorAll('#runs thead button')].find((one) => one.textContent === 'r')"
    browser.run(f"{head}.click()")
    assert rows(browser, 3) == ["8"] * 4 + ["16"] * 4 + ["32"] * 2
    assert browser.run(f"{head}.parentNode.getAttribute('aria-sort')") == "ascending"
    browser.run(f"{head}.focus()")
    browser.press("Enter")
    assert rows(browser, 3) == ["32"] * 2 + ["16"] * 4 + ["8"] * 4
    assert browser.run("document.activeElement.textContent") == "r"


def test_it_filters_by_text_and_by_value(browser, sweep):
    browser.open(sweep / "compare.html")
    box = "document.querySelector('#filter')"
    browser.run(f"{box}.value = 'r=16'; {box}.dispatchEvent(new Event('input'))")
    browser.wait("document.querySelectorAll('#runs tbody tr').length === 4")
    assert browser.run("document.querySelectorAll('#parallel path.run').length") == 4
    select = "document.querySelector('select[data-key=\"seed\"]')"
    browser.run(f"{select}.value = '2'; {select}.dispatchEvent(new Event('change'))")
    browser.wait("document.querySelectorAll('#runs tbody tr').length === 2")
    assert (
        browser.run("document.querySelector('#shown').textContent") == "2 of 10 finished runs shown"
    )
    browser.run(f"{box}.value = 'no such'; {box}.dispatchEvent(new Event('input'))")
    browser.wait("document.querySelectorAll('#runs tbody tr').length === 0")
    browser.run("document.querySelector('#clear').click()")
    browser.wait("document.querySelectorAll('#runs tbody tr').length === 10")
    assert browser.problems() == []


def test_groups_are_shown_apart(browser, sweep):
    browser.open(sweep / "compare.html")
    browser.run("document.querySelectorAll('#groups button')[1].click()")
    assert len(rows(browser, 2)) == 1
    remarks = browser.run("document.querySelector('#groups').innerText")
    assert "evaluation.num_beams=4" in remarks
    assert browser.problems() == []


def test_two_runs_are_compared(browser, sweep):
    browser.open(sweep / "compare.html")
    browser.run("document.querySelectorAll('#runs tbody tr')[9].querySelector('.pick.b').click()")
    assert "only A" in browser.run("document.querySelector('#two-summary').textContent")
    assert "lora.r" in browser.run("document.querySelector('#diff').innerText")
    shown = browser.run("document.querySelectorAll('#questions .question').length")
    assert shown > 5
    which = "document.querySelector('#which')"
    browser.run(f"{which}.value = 'neither'; {which}.dispatchEvent(new Event('change'))")
    text = browser.run("document.querySelector('#questions').innerText")
    assert "SELECT nam FROM item" in text
    assert "right" not in text.replace("right in", "")


def test_a_wrong_answer_opens_to_what_both_queries_return(browser, tmp_path):
    for name, rank in (("one", 8), ("two", 16)):
        write_run(tmp_path / name, "1110" if rank == 8 else "1100", lora__r=rank)
        add_rows(tmp_path / name, {4: (json.dumps([[ATTACK, 2]]), "")})
    (tmp_path / "compare.html").write_text(page_html(compare([tmp_path])), encoding="utf-8")
    browser.open(tmp_path / "compare.html")
    which = "document.querySelector('#which')"
    browser.run(f"{which}.value = 'neither'; {which}.dispatchEvent(new Event('change'))")
    opened = "document.querySelectorAll('#questions details')"
    assert browser.run(f"[...{opened}].map((one) => one.open)") == [False, False]
    text = browser.run(f"{opened}[0].textContent")
    assert f"{ATTACK} | 2" in text
    assert "(nothing: it failed)" in text
    assert browser.run("document.querySelectorAll('img').length") == 0
    assert browser.problems() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_the_window_in_both_themes(browser, sweep, tmp_path, width, scheme):
    browser.open(sweep / "compare.html", width, 900, scheme)
    inside = browser.run("document.documentElement.scrollWidth")
    assert inside <= width
    assert browser.problems() == []
    paper = browser.run("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 24, 29)")
    folder = Path(os.environ.get("QC_PICTURES", tmp_path))
    picture = browser.picture(folder / f"compare_{width}_{scheme}.png")
    assert picture.stat().st_size > 20_000


def test_the_keyboard_reaches_the_parts(browser, sweep):
    browser.open(sweep / "compare.html")
    reached = set()
    for _ in range(14):
        browser.press("Tab")
        reached.add(browser.run("document.activeElement.id || document.activeElement.className"))
    assert {"skip", "filter", "clear", "runs"} <= reached


def test_a_sweep_in_which_nothing_has_finished_draws(browser, tmp_path):
    lock(write_run(tmp_path / "a", status=None), os.getpid())
    write_run(tmp_path / "b", status="failed", error="ValueError: no", lora__r=8)
    page = tmp_path / "compare.html"
    page.write_text(page_html(compare([tmp_path])), encoding="utf-8")
    browser.open(page)
    assert browser.problems() == []
    assert "No run of this group has finished yet." in browser.run("document.body.innerText")


def test_runs_without_databases_draw_by_their_loss(browser, tmp_path):
    for rank in (8, 16):
        write_run(tmp_path / f"r{rank}", None, lora__r=rank, result={"eval_loss": 1 / rank})
    page = tmp_path / "compare.html"
    page.write_text(page_html(compare([tmp_path])), encoding="utf-8")
    browser.open(page)
    assert browser.problems() == []
    assert browser.run("document.querySelectorAll('#cost circle, #cost rect').length") == 2


def test_a_random_search_draws_each_run_as_a_point(browser, tmp_path):
    for number in range(30):
        bits = "1" * number + "0" * (30 - number)
        write_run(
            tmp_path / f"r{number}", bits, trainer__learning_rate=1e-5 * 1.3**number, seed=number
        )
    page = tmp_path / "compare.html"
    page.write_text(page_html(compare([tmp_path])), encoding="utf-8")
    browser.open(page)
    assert browser.problems() == []
    assert browser.run("document.querySelectorAll('#effects .dot').length") == 30
    assert "seed" not in browser.run("document.querySelector('#effects').innerText")
