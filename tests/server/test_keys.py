import pytest

from realsrt.errors import UsageError
from realsrt.server.keys import VARIABLE, Keys, load_keys

LONG = "0123456789abcdef"


def test_no_keys_let_everyone_in():
    assert not Keys()
    assert Keys().owner(None) == ""


def test_a_file_and_the_environment(tmp_path, monkeypatch):
    path = tmp_path / "keys"
    path.write_text(f"# ours\nanna {LONG}1\nanna {LONG}2\n\n{LONG}3\n")
    monkeypatch.setenv(VARIABLE, f"{LONG}4, {LONG}5")
    keys = load_keys(path)
    assert keys.owner(LONG + "1") == keys.owner(LONG + "2") == "anna"
    others = {keys.owner(LONG + number) for number in "345"}
    assert len(others) == 3
    assert None not in others
    for wrong in (None, "", LONG, LONG + "6", LONG + "1 ", "\udcff"):
        assert keys.owner(wrong) is None


@pytest.mark.parametrize("text, said", [("# none\n", "holds no key"), ("a b c\n", "3 words"), ("short\n", "shorter")])
def test_files_that_hold_no_keys(tmp_path, text, said):
    (tmp_path / "keys").write_text(text)
    with pytest.raises(UsageError, match=said):
        load_keys(tmp_path / "keys")


def test_a_missing_file(tmp_path):
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        load_keys(tmp_path / "none")
