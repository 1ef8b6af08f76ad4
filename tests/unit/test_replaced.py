"""A library's attribute is replaced for a while, and is then what it was."""

from __future__ import annotations

import pytest

from runner.lm.replaced import replaced


class Library:
    kind = "theirs"

    def said(self) -> str:
        return self.kind

    @staticmethod
    def plain() -> str:
        return "plain"


def test_it_is_theirs_again_afterwards_whatever_happened() -> None:
    library = Library()
    with pytest.raises(ZeroDivisionError), replaced(library, "said", lambda: "ours"):
        assert library.said() == "ours"
        raise ZeroDivisionError
    assert library.said() == "theirs"
    assert vars(library) == {}
    with replaced(Library, "plain", staticmethod(lambda: "ours")):
        assert library.plain() == "ours"
    assert Library.plain() == library.plain() == "plain"


def test_what_a_release_has_renamed_is_an_error() -> None:
    with pytest.raises(AttributeError, match="gone"), replaced(Library, "gone", None):
        pass
