"""The documentation says what the program does: commands and Python of pages and docstrings run."""

import doctest
import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nnguard
from pages import blocks_of, python_of, run_page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DIGITS = ROOT / "examples" / "digits"
TUTORIALS = [
    DOCS / "tutorials" / f"{role}.md" for role in ("vendor", "deployer", "seller", "customer")
]
HOW_TO = sorted((DOCS / "how-to").glob("*.md"))
"""Each is for the folder that the tutorials and `score.md` leave."""
TORCH = ["decompress", "evaluator", "importance", "load", "load_into", "save"]
MODULES = {"nnguard": "nnguard", "licensing": "nnguard.licensing", "np": "numpy", "torch": "torch"}
"""Names that the examples in docstrings take for granted."""
TYPED = [ROOT / "README.md", *TUTORIALS, *HOW_TO, DOCS / "faq.md"]

PUBLIC = [
    (module.__name__, name)
    for module in (nnguard, nnguard.licensing, nnguard.oms, nnguard.plotting)
    for name in module.__all__
    if callable(getattr(module, name))
] + [("nnguard.torch", name) for name in TORCH]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the tutorials leave, one after the other."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("tutorials")
    nnguard.decompress_to_file(DIGITS / "digits.nnc", folder / "model.safetensors")
    for name in ("weaker.nnc", "model.py", "digits_test.npz"):
        shutil.copy(DIGITS / name, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        for page in TUTORIALS:
            run_page(page, folder)
        run_page(DOCS / "how-to" / "score.md", folder)
    _make_shards(folder / "digits-hf")
    return folder


def _make_shards(folder: Path) -> None:
    """Lay the network out as the Hugging Face Hub does: shards, their index, side files."""
    folder.mkdir()
    arrays = nnguard.decompress(DIGITS / "digits.nnc")
    index: dict[str, str] = {}
    for number, part in enumerate([("conv", "bn"), ("fc",)], start=1):
        shard = f"model-0000{number}-of-00002.safetensors"
        tensors = {name: array for name, array in arrays.items() if name.startswith(part)}
        nnguard.decompress_to_file(nnguard.compress(tensors), folder / shard)
        index |= dict.fromkeys(tensors, shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "config.json").write_text('{"model_type": "digits"}')


def test_tutorials_run(finished: Path) -> None:
    assert (finished / "original.nnc").read_bytes() == (finished / "model.nnc").read_bytes()
    assert (finished / "full.nnc").read_bytes() == (finished / "release.nnc").read_bytes()


@pytest.mark.parametrize(
    "page", [page for page in HOW_TO if page.stem != "score"], ids=lambda page: page.stem
)
def test_how_to_pages_run(
    page: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    run_page(page, folder)


@pytest.fixture(scope="module")
def examples(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the examples in docstrings, which they share."""
    folder = tmp_path_factory.mktemp("examples") / "folder"
    shutil.copytree(finished, folder)
    key = nnguard.SigningKey.generate("p256")
    key.save(folder / "oms.key")
    key.public_key.save(folder / "oms.pub")
    release = nnguard.sign(nnguard.compress(folder / "digits-hf"), folder / "vendor.key")
    nnguard.oms.save(release, folder / "digits-release", folder / "model.sig", key)
    _open_shop(folder)
    _sell_copies(folder)
    return folder


def _open_shop(folder: Path) -> None:
    """Make a ledger with a product, an order, and a machine that has a seat of it."""
    nnguard.Identity.generate().save(folder / "shop.key")
    with nnguard.licensing.Ledger(folder / "shop.db") as ledger:
        issuer = nnguard.licensing.Issuer(ledger, folder / "vendor.key", folder / "shop.key")
        issuer.add_product(folder / "trial.nnc", folder / "content.key")
        order = issuer.order("digits", seats=2, customer="Ada")
        machine = nnguard.Identity.generate()
        request = nnguard.licensing.request(folder / "trial.nnc", machine, order=issuer.code(order))
        issuer.answer(request)


def _sell_copies(folder: Path) -> None:
    """Sell a traceable trial of a network that is large enough for that."""
    random = np.random.default_rng(0)
    weights, others = (random.normal(0, 0.05, size).astype(np.float32) for size in (40_000, 90_000))
    locked = nnguard.lock(
        nnguard.compress({"w": weights.reshape(200, 200)}, nnguard.Settings(dependent=False)),
        trial=nnguard.compress({"v": others.reshape(300, 300)}),
        traceable=True,
    )
    locked.trial.save(folder / "sold.nnc")
    locked.content_key.save(folder / "sold.key")
    with nnguard.licensing.Ledger(folder / "sold.db") as ledger:
        issuer = nnguard.licensing.Issuer(ledger, folder / "vendor.key")
        ada = nnguard.Identity.generate()
        terms = nnguard.licensing.Terms(customer="Ada")
        license_ = issuer.issue(locked.trial, locked.content_key, to=ada.recipient, terms=terms)
    license_.save(folder / "ada-copy.license")
    copy = nnguard.unlock(locked.trial, license_, ada, folder / "vendor.pub")
    copy.save(folder / "ada-copy.nnc")


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=lambda name: name)
def test_public_names_have_examples_that_run(
    module: str, name: str, examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(examples)
    names = {short: importlib.import_module(full) for short, full in MODULES.items()}
    documented = getattr(importlib.import_module(module), name)
    example = doctest.DocTestParser().get_doctest(documented.__doc__, names, name, None, None)
    assert example.examples, f"{module}.{name} has no example"
    printed: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    assert runner.run(example, out=printed.append).failed == 0, "".join(printed)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of all pages, as files, and the typed program."""
    folder = tmp_path_factory.mktemp("sources")
    shutil.copy(DIGITS / "model.py", folder)
    shutil.copy(ROOT / "tests" / "typing" / "api.py", folder)
    for page in TYPED:
        for name, source in python_of(page).items():
            (folder / name).write_text(source, encoding="utf-8")
    return folder


def test_examples_pass_mypy_in_strict_mode(sources: Path) -> None:
    pytest.importorskip("mypy")
    check = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file",
        str(ROOT / "pyproject.toml"),
    ]
    done = subprocess.run([*check, "."], cwd=sources, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_examples_pass_pyright_in_strict_mode(sources: Path) -> None:
    pytest.importorskip("pyright")
    settings = {"typeCheckingMode": "strict", "include": ["."]}
    (sources / "pyrightconfig.json").write_text(json.dumps(settings))
    check = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "-p", "."]
    done = subprocess.run(check, cwd=sources, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_tutorial_and_how_to_page_has_code() -> None:
    for page in [*TUTORIALS, *HOW_TO]:
        assert blocks_of(page), page


def test_every_attack_names_tests_that_exist() -> None:
    named = re.findall(
        r"`((?:tests|benchmarks|examples)/[\w/.]+)`", (DOCS / "THREATS.md").read_text()
    )
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
