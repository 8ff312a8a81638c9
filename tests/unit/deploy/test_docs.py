from pathlib import Path

import pytest

from deploy import docs, texts


@pytest.mark.parametrize("name", docs.PAGES)
def test_the_page_is_what_make_docs_writes(name: str) -> None:
    assert (docs.FOLDER / name).read_text() == docs.PAGES[name](), "run `make docs`"


SOURCE = """
from skep import errors
from skep.errors import Forbidden

GONE = "gone {}"
NAMED = {"a": "no a", "b": "no b"}

def one(x): raise errors.NotFound(f"no {x} of {x.id}")
def two(x): raise errors.BadRequest(GONE.format(x))
def three(x): raise Forbidden("a" if x else None)
def four(x): raise errors.BadRequest(NAMED[x])
def five(x): return six(x, "passed")
def six(x, said): raise errors.Conflict(said)
def seven(): raise errors.Unavailable
"""


def source(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> list[texts.Text]:
    (folder / "raising.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(__import__("sys").modules, "raising", raising=False)
    return texts.of_source(folder / "raising.py", folder)


def test_texts_are_read_from_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted((text.kind, text.text) for text in source(tmp_path, SOURCE, monkeypatch)) == [
        ("BadRequest", "gone <…>"),
        ("BadRequest", "no a"),
        ("BadRequest", "no b"),
        ("Conflict", "passed"),
        ("Forbidden", "Access is denied"),
        ("Forbidden", "a"),
        ("NotFound", "no <x> of <…>"),
    ]


def test_a_text_that_can_not_be_told_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(texts.Unclear, match="raising:3: made"):
        source(tmp_path, "from skep import errors\ndef one(made):\n    raise errors.NotFound(made())\n", monkeypatch)
