from deploy import docs


def test_the_settings_page_is_what_make_docs_writes() -> None:
    assert docs.TARGET.read_text() == docs.text(), "run `make docs`"
