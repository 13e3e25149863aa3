import tomllib

import pytest

from kennel.errors import KennelError
from kennel_cli.settings_file import write_settings


def test_a_new_file_holds_the_values_in_their_order(tmp_path):
    write_settings(tmp_path / "kennel.toml", {"region": "eu-west-1", "bucket": "dogs"})
    assert (tmp_path / "kennel.toml").read_text() == 'region = "eu-west-1"\nbucket = "dogs"\n'
    assert [file.name for file in tmp_path.iterdir()] == ["kennel.toml"]


def test_other_keys_comments_and_tables_stay_as_they_are(tmp_path):
    file = tmp_path / "kennel.toml"
    file.write_text('# ours\nprefix = "a"   # short\nbucket = "old" # why\n\n[tags] # on all\nteam = "vision"\n')
    write_settings(file, {"bucket": "new", "role": "arn:aws:iam::1:role/x"})
    changed = file.read_text()
    assert changed.startswith('# ours\nprefix = "a"   # short\nbucket = "new" # why\n')
    assert changed.endswith('[tags] # on all\nteam = "vision"\n')
    assert tomllib.loads(changed) == {
        "prefix": "a",
        "bucket": "new",
        "role": "arn:aws:iam::1:role/x",
        "tags": {"team": "vision"},
    }


def test_the_same_values_again_change_nothing(tmp_path):
    file = tmp_path / "kennel.toml"
    file.write_text('[tags]\nteam = "vision"\n')
    write_settings(file, {"bucket": "dogs"})
    first = file.read_bytes()
    write_settings(file, {"bucket": "dogs"})
    assert file.read_bytes() == first


def test_a_value_with_quotes_and_backslashes_comes_back(tmp_path):
    write_settings(tmp_path / "kennel.toml", {"role": 'a"b\\c'})
    assert tomllib.loads((tmp_path / "kennel.toml").read_text()) == {"role": 'a"b\\c'}


def test_what_is_not_toml_is_refused_and_left(tmp_path):
    file = tmp_path / "kennel.toml"
    file.write_text("bucket: dogs\n")
    with pytest.raises(KennelError, match=r"kennel\.toml is not TOML \(.*\); mend it, or move it away"):
        write_settings(file, {"bucket": "dogs"})
    assert file.read_text() == "bucket: dogs\n"
