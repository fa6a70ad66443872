"""The configuration: what a path is, and errors that name file, line and key."""

from pathlib import Path

import pytest

from ingest.config import Config, load, match_path, parse
from ingest.errors import ConfigError


@pytest.mark.parametrize(
    ("pattern", "path", "captured"),
    [
        ("{tool}/*.hsms", "/drop/ETCH01/0001.hsms", {"tool": "ETCH01"}),
        ("{tool}/*.hsms", "/drop/ETCH01/0001.hsms.zst", {"tool": "ETCH01"}),
        ("{tool}/*.hsms", "/drop/ETCH01/0001.csv", None),
        ("cmp/*.csv", "/a/cmp/x.csv.gz", {}),
        ("cmp/*.csv", "/a/cmp/deep/x.csv", None),
        ("cmp/**/*.csv", "/a/cmp/deep/er/x.csv", {}),
        ("cmp/**/*.csv", "/a/cmp/x.csv", {}),
        ("{lot}/wafer_{wafer}.csv", "/a/L7/wafer_12.csv", {"lot": "L7", "wafer": "12"}),
        ("{tool}_{chamber}/trace?.csv", "/x/E1_A/trace3.csv", {"tool": "E1", "chamber": "A"}),
    ],
)
def test_a_pattern_is_matched_against_the_last_segments(pattern, path, captured):
    assert match_path(pattern, Path(path)) == captured


def test_the_first_source_that_fits_wins():
    config = parse('[[sources]]\nmatch = "a/*.hsms"\nformat = "hsms"\n[[sources]]\nmatch = "{tool}/*.hsms"\nformat = "hsms"\n')
    assert config.match(Path("/a/1.hsms")).captured == {}
    assert config.match(Path("/b/1.hsms")).captured == {"tool": "b"}


def test_an_exact_tool_comes_before_a_glob():
    config = parse('[models.x]\n[models.y]\n[tools."E*"]\nmodel = "x"\n[tools.E1]\nmodel = "y"\n')
    assert config.model("E1") is config.models["y"]
    assert config.model("E2") is config.models["x"]
    assert config.model("Z") is None


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('[models.e.traces.7]\nchambr = "A"\n', 2, ["chambr", "unknown key", "did you mean 'chamber'"]),
        ('[table.cmp]\ntime = { column = "T" }\n', 1, ["table", "unknown key", "did you mean 'tables'"]),  # not a key of another section
        ('[models.e]\ntimezone = "Mars/Base"\n', 2, ["Mars/Base", "IANA"]),
        ('[tools.T]\nmodel = "none"\n', 1, ["there is no [models.none]"]),
        ('[[sources]]\nmatch = "{toool}/x"\nformat = "hsms"\n', 1, ["{toool}"]),
        ("[models.e.traces.7]\nperiod = -1\n", 2, ["period", "greater than 0"]),
    ],
)
def test_an_error_names_file_line_and_key(text, line, words):
    with pytest.raises(ConfigError) as caught:
        parse(text, "fab.toml")
    message = str(caught.value)
    assert message.startswith(f"fab.toml:{line}:"), message
    assert all(word in message for word in words), message


def test_broken_toml_and_missing_files_are_named(tmp_path):
    with pytest.raises(ConfigError, match="line 1"):
        parse("= 3", "fab.toml")
    with pytest.raises(ConfigError, match=r"none\.toml"):
        load(tmp_path / "none.toml")


def test_the_digest_is_of_the_content_and_not_of_the_text():
    assert parse("# hello\n").digest() == Config().digest()
    assert Config.model_validate_json(Config().canonical()) == Config()
